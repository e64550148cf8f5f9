"""What the tests of engines' own dialects share: the corpus beside the project, a relay to feed, usage as plain numbers."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from billing.gateway.relay import StreamRelay
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.sse import data_of
from billing.tokens.usage import Part, TokenUsage

CORPUS = Path(__file__).parents[1] / "../shared/corpus"
PARTS = {"search_units": Part.SEARCH}


def corpus(*dialects: str) -> list[dict[str, Any]]:
    """The cases of some dialects; none where the corpus is absent."""
    cases = [msgspec.json.decode(path.read_bytes()) for path in sorted(CORPUS.glob("*.json"))]
    return [case for case in cases if case["dialect"] in dialects]


def expected(case: dict[str, Any]) -> dict[str, int | None]:
    """The counts that a case must yield."""
    names = ("input", "cached_input", "cache_write", "output", "reasoning", *PARTS)
    return {name: case["expect"][name] for name in names if name in case["expect"]}


def found(case: dict[str, Any], usage: TokenUsage) -> dict[str, int | None]:
    """The same counts as they were found."""
    known = {
        "input": usage.input.value, "cached_input": usage.cached_input.value, "cache_write": usage.cache_write.value,
        "output": usage.output.value, "reasoning": usage.reasoning.value,
    } | {name: usage.parts[part].value for name, part in PARTS.items() if part in usage.parts}  # fmt: skip
    return {name: known[name] for name in expected(case)}


def metered(case: dict[str, Any], stream_meter: StreamMeter, reply_meter: ReplyMeter) -> TokenUsage:
    """What a case's payload is counted as."""
    if not case["stream"]:
        return reply_meter.usage()
    relay = StreamRelay(stream_meter)
    relay.feed(case["raw"].encode(), 0)
    relay.finish(0)
    return stream_meter.usage()


def relayed(meter: StreamMeter, *pieces: bytes) -> tuple[bytes, bytes]:
    """What the client gets before the end mark, and what waits for the record."""
    relay = StreamRelay(meter)
    out = b"".join([relay.feed(piece, 0) for piece in pieces])
    return out + relay.finish(0), relay.terminal


def events_of(body: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in body.split(b"\n\n") if part]


def data_in(body: bytes) -> list[bytes]:
    """The data of each event of a stream."""
    return [data_of(event) for event in events_of(body)]


def cut(body: bytes, offsets: Iterable[int]) -> list[bytes]:
    """A body in the pieces between some offsets."""
    edges = sorted({0, len(body), *(offset % (len(body) + 1) for offset in offsets)})
    return [body[start:end] for start, end in pairwise(edges)]


def sse(*events: object) -> bytes:
    """A stream of JSON events."""
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in events)


def counts(usage: TokenUsage) -> tuple[int | None, int | None, int | None, int | None]:
    return (usage.input.value, usage.cached_input.value, usage.output.value, usage.reasoning.value)
