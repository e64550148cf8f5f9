"""The corpus of recorded payloads as cases: each with its call and engine, or the reader of a dialect that is not proxied.

The corpus lies beside the project, not in it, and is absent elsewhere.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from billing.gateway.relay import relay_of
from billing.tokens.call import JSON, Asked, Call
from billing.tokens.dialects.cohere import CohereReplyMeter
from billing.tokens.dialects.llama_cpp_meter import embedding_reply_meter
from billing.tokens.dialects.openai_realtime import session_usage, transcription_usage
from billing.tokens.dialects.routes import find
from billing.tokens.dialects.sglang import SglangReplyMeter, SglangStreamMeter
from billing.tokens.engines import (
    GENERIC,
    LLAMA_CPP,
    NIM,
    NIM_1,
    OLLAMA,
    OPENAI,
    SGLANG,
    TENSORRT_LLM,
    TGI,
    TRITON,
    VLLM,
    Engine,
)
from billing.tokens.meter import StreamMeter
from billing.tokens.operation import Framing
from billing.tokens.usage import TokenUsage

CORPUS = Path(__file__).parents[1] / "../shared/corpus"
ENGINES = {
    "llama.cpp": LLAMA_CPP,
    "vllm": VLLM,
    "nim 2": NIM,
    "nim": NIM_1,
    "sglang": SGLANG,
    "tgi": TGI,
    "tensorrt-llm": TENSORRT_LLM,
    "ollama": OLLAMA,
    "triton": TRITON,
    "openai": OPENAI,
}
_FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\ntiny\r\n'
    b'--b\r\ncontent-disposition: form-data; name="stream"\r\n\r\n%b\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n0\r\n--b--\r\n'
)
SENT: dict[str, tuple[str, dict[str, Any] | None]] = {
    "anthropic.messages": ("/v1/messages", {"messages": [], "max_tokens": 9}),
    "anthropic.count_tokens": ("/v1/messages/count_tokens", {"messages": []}),
    "classify": ("/classify", {"input": "x"}),
    "llamacpp.completion": ("/completion", {"prompt": "x"}),
    "llamacpp.infill": ("/infill", {"input_prefix": "x", "input_suffix": "y"}),
    "ollama.chat": ("/api/chat", {"messages": []}),
    "ollama.generate": ("/api/generate", {"prompt": "x"}),
    "ollama.embed": ("/api/embed", {"input": "x"}),
    "ollama.embeddings": ("/api/embeddings", {"prompt": "x"}),
    "openai.audio.speech": ("/v1/audio/speech", {"input": "x", "voice": "v", "stream_format": "sse"}),
    "openai.audio.transcriptions": ("/v1/audio/transcriptions", None),
    "openai.audio.translations": ("/v1/audio/translations", None),
    "openai.chat": ("/v1/chat/completions", {"messages": []}),
    "openai.completions": ("/v1/completions", {"prompt": [1]}),
    "openai.embeddings": ("/v1/embeddings", {"input": [1]}),
    "openai.images": ("/v1/images/generations", {"prompt": "x"}),
    "openai.responses": ("/v1/responses", {"input": "x"}),
    "openai.responses.compact": ("/v1/responses/compact", {"input": "x"}),
    "openai.responses.input_tokens": ("/v1/responses/input_tokens", {"input": "x"}),
    "rerank": ("/v1/rerank", {"query": "x", "documents": ["y"]}),
    "tgi.generate": ("/generate", {"inputs": "x"}),
    "triton.generate": ("/v2/models/tiny/generate", {"text_input": "x"}),
}
"""The path of a dialect, and what a request must hold where none was recorded; None is a form."""


def _sglang(raw: bytes) -> TokenUsage:
    if not raw.startswith(b"data:"):
        return SglangReplyMeter(raw).usage()
    meter: StreamMeter = SglangStreamMeter()
    relay_of(Framing.SSE, meter).feed(raw, 0)
    return meter.usage()


NOT_PROXIED: dict[str, Callable[[bytes], TokenUsage]] = {
    "cohere.chat": lambda raw: CohereReplyMeter(raw).usage(),
    "llamacpp.embedding": lambda _raw: embedding_reply_meter().usage(),
    "openai.realtime": lambda raw: session_usage(raw.splitlines()),
    "openai.realtime.transcription": lambda raw: transcription_usage(raw.splitlines()),
    "sglang.generate": _sglang,
}
"""Dialects of which only the usage is read."""


class Case(NamedTuple):
    """One case of the corpus, as far as it is read here; ``call`` is None where nothing is proxied."""

    name: str
    dialect: str
    engine: Engine
    call: Call | None
    status: int
    is_stream: bool
    raw: bytes
    expect: dict[str, Any]


def cases() -> list[Case]:
    """Every case; none where the corpus is absent. An unknown dialect fails."""
    return [read(path) for path in sorted(CORPUS.glob("*.json"))]


def read(path: Path) -> Case:
    """The case of a file."""
    case = msgspec.json.decode(path.read_bytes())
    call = None if case["dialect"] in NOT_PROXIED else call_of(case)
    return Case(
        case["name"], case["dialect"], engine_of(case["backend"]), call, case["status"], case["stream"],
        case["raw"].encode(), case["expect"],
    )  # fmt: skip


def engine_of(backend: str) -> Engine:
    """The engine of a backend's name; what is none of ours is read as an unknown one."""
    if backend.startswith("openai-compatible"):
        return GENERIC
    return next((engine for name, engine in ENGINES.items() if backend.startswith(name)), GENERIC)


def call_of(case: dict[str, Any]) -> Call:
    """The call of a recorded request, or of the least that such a request must hold."""
    where, least = SENT[case["dialect"]]
    route = find(where)
    assert route is not None
    if least is None:
        body = _FORM % str(case["stream"]).lower().encode()
        return route.parse(Asked(route.operation, where, body, b"multipart/form-data; boundary=b"))
    if "usage_objects" in case["expect"] and "prompt" in least:
        least = {"prompt": ["x"] * case["expect"]["usage_objects"]}
    asked = least | (case["request"] or {}) | {"model": "tiny", "stream": case["stream"]}
    for name in ("tools", "thinking", "reasoning"):
        asked.pop(name, None)
    return route.parse(Asked(route.operation, where, msgspec.json.encode(asked), JSON))


def usage_of(case: Case) -> TokenUsage:
    """What the payload is counted as."""
    if case.call is None:
        return NOT_PROXIED[case.dialect](case.raw)
    if not case.is_stream:
        return case.call.reply_meter(case.engine, case.raw).usage()
    return relayed(case, case.raw)[2]


def relayed(case: Case, *pieces: bytes) -> tuple[bytes, bytes, TokenUsage]:
    """What the client got, what waited for the record, and the counts."""
    assert case.call is not None
    relay = relay_of(case.call.framing, case.call.stream_meter(case.engine))
    out = b"".join([relay.feed(piece, 0) for piece in pieces])
    return out + relay.finish(0), relay.terminal, relay.meter.usage()
