"""However reads cut a recorded stream, its counts and the bytes that a client gets are the same."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.dialects.openai_text import TextCall
from billing.tokens.dialects.openai_text_meter import TextStreamMeter
from billing.tokens.merging import Several
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.sse import SseFramer
from tests.gateway.recordings import CAPTURES
from tests.stream_kit import (
    ENGINES,
    GOLDEN,
    NOT_PROXIED,
    STREAMS,
    bare_call,
    call_of,
    counts,
    events_of,
    expected_view,
    pieces_of,
    recorded,
    relayed,
    shortened,
    streams,
)

PARTS = (StreamRelay, TextStreamMeter, SseFramer, ReasoningCounter, Several)
"""What a relay is made of and changes as it goes."""


def names_of(kind: type) -> tuple[str, ...]:
    """The names of all that a part holds, also by what it inherits."""
    return tuple(name for each in kind.__mro__ for name in getattr(each, "__slots__", ()))


def copied(part: Any) -> Any:
    """A relay with its own framer, meter and counter; what cannot change is shared, which makes this cheap."""
    twin = object.__new__(type(part))
    for name in names_of(type(part)):
        value = getattr(part, name)
        if type(value) in PARTS:
            value = copied(value)
        elif type(value) is dict:
            value = {key: copied(held) if type(held) in PARTS else held for key, held in value.items()}
        elif type(value) in {set, bytearray}:
            value = value.copy()
        setattr(twin, name, value)
    return twin


def state_of(part: Any) -> list[Any]:
    """All that a relay knows: two of equal state do the same with whatever comes next."""
    return [_state(getattr(part, name)) for name in names_of(type(part))]


def _state(value: Any) -> Any:
    if type(value) is dict:
        return {key: _state(held) for key, held in value.items()}
    return state_of(value) if type(value) in PARTS else value


def test_every_recorded_stream_that_is_proxied_is_tried() -> None:
    found = {
        (path.parent.name, path.name.removesuffix(".response.txt"))
        for path in CAPTURES.glob("*/*_stream_*.response.txt")
        if path.name.startswith(("chat_", "completions_"))
    }
    assert found == set(GOLDEN) | NOT_PROXIED


@pytest.mark.parametrize("call_for", [call_of, bare_call], ids=["as recorded", "nothing asked"])
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_two_reads_cut_anywhere_give_the_same(
    engine: str, name: str, call_for: Callable[[str, str], TextCall]
) -> None:
    """At every offset, by induction over the events.

    The event that is cut comes in two reads, with whole events before and after it. What leaves the relay and its
    whole state must then be those of the relay that got one event at a time; so whatever follows ends alike too.
    """
    body, call = recorded(engine, name).body, call_for(engine, name)
    events = events_of(body)
    relay = StreamRelay(call.stream_meter(ENGINES[engine]))
    outs, states = [], [copied(relay)]
    for event in events:
        outs.append(relay.feed(event, 0))
        states.append(copied(relay))
    whole = relayed(ENGINES[engine], call, body)
    assert (b"".join(outs) + relay.finish(0), relay.terminal, counts(relay.meter.usage())) == whole
    for number, event in enumerate(events):
        first, last = max(number - 1, 0), min(number + 2, len(events))
        before, after = b"".join(events[first:number]), b"".join(events[number + 1 : last])
        expected = b"".join(outs[first:last]), state_of(states[last])
        for offset in range(len(event)):
            cut = copied(states[first])
            out = cut.feed(before + event[:offset], 0) + cut.feed(event[offset:] + after, 0)
            assert (out, state_of(cut)) == expected, (number, offset)


@pytest.mark.parametrize("call_for", [call_of, bare_call], ids=["as recorded", "nothing asked"])
@pytest.mark.parametrize(("engine", "name"), STREAMS)
def test_reads_of_one_byte_each_give_the_same(
    engine: str, name: str, call_for: Callable[[str, str], TextCall]
) -> None:
    body, call = recorded(engine, name).body, call_for(engine, name)
    single = [body[offset : offset + 1] for offset in range(len(body))]
    assert relayed(ENGINES[engine], call, *single) == relayed(ENGINES[engine], call, body)


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


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("llamacpp", "chat_stream_timings_per_token"),
        ("vllm", "chat_stream_continuous_usage"),
        ("transformers_serve", "chat_stream_usage_true"),
    ],
)
def test_characters_of_several_bytes_cut_anywhere_arrive_whole(engine: str, name: str) -> None:
    body = shortened(recorded(engine, name).body).replace(b'" r', '" é漢🚀 '.encode())
    for call in (call_of(engine, name), bare_call(engine, name)):
        whole = relayed(ENGINES[engine], call, body)
        assert whole.counts == GOLDEN[engine, name]
        assert whole.client + whole.terminal == expected_view(ENGINES[engine], body, call)
        for offset in range(len(body)):
            assert relayed(ENGINES[engine], call, body[:offset], body[offset:]) == whole, offset


@given(stream=streams, bare=st.booleans(), offsets=st.lists(st.integers(0, 30_000), max_size=40))
def test_many_reads_give_the_same(stream: tuple[str, str], *, bare: bool, offsets: list[int]) -> None:
    engine, body = ENGINES[stream[0]], recorded(*stream).body
    call = (bare_call if bare else call_of)(*stream)
    assert relayed(engine, call, *pieces_of(body, offsets)) == relayed(engine, call, body)
