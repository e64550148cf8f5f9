"""What each engine does, as data: what to ask it for, what it sends back unasked, what it cannot count.

One table; nowhere else is an engine asked for by name. Sources: protocols.md §1–§8 (vLLM 0.33.0, SGLang 0.5.23,
llama.cpp 0c1e57098, Ollama fb307609, TGI db931fcf, TensorRT-LLM's ``tensorrt_llm/serve``, Triton e1db8a60, NVIDIA's API
reference of NIM 1.x and 2.x) and our recordings of llama.cpp, vLLM and transformers-serve.
"""

from enum import StrEnum
from typing import Any

import msgspec

from billing.errors import Misconfigured
from billing.tokens import wholes
from billing.tokens.operation import Dialect, Operation
from billing.tokens.wholes import Whole


class Says(StrEnum):
    """Whether an engine reports a count."""

    YES = "yes"
    DOUBTFUL_ZERO = "doubtful zero"
    """A reported 0 may mean that nobody counted."""
    NO = "no"


class Merge(StrEnum):
    """What several usage objects in one reply add up to."""

    LAST = "last"
    """They are cumulative: the last that says something wins."""
    PER_CHOICE = "per choice"
    """One for each choice, each with the whole prompt: the prompt once, the outputs added up."""
    PER_PROMPT = "per prompt"
    """One for each prompt of an array: inputs and outputs added up."""
    UNKNOWN = "unknown"
    """Nobody can tell: such a request is refused."""


class Tokenize(msgspec.Struct, frozen=True):
    """How an engine counts a text: ``POST path {text_member: text}``, and where its reply holds the number."""

    path: str
    text_member: str
    count_member: str | None = None
    """The member that is the number; None: the number of elements of ``list_member``."""
    list_member: str | None = None
    """The member that lists the tokens; None with no ``count_member``: the reply itself is the list."""
    wants_model: bool = False


class Counters(msgspec.Struct, frozen=True):
    """Where an engine exposes its own counters, and what they are called there (protocols.md §8)."""

    path: str
    input: tuple[str, ...]
    """Their sum is all input; the first must be there."""
    output: str
    running: tuple[str, ...] = ()
    """Gauges whose sum is the requests that are neither answered nor given up."""


Served = frozenset[tuple[Dialect, Operation]]


class Engine(msgspec.Struct, frozen=True):
    """How one kind of model server is asked and read."""

    name: str
    title: str
    """What people call it."""
    serves: Served
    stream_fields: dict[str, Any] = {}
    """Top-level request fields that make a stream carry running counts."""
    stream_options: dict[str, bool] = msgspec.field(default_factory=lambda: {"include_usage": True})
    """Members of ``stream_options`` that make a stream carry its usage."""
    form_stream_fields: dict[str, str] = {}
    """The same for requests that are forms (transcriptions): fields to add."""
    strict: bool = False
    """It refuses request fields that it does not know: none may be added that is not in its schema."""
    probed: bool = False
    """Nobody knows what it accepts: what was added is left out for good once it refuses that."""
    folds_names: bool = False
    """Whether it may read a request's members whatever their case, as programs in Go do."""
    nulls_usage: bool = False
    """Whether it writes ``usage: null`` on the other chunks of a stream that is asked for its usage."""
    continuous_usage: bool = False
    """Whether ``usage`` stands on every chunk of a stream once ``stream_options`` asked for it."""
    timings: bool = False
    """Whether replies carry llama.cpp's ``timings``, a cumulative counter of tokens."""
    reasoning: Says = Says.NO
    """Whether usage says how many output tokens were reasoning."""
    cached: Says = Says.YES
    """Whether usage says how many input tokens came from a cache, if it has the field at all."""
    start_input_estimated: bool = False
    """Whether the input that a streamed message begins with (``message_start``) is a guess; its ``message_delta`` counts."""
    choices: Merge = Merge.LAST
    """Usage objects of a stream with several choices."""
    prompts: Merge = Merge.LAST
    """Usage objects of a streamed completion of several prompts."""
    several_counted_whole: bool = True
    """Whether a reply that is not streamed counts all its choices and prompts."""
    choices_names: tuple[str, ...] = ("n",)
    """Request fields that say how many choices to make, the one that goes before the others first."""
    logprobs_streamed: bool = True
    """Whether a stream has the log probabilities of every token, as a whole reply has."""
    whole: Whole = wholes.PLAIN
    """What its whole replies look like, where they are assembled from a stream."""
    tokenize: Tokenize | None = None
    """Where text can be counted, for counts that no reply holds."""
    members_removed: frozenset[str] = frozenset()
    """Request fields that would take the counts out of a reply, or decide for all callers what a server keeps loaded."""
    health_path: str = "/health"
    counters: Counters | None = None


