"""Cases of the corpus for OpenAI's endpoints beside text, forms, and a relay that streams are fed to.

The corpus lies beside the project, not in it; where it is absent there are no cases.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from billing.gateway.relay import StreamRelay
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import GENERIC, LLAMA_CPP, OLLAMA, OPENAI, VLLM, Engine
from billing.tokens.usage import Count, Part, TokenUsage

CORPUS = Path(__file__).parents[1] / "../shared/corpus"
ENGINES = {"openai": OPENAI, "vllm": VLLM, "llama.cpp": LLAMA_CPP, "ollama": OLLAMA}
BOUNDARY = "cut-here"
FORM = f"multipart/form-data; boundary={BOUNDARY}".encode()
NAMES = {
    "audio_seconds": Part.SECOND, "images": Part.IMAGE, "web_search_calls": Part.SEARCH, "audio_input": Part.AUDIO_INPUT,
    "image_input": Part.IMAGE_INPUT, "audio_output": Part.AUDIO_OUTPUT,
}  # fmt: skip
"""What the corpus calls the parts of a usage."""


class Case(NamedTuple):
    """One recorded or published reply and the counts that it must yield."""

    name: str
    engine: Engine
    stream: bool
    raw: bytes
    expect: dict[str, Any]


def cases(dialect: str) -> list[Case]:
    """Every case of a dialect."""
    found = []
    for path in sorted(CORPUS.glob("*.json")):
        case = msgspec.json.decode(path.read_bytes())
        if case["dialect"] == dialect and case["status"] == 200:
            engine = ENGINES.get(case["backend"], GENERIC)
            found.append(Case(case["name"], engine, case["stream"], case["raw"].encode(), case["expect"]))
    return found


def mismatches(usage: TokenUsage, expect: dict[str, Any]) -> dict[str, tuple[int | None, int | None]]:
    """What of the expected is counted differently: name to (counted, expected)."""
    counts = {
        "input": usage.input, "cached_input": usage.cached_input, "cache_write": usage.cache_write,
        "output": usage.output, "reasoning": usage.reasoning,
    } | {name: usage.parts.get(part, Count()) for name, part in NAMES.items()}  # fmt: skip
    return {
        name: (counts[name].value, expected)
        for name, expected in expect.items()
        if name in counts and counts[name].value != expected
    }


def call_of(path: str, content_type: bytes = b"application/json", body: bytes = b"", **members: Any) -> Call:
    """The call of a path's request."""
    route = PATHS[path]
    return route.parse(Asked(route.operation, path, body or msgspec.json.encode(members), content_type))


def form(*parts: tuple[str, bytes, str | None], boundary: str = BOUNDARY) -> bytes:
    """A form of (name, value, file name) parts, as clients write it."""
    pieces = []
    for name, value, filename in parts:
        file = f'; filename="{filename}"\r\nContent-Type: application/octet-stream' if filename else ""
        pieces.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
            + value
            + b"\r\n"
        )
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def fed(call: Call, engine: Engine, pieces: Iterable[bytes]) -> tuple[StreamRelay, bytes]:
    """A relay that was given these pieces, and what the client saw before the end mark."""
    relay = StreamRelay(call.stream_meter(engine))
    out = b"".join([relay.feed(piece, now_us) for now_us, piece in enumerate(pieces)])
    return relay, out + relay.finish(0)


def events(*payloads: dict[str, Any]) -> bytes:
    """Payloads as server-sent events, named by their type."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), msgspec.json.encode(payload))
        for payload in payloads
    )
