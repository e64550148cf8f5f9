"""Recorded streams give the same counts and the same bytes however reads cut them, and lose neither to noise or damage."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.components import Component, components
from billing.tokens.dialects.openai import PATHS, Call, Operation, parse
from billing.tokens.engines import LLAMA_CPP, VLLM, Engine
from billing.tokens.meter import StreamMeter
from billing.tokens.usage import TokenUsage
from tests.gateway.recordings import Recording, recording

Counts = tuple[int | None, int | None, int | None, int | None]
UNKNOWN: Counts = (None, None, None, None)
ENGINES = {"llamacpp": LLAMA_CPP, "vllm": VLLM}

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
}
# What the gateway makes llama.cpp send for the golden request: the recording with its running counter on every event.
INJECTED = ("llamacpp", "injected")
STREAMS = [*GOLDEN, INJECTED]
FULL_SPLIT_BYTES_MAX = 6_000
SPLIT_EDGE_EVENTS = 2

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


def fed(engine: Engine, call: Call, pieces: Iterable[bytes]) -> tuple[StreamRelay, bytes]:
    relay = StreamRelay(StreamMeter(engine, call))
    out = [relay.feed(piece, 0) for piece in pieces]
    return relay, b"".join(out)


def relayed(engine: Engine, call: Call, *pieces: bytes) -> Seen:
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


def call_of(engine: str, name: str, **asked: Any) -> Call:
    """The recorded request as a call; with ``asked`` a client that asked for just that."""
    path, request = recorded(engine, name).path, recorded(engine, name).request
    members = msgspec.json.decode(request) if request else {"model": "tiny", "messages": [], "stream": True}
    if asked:
        members = {key: value for key, value in members.items() if key not in ASKED["everything"]} | asked
    members.pop("no_members", None)
    return parse(PATHS.get(path, Operation.CHAT), msgspec.json.encode(members))


def bare_call(engine: str, name: str) -> Call:
    return call_of(engine, name, no_members=True)


def expected_view(engine: Engine, body: bytes, call: Call) -> bytes:
    """What the client may see of a body, by text alone: engines write compact JSON."""
    view = b""
    for event in events_of(body):
        edited = (
            event
            if call.timings_asked or not engine.timings
            else re.sub(rb',"timings":\{[^}]*\}', b"", event)
        )
        final = b'"choices":[]' in event
        keeps = call.usage_asked and (final or call.continuous_usage_asked or not engine.continuous_usage)
        if not keeps and b'"usage":{' in event:
            edited = b"" if final else re.sub(rb',"usage":\{(?:[^{}]|\{[^{}]*\})*\}', b"", edited)
        view += edited
    return view


def selected_offsets(body: bytes) -> list[int]:
    """Every offset of a short stream; of a long one, those in its first and last events and in one event of each kind."""
    if len(body) <= FULL_SPLIT_BYTES_MAX:
        return list(range(len(body) + 1))
    offsets, start, met = [0], 0, dict[bytes, int]()
    events = events_of(body)
    for number, event in enumerate(events):
        kind = re.sub(rb"\d+", b"0", event)
        met[kind] = met.get(kind, 0) + 1
        if met[kind] == 1 or min(number, len(events) - 1 - number) < SPLIT_EDGE_EVENTS:
            offsets += range(start, start + len(event))
        start += len(event)
    return [*offsets, len(body)]


def shortened(body: bytes) -> bytes:
    """The first four and the last four events: every kind of edit, and the final counts."""
    events = events_of(body)
    return b"".join([*events[:4], *events[-4:]])


@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_golden_counts(engine: str, name: str) -> None:
    seen = relayed(ENGINES[engine], call_of(engine, name), recorded(engine, name).body)
    assert seen.counts == GOLDEN.get((engine, name), (32, 31, 53, 20))


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_a_client_sees_what_it_asked_for_and_every_other_byte_as_it_came(
    engine: str, name: str, asked: str
) -> None:
    call = call_of(engine, name, **(ASKED[asked] or {"no_members": True}))
    body = recorded(engine, name).body
    seen = relayed(ENGINES[engine], call, body)
    assert seen.client + seen.terminal == expected_view(ENGINES[engine], body, call)
    assert seen.terminal == (b"" if "abort" in name else b"data: [DONE]\n\n")
    assert seen.counts == GOLDEN.get((engine, name), (32, 31, 53, 20))


@pytest.mark.parametrize("call_for", [call_of, bare_call], ids=["as recorded", "nothing asked"])
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_two_reads_cut_anywhere_give_the_same(
    engine: str, name: str, call_for: Callable[[str, str], Call]
) -> None:
    body, call = recorded(engine, name).body, call_for(engine, name)
    whole = relayed(ENGINES[engine], call, body)
    for offset in selected_offsets(body):
        assert relayed(ENGINES[engine], call, body[:offset], body[offset:]) == whole, offset


LINE_ENDS = {"CRLF": b"\r\n", "CR": b"\r"}


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("llamacpp", "chat_stream_timings_per_token"),
        ("vllm", "chat_stream_continuous_usage"),
        ("vllm", "chat_stream_maxtok10"),
    ],
)
def test_other_line_ends_cut_anywhere_give_the_same(engine: str, name: str, line_end: bytes) -> None:
    body = shortened(recorded(engine, name).body).replace(b"\n", line_end)
    for call in (call_of(engine, name), bare_call(engine, name)):
        whole = relayed(ENGINES[engine], call, body)
        assert whole.counts == GOLDEN[engine, name]
        assert whole.terminal == b"data: [DONE]" + 2 * line_end
        for offset in range(len(body)):
            assert relayed(ENGINES[engine], call, body[:offset], body[offset:]) == whole, (
                offset,
                body[offset - 9 : offset + 9],
            )


@pytest.mark.parametrize("engine", ENGINES)
def test_characters_of_several_bytes_cut_anywhere_arrive_whole(engine: str) -> None:
    name = {"llamacpp": "chat_stream_timings_per_token", "vllm": "chat_stream_continuous_usage"}[engine]
    body = shortened(recorded(engine, name).body).replace(b'" r', '" é漢🚀 '.encode())
    for call in (call_of(engine, name), bare_call(engine, name)):
        whole = relayed(ENGINES[engine], call, body)
        assert whole.counts == GOLDEN[engine, name]
        assert whole.client + whole.terminal == expected_view(ENGINES[engine], body, call)
        for offset in range(len(body)):
            assert relayed(ENGINES[engine], call, body[:offset], body[offset:]) == whole, offset


streams = st.sampled_from(STREAMS)


def pieces_of(body: bytes, offsets: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(offset % (len(body) + 1) for offset in offsets)})
    return [body[start:end] for start, end in pairwise(edges)]


@given(stream=streams, bare=st.booleans(), offsets=st.lists(st.integers(0, 30_000), max_size=40))
def test_many_reads_give_the_same(stream: tuple[str, str], *, bare: bool, offsets: list[int]) -> None:
    engine, body = ENGINES[stream[0]], recorded(*stream).body
    call = (bare_call if bare else call_of)(*stream)
    assert relayed(engine, call, *pieces_of(body, offsets)) == relayed(engine, call, body)


NOISE = {
    "comment": b": ping\n\n", "empty comment": b":\n\n", "null": b"data: null\n\n", "no JSON": b"data: hello\n\n", "bytes": b"data: \xff\xfe\n\n",
    "blank lines": b"\n\n", "event without data": b"event: ping\nid: 1\n\n", "number": b"data: 5\n\n", "list": b"data: []\n\n",
    "usage null": b'data: {"choices":[{"index":0,"delta":{}}],"usage":null}\n\n', "half an object": b'data: {"id":5,"x":\n\n',
    "no UTF-8": b'data: {"choices":[{"index":0,"delta":{"content":"\xc3"}}]}\n\n', "break off": b"data: [1\n\n",
}  # fmt: skip


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_noise_between_events_reaches_the_client_and_changes_no_count(
    engine: str, name: str, noise: bytes
) -> None:
    call, events = bare_call(engine, name), events_of(recorded(engine, name).body)
    noisy = relayed(ENGINES[engine], call, noise + noise.join(events))
    clean = relayed(ENGINES[engine], call, b"".join(events))
    assert (noisy.counts, noisy.terminal) == (clean.counts, clean.terminal)
    views = [expected_view(ENGINES[engine], event, call) for event in events if event != clean.terminal]
    tail = noise if clean.terminal else b""
    assert noisy.client == b"".join(noise + view for view in views) + tail


PLACEHOLDERS = [
    b"{}",
    b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}',
    b'{"prompt_tokens":true}',
    b"[]",
    b"5",
]


@pytest.mark.parametrize("usage", PLACEHOLDERS)
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_usage_that_says_nothing_changes_no_count(engine: str, name: str, usage: bytes) -> None:
    placeholder = b'data: {"choices":[{"index":0,"delta":{}}],"usage":%s}\n\n' % usage
    events = events_of(recorded(engine, name).body)
    call = call_of(engine, name)
    noisy = relayed(ENGINES[engine], call, placeholder + placeholder.join(events))
    assert noisy.counts == relayed(ENGINES[engine], call, b"".join(events)).counts


def test_a_byte_order_mark_costs_no_count_and_no_byte() -> None:
    engine, name = "vllm", "chat_stream_client_abort_continuous_usage"
    first = events_of(recorded(engine, name).body)[1]
    seen = relayed(VLLM, bare_call(engine, name), b"\xef\xbb\xbf" + first)
    assert seen.counts == (17, None, 2, 1)
    assert seen.client == b"\xef\xbb\xbf" + expected_view(VLLM, first, bare_call(engine, name))


@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_counts_of_a_stream_that_breaks_off_grow_with_it_and_never_beyond_its_own(
    engine: str, name: str
) -> None:
    call, relay = bare_call(engine, name), StreamRelay(StreamMeter(ENGINES[engine], bare_call(engine, name)))
    final = relayed(ENGINES[engine], call, recorded(engine, name).body).counts
    before: Counts = UNKNOWN
    for event in events_of(recorded(engine, name).body):
        relay.feed(event, 0)
        now = counts(relay.meter.usage())
        for earlier, present, last in zip(before, now, final, strict=True):
            assert earlier is None or (present is not None and earlier <= present)
            assert present is None or (last is not None and present <= last)
        before = now


def check_invariants(usage: TokenUsage) -> None:
    """P4: parts lie inside their wholes, components are disjoint and add up."""
    parts = components(usage)
    assert parts.total == (usage.input.value or 0) + (usage.output.value or 0)
    assert all(parts.get(component) >= 0 for component in Component)
    for part, whole in (
        (usage.cached_input, usage.input),
        (usage.cache_write, usage.input),
        (usage.reasoning, usage.output),
    ):
        assert part.value is None or whole.value is None or 0 <= part.value <= whole.value


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A recorded stream with bytes replaced, taken out, put in, or events repeated and swapped."""
    engine, name = draw(streams)
    events = events_of(recorded(engine, name).body)
    kept = draw(st.lists(st.sampled_from(events), min_size=1, max_size=8))
    body = bytearray(b"".join(kept))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 9))] = draw(st.sampled_from(DAMAGE) | st.binary(max_size=6))
    return engine, bytes(body)


