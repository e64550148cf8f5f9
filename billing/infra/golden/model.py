"""Deterministic models for testing meters: real llama graphs whose weights give every token exactly one successor.

A chat answer is ``<think>``, the reasoning tokens, ``</think>``, the answer tokens and the end token, at any
temperature, whatever the prompt: 1 + 20 + 1 + 30 + 1 = 53 completion tokens for :data:`GOLDEN`. The vocabulary is
trained on ``training_text.txt`` beside this file, so token counts are the same on every Python.

How one successor is forced. Every token of the chain has a coordinate of its own in the embedding, and the output
matrix maps that coordinate to the next token's logit. All other tokens share coordinate 0, which leads to
``<think>``. Attention and feed-forward layers do their full work, and their last projections are zero, so they
add exactly nothing. The right logit is more than 40 and all others are 0: no temperature in use changes the choice.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import gguf
import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from billing.errors import Misconfigured

_HERE = Path(__file__).parent
TRAINING_TEXT = _HERE / "training_text.txt"
CHAT_TEMPLATE = _HERE / "chat_template.jinja"

START_OF_TEXT, START_OF_MESSAGE, END_OF_MESSAGE = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (START_OF_TEXT, START_OF_MESSAGE, END_OF_MESSAGE)
THINK, END_OF_THINK = "<think>", "</think>"

CONTEXT_TOKENS_MAX = 32768
HEADS = 4
HEADS_KEY_VALUE = 1
"""One pair of keys and values for all heads keeps the memory of a long context small."""
NORM_EPSILON = 1e-5
SUCCESSOR_GAIN = 6.0
"""Weight from a chain token's coordinate to its successor; the logit is this times the root of the width, or less."""
DETAIL_COORDINATES_MIN = 16
"""Coordinates left over for telling tokens outside the chain apart, which is what embeddings are made of."""
DETAIL_SCALE = 0.5
"""Length of a token's detail beside the shared coordinate, whose length is 1."""
NOISE_SCALE = 0.05

Weights = NDArray[np.float16]


class ModelSpec(msgspec.Struct, frozen=True):
    """What a model is built from; equal specs give equal bytes.

    ``width`` is the embedding's length in coordinates, ``layers`` and ``width`` together set the time per token.
    """

    name: str
    layers: int
    width: int
    reasoning_tokens: int = 20
    answer_tokens: int = 30
    vocabulary_size: int = 1024

    @property
    def completion_tokens(self) -> int:
        """Tokens of one whole chat answer: both think marks and the end token are counted, as every engine does."""
        return 1 + self.reasoning_tokens + 1 + self.answer_tokens + 1

    @property
    def direct_completion_tokens(self) -> int:
        """Tokens of one chat answer when ``enable_thinking`` is false: the answer and the end token."""
        return self.answer_tokens + 1


GOLDEN = ModelSpec(name="golden", layers=2, width=128)
"""53 completion tokens, 20 of them reasoning, in a few milliseconds."""

SLOW = ModelSpec(name="slow", layers=22, width=384, reasoning_tokens=100, answer_tokens=247)
"""350 completion tokens, 100 of them reasoning, in about two seconds on one thread."""


def model_path(directory: Path, spec: ModelSpec) -> Path:
    """The model file of a spec inside a directory, built when it is missing; the directory is made when needed.

    The file's name holds a digest of everything the model is made of, so a stale file is never taken for a new one.
    """
    path = directory / f"{spec.name}-{_digest(spec)}.gguf"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        build_model(path, spec)
    return path


def tokenizer_path(model: Path) -> Path:
    """Where a model's vocabulary lies in the form that HF ``tokenizers`` and ``fastokens`` load."""
    return model.with_suffix(".tokenizer.json")


def build_model(path: Path, spec: ModelSpec) -> None:
    """Write the GGUF file of a spec and, before it, its tokenizer file; each appears whole or not at all.

    Raises ``Misconfigured`` when the spec contradicts itself.
    """
    _check(spec)
    tokenizer = _trained_tokenizer(spec)
    _replace(tokenizer_path(path), lambda target: target.write_text(tokenizer.to_str(), encoding="utf-8"))
    _replace(path, lambda target: _write_gguf(target, spec, tokenizer))


def _check(spec: ModelSpec) -> None:
    coordinates_min = spec.completion_tokens + DETAIL_COORDINATES_MIN
    if spec.width < coordinates_min:
        raise Misconfigured(
            f"model {spec.name}: width {spec.width} is below {coordinates_min}, its answer needs more"
        )
    if spec.width % (2 * HEADS):
        raise Misconfigured(f"model {spec.name}: width {spec.width} is not a multiple of {2 * HEADS}")