_OPENAI_TEXT: Served = frozenset(
    (Dialect.OPENAI, operation) for operation in (Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS)
)
_RESPONSES: Served = frozenset({(Dialect.OPENAI, Operation.RESPONSES)})
_INPUT_TOKENS: Served = frozenset({(Dialect.OPENAI, Operation.COUNT_TOKENS)})
_MESSAGES: Served = frozenset({(Dialect.ANTHROPIC, Operation.MESSAGES)})
_COUNT_TOKENS: Served = frozenset({(Dialect.ANTHROPIC, Operation.COUNT_TOKENS)})
_RANKING: Served = frozenset({(Dialect.COHERE, Operation.RERANK), (Dialect.OPENAI, Operation.SCORE)})
_SPEECH_TO_TEXT: Served = frozenset({
    (Dialect.OPENAI, Operation.TRANSCRIPTIONS), (Dialect.OPENAI, Operation.TRANSLATIONS),
})  # fmt: skip
_SPEECH: Served = frozenset({(Dialect.OPENAI, Operation.SPEECH)})
_IMAGES: Served = frozenset({(Dialect.OPENAI, Operation.IMAGES), (Dialect.OPENAI, Operation.IMAGE_EDITS)})
_OLLAMA: Served = frozenset(
    (Dialect.OLLAMA, operation)
    for operation in (Operation.CHAT, Operation.GENERATE, Operation.EMBEDDINGS, Operation.SHOW)
)
_LLAMA_CPP: Served = frozenset(
    (Dialect.LLAMA_CPP, operation)
    for operation in (Operation.GENERATE, Operation.INFILL, Operation.TOKENIZE, Operation.DETOKENIZE)
)
_TGI: Served = frozenset({(Dialect.TGI, Operation.GENERATE)})
_TRITON: Served = frozenset({(Dialect.TRITON, Operation.GENERATE)})

_CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}