DAMAGE = [
    b"\n", b"\r", b"\r\n", b"\n\n", b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"9" * 20, b"\xff", b"\\ud800",
    b'"usage":{"prompt_tokens":5}', b'"error":{}', b"data: ", b"[DONE]", b"data: [DONE]\n\n", b'"timings":[]', b'"choices":null,', b'{"id":5,',
]  # fmt: skip


@settings(max_examples=300)
@given(
    stream=damaged(),
    offsets=st.lists(st.integers(0, 5_000), max_size=4),
    asked=st.sampled_from(sorted(ASKED)),
)
def test_no_damage_breaks_the_relay_or_its_counts(
    stream: tuple[str, bytes], offsets: list[int], asked: str
) -> None:
    engine, body = stream
    call = call_of(engine, "chat_stream_maxtok10", **(ASKED[asked] or {"no_members": True}))
    relay, out = fed(ENGINES[engine], call, pieces_of(body, offsets))
    out += relay.finish(0) + relay.terminal
    check_invariants(relay.meter.usage())
    repr(relay)
    if asked == "everything":
        assert out == body
    else:
        assert len(out) <= len(body) + 2 * body.count(b"data")


@settings(max_examples=300)
@given(
    body=st.binary(max_size=300)
    | st.text(alphabet='{}[]":,\\ \r\ndatu10e-.null[DONE]', max_size=80).map(str.encode),
    bare=st.booleans(),
)
def test_bytes_that_are_no_stream_reach_the_client_unchanged(body: bytes, *, bare: bool) -> None:
    seen = relayed(LLAMA_CPP, (bare_call if bare else call_of)("llamacpp", "chat_stream_usage_true"), body)
    if b"usage" not in body and b"timings" not in body:
        assert seen.client + seen.terminal == body