def _digest(spec: ModelSpec) -> str:
    """16 hex digits over the spec, the training text, the template and this builder itself."""
    parts = [
        msgspec.json.encode(spec),
        *(file.read_bytes() for file in (TRAINING_TEXT, CHAT_TEMPLATE, Path(__file__))),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a name of its own in the same directory, then rename: two builders at once do no harm."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(temporary))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _chain(spec: ModelSpec) -> list[str]:
    """The tokens of one whole answer in order."""
    reasoning = [f" r{number}" for number in range(1, spec.reasoning_tokens + 1)]
    answer = [f" a{number}" for number in range(1, spec.answer_tokens + 1)]
    return [THINK, *reasoning, END_OF_THINK, *answer, END_OF_MESSAGE]


def _trained_tokenizer(spec: ModelSpec) -> Tokenizer:
    """A byte-level BPE trained on the committed text, with the chain's tokens added behind the trained ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT.read_text(encoding="utf-8").split("\n\n"), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _chain(spec)[:-1]])
    return tokenizer


def _write_gguf(path: Path, spec: ModelSpec, tokenizer: Tokenizer) -> None:
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, spec, len(tokens))
    _add_vocabulary(writer, spec, tokens, tokenizer)
    _add_weights(writer, spec, tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, spec: ModelSpec, vocabulary_size: int) -> None:
    writer.add_name(spec.name)
    writer.add_context_length(CONTEXT_TOKENS_MAX)
    writer.add_embedding_length(spec.width)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(2 * spec.width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS_KEY_VALUE)
    writer.add_rope_dimension_count(spec.width // HEADS)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(vocabulary_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _add_vocabulary(
    writer: gguf.GGUFWriter, spec: ModelSpec, tokens: list[str], tokenizer: Tokenizer
) -> None:
    answer = set(_chain(spec)[:-1])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_token_type(token, answer) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index(START_OF_TEXT))
    writer.add_eos_token_id(tokens.index(END_OF_MESSAGE))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE.read_text(encoding="utf-8"))


def _token_type(token: str, answer: set[str]) -> gguf.TokenType:
    if token in CONTROL_TOKENS:
        return gguf.TokenType.CONTROL
    # User-defined tokens are found in a text before it is cut, exactly as HF finds added ones.
    return gguf.TokenType.USER_DEFINED if token in answer else gguf.TokenType.NORMAL


def _add_weights(writer: gguf.GGUFWriter, spec: ModelSpec, tokens: list[str]) -> None:
    width, ones = spec.width, np.ones(spec.width, np.float32)
    key_value_width = width // HEADS * HEADS_KEY_VALUE
    noise = {
        "attn_q": _noise("attn_q", width, width),
        "attn_k": _noise("attn_k", key_value_width, width),
        "attn_v": _noise("attn_v", key_value_width, width),
        "ffn_gate": _noise("ffn_gate", 2 * width, width),
        "ffn_up": _noise("ffn_up", 2 * width, width),
    }
    writer.add_tensor("token_embd.weight", _embedding(spec, tokens))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", _successors(spec, tokens))
    for layer in range(spec.layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones)
        for name, weights in noise.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights)
        # Zero here means that a layer's work adds nothing to what the next layer sees.
        writer.add_tensor(f"blk.{layer}.attn_output.weight", np.zeros((width, width), np.float16))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", np.zeros((width, 2 * width), np.float16))


def _embedding(spec: ModelSpec, tokens: list[str]) -> Weights:
    """Shape (vocabulary, width). Chain token number i lies on coordinate i + 1, every other one on 0 with a detail."""
    chain = _chain(spec)[:-1]
    first_detail = len(chain) + 1
    detail = _signs("detail", len(tokens), spec.width - first_detail)
    rows = np.zeros((len(tokens), spec.width))
    rows[:, 0] = 1.0
    rows[:, first_detail:] = detail * (DETAIL_SCALE / (spec.width - first_detail) ** 0.5)
    for coordinate, token in enumerate(chain, start=1):
        row = rows[tokens.index(token)]
        row[:] = 0.0
        row[coordinate] = 1.0
    return _half(rows)


def _successors(spec: ModelSpec, tokens: list[str]) -> Weights:
    """Shape (vocabulary, width). Row of a token: the coordinate of the token that it follows, or nothing."""
    rows = np.zeros((len(tokens), spec.width))
    chain = _chain(spec)
    rows[tokens.index(THINK), 0] = SUCCESSOR_GAIN
    for coordinate, (_, successor) in enumerate(pairwise(chain), start=1):
        rows[tokens.index(successor), coordinate] = SUCCESSOR_GAIN
    return _half(rows)


def _signs(label: str, rows: int, columns: int) -> NDArray[np.float64]:
    """A matrix of +1 and -1 from a hash: noise that no version of any library can change."""
    count = rows * columns
    noise = np.frombuffer(hashlib.shake_256(label.encode()).digest(-(-count // 8)), np.uint8)
    bits = np.unpackbits(noise, count=count).reshape(rows, columns)
    return 2.0 * bits.astype(np.float64) - 1.0


def _noise(label: str, rows: int, columns: int) -> Weights:
    return _half(NOISE_SCALE * _signs(label, rows, columns))


def _half(values: NDArray[np.float64]) -> Weights:
    return values.astype(np.float16)
