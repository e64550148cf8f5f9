"""Messages in Anthropic's dialect, however their bytes are cut, broken off, mixed with garbage or filled with nonsense."""

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.components import components
from billing.tokens.dialects.anthropic_meter import MessageReplyMeter, MessageStreamMeter
from billing.tokens.engines import ENGINES, GENERIC
from billing.tokens.usage import Provenance, TokenUsage
from tests.stream_kit import pieces_of

tokens = st.integers(0, 10**6)
optional = st.none() | tokens
engines = st.sampled_from(sorted(ENGINES.values(), key=lambda engine: engine.name))


def framed(kind: str, **members: Any) -> bytes:
    data = msgspec.json.encode({"type": kind} | members)
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[bytes], tuple[int, int | None, int]]:
    """The events of a stream, and its input, cached input and output."""
    fresh, cached, output = draw(st.integers(1, 10**6)), draw(optional), draw(st.integers(1, 10**6))
    begun = {
        "input_tokens": fresh,
        "cache_read_input_tokens": cached,
        "output_tokens": draw(st.integers(0, 8)),
    }
    texts = draw(st.lists(st.text(min_size=1), min_size=1, max_size=4))
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    told = draw(st.sampled_from([{}, {"input_tokens": fresh, "cache_read_input_tokens": cached}]))
    events = [
        framed("message_start", message={"id": "msg_1", "model": "m", "content": [], "usage": begun}),
        framed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(framed("content_block_delta", index=0, delta=delta) for delta in deltas),
        framed("content_block_stop", index=0),
        framed("message_delta", delta={"stop_reason": "end_turn"}, usage=told | {"output_tokens": output}),
        framed("message_stop"),
    ]
    return events, (fresh + (cached or 0), cached, output)


def relayed(pieces: Iterable[bytes]) -> tuple[StreamRelay, bytes]:
    relay = StreamRelay(MessageStreamMeter(GENERIC))
    out = b"".join([relay.feed(piece, 0) for piece in pieces])
    return relay, out + relay.finish(0)


def counts(usage: TokenUsage) -> tuple[int | None, int | None, int | None]:
    return usage.input.value, usage.cached_input.value, usage.output.value


Message = tuple[list[bytes], tuple[int, int | None, int]]


@given(messages(), st.lists(st.integers(0, 10**6), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_reads_cut_anywhere_give_the_same_bytes_and_counts(
    message: Message, offsets: list[int], line_end: bytes
) -> None:
    body = b": ping\n\n".join(message[0]).replace(b"\n", line_end)
    relay, out = relayed(pieces_of(body, offsets))
    assert out + relay.terminal == body
    assert b"message_stop" not in out
    assert counts(relay.meter.usage()) == message[1]
    assert (relay.meter.done, relay.meter.failed) == (True, False)


@given(messages(), st.integers(1, 20))
def test_a_stream_that_breaks_off_takes_no_output_of_its_beginning(message: Message, dropped: int) -> None:
    events, (total, cached, output) = message
    kept = events[:-dropped]
    relay, out = relayed(kept)
    usage = relay.meter.usage()
    assert out == b"".join(kept)
    assert not relay.meter.done
    assert counts(usage)[:2] == ((total, cached) if kept else (None, None))
    assert usage.output.value == (output if dropped == 1 else None)
    assert usage.input.provenance == (
        (Provenance.REPORTED if dropped == 1 else Provenance.RUNNING) if kept else None
    )


garbage = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" ").replace(b"\r", b" "))


