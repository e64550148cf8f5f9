"""Recorded streams give their counts and their bytes, and lose neither to noise or damage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.components import Component, components
from billing.tokens.engines import LLAMA_CPP, VLLM
from billing.tokens.usage import TokenUsage
from tests.stream_kit import (
    ASKED,
    DONE_EVENT,
    ENGINES,
    GOLDEN,
    STREAMS,
    UNKNOWN,
    Counts,
    bare_call,
    call_of,
    counts,
    events_of,
    expected_view,
    fed,
    pieces_of,
    recorded,
    relayed,
    streams,
)


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
    assert seen.terminal == (DONE_EVENT if body.endswith(DONE_EVENT) else b"")
    assert bool(seen.terminal) == ("abort" not in name and engine != "transformers_serve")
    assert seen.counts == GOLDEN.get((engine, name), (32, 31, 53, 20))


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
    call, relay = bare_call(engine, name), StreamRelay(bare_call(engine, name).stream_meter(ENGINES[engine]))
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
    name = next(name for folder, name in GOLDEN if folder == engine and name.startswith("chat"))
    call = call_of(engine, name, **(ASKED[asked] or {"no_members": True}))
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
