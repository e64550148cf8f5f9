"""The recorded streams, what each must be counted as, and a relay that they are fed to."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.call import Asked
from billing.tokens.dialects.openai_text import TextCall, parse
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP, VLLM, Engine
from billing.tokens.operation import Operation
from billing.tokens.usage import TokenUsage
from tests.gateway.recordings import Recording, recording

Counts = tuple[int | None, int | None, int | None, int | None]
DONE_EVENT = b"data: [DONE]\n\n"
UNKNOWN: Counts = (None, None, None, None)
ENGINES = {"llamacpp": LLAMA_CPP, "vllm": VLLM, "transformers_serve": VLLM}

# input, cached input, output and reasoning tokens of each recorded stream, by hand.
GOLDEN: dict[tuple[str, str], Counts] = {
    ("llamacpp", "chat_stream_usage_true"): (32, 31, 53, None),
    ("llamacpp", "chat_stream_continuous_usage"): (32, 31, 20, None),
    ("llamacpp", "chat_stream_maxtok10"): (32, 31, 10, None),
    # <think> is 1 token; the last of r1 to r4 stands at the counter's 5: 5 − 1 = 4.
    ("llamacpp", "chat_stream_timings_per_token"): (32, 31, 5, 4),
    ("llamacpp", "completions_stream_usage_absent"): (4, 3, 53, None),
    ("llamacpp", "chat_stream_client_abort"): UNKNOWN,
    ("vllm", "chat_stream_continuous_usage"): (32, 0, 20, 19),
    ("vllm", "chat_stream_maxtok10"): (32, 0, 10, 9),
    ("vllm", "chat_stream_n2_usage_true"): (32, 0, 106, 40),
    ("vllm", "chat_stream_return_token_ids"): (32, 0, 8, 7),
    ("vllm", "chat_stream_timings_per_token"): (32, 0, 5, 4),
    ("vllm", "completions_stream_usage_true"): (4, 0, 53, None),
    ("vllm", "chat_stream_client_abort_continuous_usage"): (17, None, 10, 9),
    ("vllm", "chat_stream_usage_absent"): UNKNOWN,
    ("vllm", "chat_stream_usage_false"): UNKNOWN,
    ("vllm", "completions_stream_usage_absent"): UNKNOWN,
    # Whatever was asked, its last choice carries the usage, and no [DONE] follows.
    ("transformers_serve", "chat_stream_usage_true"): (18, None, 53, None),
    ("transformers_serve", "chat_stream_usage_false"): (18, None, 53, None),
    ("transformers_serve", "chat_stream_usage_absent"): (18, None, 53, None),
}
# What the gateway makes llama.cpp send for the golden request: the recording with its running counter on every event.
INJECTED = ("llamacpp", "injected")
STREAMS = [*GOLDEN, INJECTED]
NOT_PROXIED = {("llamacpp", "chat_stream_n2_usage_true")}
"""Refused, because this engine does not count all choices."""

ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "usage": {"stream_options": {"include_usage": True}},
    "usage on every event": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    "timings": {"timings_per_token": True},
    "everything": {
        "timings_per_token": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
}  # fmt: skip


class Seen(NamedTuple):
    """What became of a stream: what the client got before the end mark, what waits for the record, and the counts."""

    client: bytes
    terminal: bytes
    counts: Counts


def counts(usage: TokenUsage) -> Counts:
    return (usage.input.value, usage.cached_input.value, usage.output.value, usage.reasoning.value)


def fed(engine: Engine, call: TextCall, pieces: Iterable[bytes]) -> tuple[StreamRelay, bytes]:
    relay = StreamRelay(call.stream_meter(engine))
    out = [relay.feed(piece, 0) for piece in pieces]
    return relay, b"".join(out)


def relayed(engine: Engine, call: TextCall, *pieces: bytes) -> Seen:
    relay, out = fed(engine, call, pieces)
    out += relay.finish(0)
    return Seen(out, relay.terminal, counts(relay.meter.usage()))


@cache
def recorded(engine: str, name: str) -> Recording:
    if name != "injected":
        return recording(engine, name)
    plain = recording(engine, "chat_stream_usage_true")
    return plain._replace(body=b"".join(_with_timings(plain.body)))


def _with_timings(body: bytes) -> Iterator[bytes]:
    predicted = 0
    for event in events_of(body):
        predicted += (b'"role"' in event) + (b'" r' in event) + (2 if b'" a1"' in event else b'" a' in event)
        running = b',"timings":{"cache_n":31,"prompt_n":1,"predicted_n":%d}}\n\n' % predicted
        counted = b'"finish_reason":null' in event
        yield event.removesuffix(b"}\n\n") + running if counted else event


def events_of(body: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in body.split(b"\n\n") if part]


def call_of(engine: str, name: str, **asked: Any) -> TextCall:
    """The recorded request as a call; with ``asked`` a client that asked for just that."""
    path, request = recorded(engine, name).path, recorded(engine, name).request
    members = msgspec.json.decode(request) if request else {"model": "tiny", "messages": [], "stream": True}
    if asked:
        members = {key: value for key, value in members.items() if key not in ASKED["everything"]} | asked
    members.pop("no_members", None)
    operation = PATHS[path].operation if path in PATHS else Operation.CHAT
    return parse(Asked(operation, path, msgspec.json.encode(members)))


def bare_call(engine: str, name: str) -> TextCall:
    return call_of(engine, name, no_members=True)


def expected_view(engine: Engine, body: bytes, call: TextCall) -> bytes:
    """What the client may see of a body, by text alone: engines write compact JSON."""
    view = b""
    for event in events_of(body):
        edited = (
            event if call.wish.timings or not engine.timings else re.sub(rb',"timings":\{[^}]*\}', b"", event)
        )
        final = b'"choices":[]' in event
        keeps = call.wish.usage and (final or call.wish.continuous_usage or not engine.continuous_usage)
        if not keeps and b'"usage":{' in event:
            edited = b"" if final else re.sub(rb',"usage":\{(?:[^{}]|\{[^{}]*\})*\}', b"", edited)
        view += edited
    return view


def shortened(body: bytes) -> bytes:
    """The first four and the last four events: every kind of edit, and the final counts."""
    events = events_of(body)
    return b"".join([*events[:4], *events[-4:]])


streams = st.sampled_from(STREAMS)


def pieces_of(body: bytes, offsets: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(offset % (len(body) + 1) for offset in offsets)})
    return [body[start:end] for start, end in pairwise(edges)]