@given(messages(), st.lists(garbage, max_size=6), st.randoms(use_true_random=False))
def test_garbage_between_events_reaches_the_client_and_costs_no_count(
    message: Message, junk: list[bytes], random: Any
) -> None:
    events = list(message[0])
    for data in junk:
        events.insert(random.randrange(len(events)), b"data: %b\n\n" % data)
    relay, out = relayed(events)
    assert out + relay.terminal == b"".join(events)
    assert counts(relay.meter.usage()) == message[1]


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=100, max_size=100), st.randoms(use_true_random=False))
def test_a_hundred_streams_at_once_are_counted_apart(messages: list[Message], random: Any) -> None:
    meters = [MessageStreamMeter(GENERIC) for _ in messages]
    left = [iter(events) for events, _ in messages]
    turns = [index for index, (events, _) in enumerate(messages) for _ in events]
    random.shuffle(turns)
    for index in turns:
        meters[index].see(next(left[index]).partition(b"data: ")[2].strip(), 0)
    assert [counts(meter.usage()) for meter in meters] == [expected for _, expected in messages]


nonsense = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
number = tokens | nonsense
split = st.fixed_dictionaries(
    {}, optional={"ephemeral_5m_input_tokens": number, "ephemeral_1h_input_tokens": number}
)
counted = {
    "input_tokens": number, "output_tokens": number, "cache_read_input_tokens": number,
    "cache_creation_input_tokens": number, "cache_creation": split | nonsense,
}  # fmt: skip
kinds = st.sampled_from(["message", "compaction", "advisor_message"])
row = st.fixed_dictionaries(
    {"type": kinds | nonsense}, optional=counted | {"model": st.text(max_size=3) | nonsense}
)
usages = st.fixed_dictionaries({}, optional=counted | {
    "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": number}) | nonsense,
    "server_tool_use": st.fixed_dictionaries({"web_search_requests": number}) | nonsense,
    "iterations": st.lists(row | nonsense, max_size=4) | nonsense,
})  # fmt: skip


def json_text(value: object) -> bytes:
    """JSON text of anything, numbers that are none included, as careless servers write it."""
    if isinstance(value, dict):
        members = [msgspec.json.encode(name) + b":" + json_text(inner) for name, inner in value.items()]
        return b"{" + b",".join(members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(json_text(inner) for inner in value) + b"]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value).replace("inf", "Infinity").replace("nan", "NaN").encode()
    return msgspec.json.encode(value)


def assert_contained(usage: TokenUsage) -> None:
    """No count is negative, no part larger than its whole, and the components add up to what is known."""
    whole, output = usage.input.value, usage.output.value
    for part, limit in ((usage.cached_input, whole), (usage.cache_write, whole), (usage.reasoning, output)):
        assert part.value is None or part.value >= 0
        assert part.value is None or limit is None or part.value <= limit
    for known in usage.parts.values():
        assert known.value is not None
        assert known.value >= 0
    assert components(usage).total == (whole or 0) + (output or 0)


@given(engines, usages | nonsense)
def test_no_usage_of_a_whole_reply_is_a_crash(engine: Any, told: object) -> None:
    meter = MessageReplyMeter(engine, json_text({"id": "msg_1", "content": [], "usage": told}))
    assert_contained(meter.usage())
    assert all(made >= 0 and total > 0 for total, made in meter.other_models().values())
    assert meter.response_id == "msg_1"


@given(engines, st.lists(usages | nonsense, min_size=1, max_size=4))
def test_no_usage_of_a_stream_is_a_crash_and_its_output_never_goes_down(engine: Any, told: list[Any]) -> None:
    meter = MessageStreamMeter(engine)
    meter.see(json_text({"type": "message_start", "message": {"id": "msg_1", "usage": told[0]}}), 0)
    made = 0
    for usage in told[1:]:
        if isinstance(usage, dict):
            usage.pop("iterations", None)
        meter.see(json_text({"type": "message_delta", "delta": {}, "usage": usage}), 0)
        assert_contained(meter.usage())
        assert made <= (meter.usage().output.value or 0)
        made = meter.usage().output.value or 0
    assert meter.response_id == "msg_1"


@given(usages, tokens)
def test_what_does_not_fit_costs_nothing_beside_it(told: dict[str, Any], output: int) -> None:
    told = told | {"input_tokens": 7, "output_tokens": output + 1, "iterations": "none"}
    usage = MessageReplyMeter(GENERIC, json_text({"usage": told})).usage()
    assert (usage.input.value or 0) >= 7
    assert usage.output.value == output + 1
