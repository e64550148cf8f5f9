"""Which tokenizer counts text where no engine did (docs/decisions/0005-tokenizer.md): exact as HF's, and how fast.

    python -m bench.decisions.tokenizer [TOKENIZER.JSON ...]        needs: pip install splintr-rs

Vocabularies: the golden model's, one of 32,000 entries trained here with Llama 3's splitting rule, and any file named.
Texts: the standard library's sources, and lines of random characters of many scripts. Each library works in a process
of its own, so that its memory is its own.
"""

import argparse
import hashlib
import importlib
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from billing.infra.golden.model import GOLDEN, build_model, tokenizer_path

TEXT_BYTES = 4 * 1024 * 1024
PIECE_CHARACTERS = 16_000
ODD_PIECES = 60
ODD_CHARACTERS = 2_000
VOCABULARY = 32_000
RESULT_TIMEOUT_S = 300.0
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Counted(msgspec.Struct):
    """What one library made of one vocabulary: a digest of each piece's ids."""

    load_s: float
    memory_mb: float
    megabytes_per_s: float
    odd_megabytes_per_s: float
    digests: list[str]
    refused: str = ""
    """Why it cannot load this vocabulary, if it cannot."""


def _hf(path: str) -> Callable[[str], list[int]]:
    tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(path)
    return lambda piece: list(tokenizer.encode(piece, add_special_tokens=False).ids)


def _fastokens(path: str) -> Callable[[str], list[int]]:
    tokenizer = importlib.import_module("fastokens").Tokenizer.from_file(path)
    return lambda piece: _ids(tokenizer.encode(piece))


def _splintr(path: str) -> Callable[[str], list[int]]:
    tokenizer = importlib.import_module("splintr").from_json(path)
    return lambda piece: _ids(tokenizer.encode(piece))


def _ids(encoded: Any) -> list[int]:
    return list(getattr(encoded, "ids", encoded))


LIBRARIES = {"tokenizers": _hf, "fastokens": _fastokens, "splintr-rs": _splintr}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("files", nargs="*", type=Path)
    arguments.add_argument("--count", nargs=2, metavar=("LIBRARY", "TOKENIZER"))
    given = arguments.parse_args()
    if given.count:
        sys.stdout.buffer.write(msgspec.json.encode(count(*given.count)))
    else:
        compare(given.files)


def compare(files: list[Path]) -> None:
    """Every library on every vocabulary, as a table."""
    table = Table(title="Tokenizers beside HF's", title_justify="left")
    for heading in (
        "vocabulary",
        "library",
        "sources MB/s",
        "scripts MB/s",
        "load s",
        "memory MB",
        "pieces unlike HF's",
    ):
        table.add_column(heading, justify="left" if heading in {"vocabulary", "library"} else "right")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        model = Path(folder, "golden.gguf")
        build_model(model, GOLDEN)
        for path in (tokenizer_path(model), _trained(Path(folder, "trained.json")), *files):
            exact = _counted("tokenizers", path)
            for library in LIBRARIES:
                table.add_row(path.name, library, *_cells(_counted(library, path), exact))
    Console(highlight=False, width=120).print(table)


def _cells(found: Counted, exact: Counted) -> Iterable[str]:
    if found.refused:
        return ("", "", "", "", f"refused: {found.refused}")
    unlike = sum(ours != theirs for ours, theirs in zip(found.digests, exact.digests, strict=True))
    speeds = (f"{found.megabytes_per_s:.1f}", f"{found.odd_megabytes_per_s:.1f}")
    return (*speeds, f"{found.load_s:.2f}", f"{found.memory_mb:.0f}", f"{unlike} of {len(exact.digests)}")


def _counted(library: str, path: Path) -> Counted:
    command = [sys.executable, "-m", "bench.decisions.tokenizer", "--count", library, str(path)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=RESULT_TIMEOUT_S)
    return msgspec.json.decode(finished.stdout, type=Counted)


def count(library: str, path: str) -> Counted:
    """One library on one vocabulary, in this process."""
    before = _memory_mb()
    began = time.perf_counter()
    try:
        encode = LIBRARIES[library](path)
    except ValueError as fault:
        return Counted(0, 0, 0, 0, [], refused=str(fault))
    load_s = time.perf_counter() - began
    sources, source_speed = _encode(encode, source_pieces())
    # Before the odd texts, whose ids would count as memory of the library.
    memory_mb = _memory_mb() - before
    odd, odd_speed = _encode(encode, odd_pieces())
    return Counted(load_s, memory_mb, source_speed, odd_speed, [*sources, *odd])


def _encode(encode: Callable[[str], list[int]], pieces: list[str]) -> tuple[list[str], float]:
    digests, spent = [], 0.0
    for piece in pieces:
        began = time.perf_counter()
        ids = encode(piece)
        spent += time.perf_counter() - began
        digests.append(hashlib.sha256(repr(ids).encode()).hexdigest())
    return digests, sum(len(piece.encode()) for piece in pieces) / spent / 1e6


def source_pieces() -> list[str]:
    """About 4 MB of Python sources, in prompts of 16 kB."""
    texts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", "replace")
        texts.append(text)
        size += len(text)
        if size > TEXT_BYTES:
            break
    whole = "".join(texts)
    return [whole[start : start + PIECE_CHARACTERS] for start in range(0, len(whole), PIECE_CHARACTERS)]


def odd_pieces() -> list[str]:
    """Random characters of every script, combining marks, emoji, digits and runs of blanks, the same each time."""
    chance = random.Random(7)
    letters = [c for c in map(chr, range(0x20, 0x1FBFF)) if unicodedata.category(c) not in {"Cn", "Cs", "Co"}]
    blanks = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "'s", "1234567", "e\u0301", "👩‍👩‍👧"]
    return [
        "".join(chance.choice(blanks if chance.random() < 0.3 else letters) for _ in range(ODD_CHARACTERS))
        for _ in range(ODD_PIECES)
    ]


def _trained(path: Path) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(source_pieces(), trainer)
    tokenizer.save(str(path))
    return path


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