LLAMA_CPP = Engine(
    name="llama.cpp",
    title="llama.cpp",
    serves=_OPENAI_TEXT | _RESPONSES | _INPUT_TOKENS | _MESSAGES | _COUNT_TOKENS | _LLAMA_CPP | _SPEECH_TO_TEXT
    | frozenset({(Dialect.COHERE, Operation.RERANK)}),
    stream_fields={"timings_per_token": True},
    timings=True,
    choices=Merge.PER_CHOICE,
    prompts=Merge.PER_PROMPT,
    several_counted_whole=False,
    choices_names=("n_cmpl", "n"),
    logprobs_streamed=False,
    whole=wholes.LLAMA_CPP,
    tokenize=Tokenize("/tokenize", "content", list_member="tokens"),
    members_removed=frozenset({"response_fields"}),
    counters=Counters(
        path="/metrics",
        input=("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
        output="llamacpp:tokens_predicted_total",
        running=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
    ),
)  # fmt: skip

VLLM = Engine(
    name="vllm",
    title="vLLM",
    serves=_OPENAI_TEXT | _RESPONSES | _MESSAGES | _COUNT_TOKENS | _RANKING | _SPEECH_TO_TEXT
    | frozenset({(Dialect.OPENAI, Operation.CLASSIFY)}),
    stream_options=_CONTINUOUS,
    form_stream_fields={"stream_include_usage": "true", "stream_continuous_usage_stats": "true"},
    continuous_usage=True,
    reasoning=Says.DOUBTFUL_ZERO,
    whole=wholes.VLLM,
    tokenize=Tokenize("/tokenize", "prompt", count_member="count", wants_model=True),
    counters=Counters(
        path="/metrics",
        input=("vllm:prompt_tokens_total",),
        output="vllm:generation_tokens_total",
        running=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    ),
)  # fmt: skip

NIM = msgspec.structs.replace(
    VLLM,
    name="nim",
    title="NIM",
    serves=VLLM.serves | _RANKING,
    health_path="/v1/health/ready",
    counters=msgspec.structs.replace(VLLM.counters, path="/v1/metrics") if VLLM.counters else None,
)
"""NVIDIA NIM 2.x serves with vLLM and reports as it does."""

NIM_1 = Engine(
    name="nim-1",
    title="NIM 1.x",
    serves=_OPENAI_TEXT | _RANKING,
    health_path="/v1/health/ready",
    counters=Counters(
        path="/v1/metrics",
        input=("prompt_tokens_total",),
        output="generation_tokens_total",
        running=("num_requests_running", "num_requests_waiting"),
    ),
)

SGLANG = Engine(
    name="sglang",
    title="SGLang",
    serves=_OPENAI_TEXT | _RESPONSES | _MESSAGES | _RANKING | _SPEECH_TO_TEXT,
    stream_options=_CONTINUOUS,
    continuous_usage=True,
    reasoning=Says.DOUBTFUL_ZERO,
    tokenize=Tokenize("/v1/tokenize", "prompt", count_member="count", wants_model=True),
    counters=Counters(
        path="/metrics",
        input=("sglang:prompt_tokens_total",),
        output="sglang:generation_tokens_total",
        running=("sglang:num_running_reqs", "sglang:num_queue_reqs"),
    ),
)

TENSORRT_LLM = Engine(
    name="tensorrt-llm",
    title="TensorRT-LLM",
    serves=_OPENAI_TEXT | _RESPONSES,
    stream_options=_CONTINUOUS,
    strict=True,
    continuous_usage=True,
    prompts=Merge.PER_PROMPT,
    counters=Counters(
        path="/prometheus/metrics",
        input=("trtllm_prompt_tokens_total",),
        output="trtllm_generation_tokens_total",
    ),
)

TGI = Engine(
    name="tgi",
    title="TGI",
    serves=_OPENAI_TEXT | _TGI,
    choices_names=(),  # it makes one choice, whatever `n` says
    prompts=Merge.PER_PROMPT,
    tokenize=Tokenize("/tokenize", "inputs"),
    counters=Counters(
        path="/metrics",
        input=("tgi_request_input_length_sum",),
        output="tgi_request_generated_tokens_sum",
        running=("tgi_batch_current_size", "tgi_queue_size"),
    ),
)

OLLAMA = Engine(
    name="ollama",
    title="Ollama",
    serves=_OPENAI_TEXT | _RESPONSES | _MESSAGES | _OLLAMA,
    folds_names=True,
    members_removed=frozenset({"keep_alive"}),
    reasoning=Says.DOUBTFUL_ZERO,
    cached=Says.DOUBTFUL_ZERO,
    start_input_estimated=True,
    choices=Merge.UNKNOWN,
    several_counted_whole=False,
    health_path="/api/version",
)
"""It makes one choice whatever ``n`` says, and its Responses shim writes 0 for what it does not count."""

TRITON = Engine(
    name="triton",
    title="Triton",
    serves=_TRITON,
    stream_fields={"return_num_input_tokens": True, "return_num_output_tokens": True},
    health_path="/v2/health/ready",
)
"""Whole replies are asked for their counts in the same words; a model without such inputs takes them for parameters."""

OPENAI = Engine(
    name="openai",
    title="OpenAI",
    serves=_OPENAI_TEXT | _RESPONSES | _INPUT_TOKENS | _SPEECH_TO_TEXT | _SPEECH | _IMAGES,
    strict=True,
    nulls_usage=True,
    reasoning=Says.YES,
    health_path="/v1/models",
)

TRANSFORMERS = Engine(
    name="transformers",
    title="transformers serve",
    serves=_OPENAI_TEXT | _RESPONSES,
    whole=wholes.TRANSFORMERS,
)
"""Hugging Face's ``transformers serve``: its last choice carries the usage, whatever was asked, and no ``[DONE]`` follows."""

GENERIC = Engine(
    name="generic",
    title="an OpenAI-compatible server",
    serves=_OPENAI_TEXT | _RESPONSES | _MESSAGES | _COUNT_TOKENS | _RANKING | _SPEECH_TO_TEXT | _SPEECH | _IMAGES,
    folds_names=True,
    probed=True,
    nulls_usage=True,
    reasoning=Says.DOUBTFUL_ZERO,
)  # fmt: skip

ENGINES = {
    engine.name: engine
    for engine in (
        LLAMA_CPP, VLLM, NIM, NIM_1, SGLANG, TENSORRT_LLM, TGI, OLLAMA, TRITON, OPENAI, TRANSFORMERS, GENERIC,
    )
}  # fmt: skip


def engine(name: str) -> Engine:
    """The engine of a name; raises ``Misconfigured`` listing the names there are."""
    try:
        return ENGINES[name]
    except KeyError:
        raise Misconfigured(f"there is no engine {name!r}; known are {', '.join(sorted(ENGINES))}") from None
