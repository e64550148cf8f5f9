"""A hundred streams of all dialects at once are recorded as each is alone, and nothing that an engine may send breaks a relay."""

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from billing.gateway.relay import Relay, relay_of
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.routes import find
from billing.tokens.engines import ENGINES
from billing.tokens.meter import StreamMeter
from billing.tokens.ndjson import NdjsonFramer
from billing.tokens.sse import SseFramer
from billing.tokens.usage import Outcome, TokenUsage
from tests.native_kit import cut
from tests.property.interleaved_kit import ASSEMBLES, End, Feed, alone, interleaved
from tests.property.interleaved_streams import AUDIO, DONE, LINES, STREAMS, Stream
from tests.property.test_streams import check_invariants

STREAMS_AT_ONCE = 100
NOISE = [
    b": ping\n\n", b":\n\n", b": keep-alive\r\n\r\n", b"data: null\n\n", b"data: hello\n\n", b"data: \xff\xfe\n\n", b"\n\n", b"data: 5\n\n",
    b"event: ping\nid: 1\n\n", b"data: []\n\n", b"data: {\n\n", b"data: [1\n\n", b'data: {"x":"\xc3"}\n\n', b"retry: 5\n\n", b"data\n\n",
]  # fmt: skip
LINE_NOISE = [
    b"\n",
    b"\r\n",
    b"null\n",
    b"[]\n",
    b"5\n",
    b"hello\n",
    b"\xff\xfe\n",
    b"{\n",
    b'{"x":"\xc3"}\n',
    b" \n",
]
RELAYED = [stream for stream in STREAMS if ASSEMBLES not in stream.engine]
EVENTED = [stream for stream in RELAYED if stream.media_type != AUDIO]
streams = st.sampled_from(RELAYED)
evented = st.sampled_from(EVENTED)
unreduced = st.sampled_from([stream for stream in RELAYED if b"response_fields" not in stream.request])
"""Those whose client wants all that the engine says."""
offsets = st.lists(st.integers(0, 50_000), max_size=6)


def noise_of(stream: Stream) -> list[bytes]:
    return LINE_NOISE if stream.media_type == LINES else NOISE


def varied(chance: random.Random, stream: Stream) -> bytes:
    """A stream with noise, other line ends, without its last events, or cut off inside one."""
    parts = stream.events()
    if stream.media_type != AUDIO and chance.random() < 0.4:
        for _ in range(chance.randint(1, 5)):
            parts.insert(chance.randrange(len(parts)), chance.choice(noise_of(stream)))
    if chance.random() < 0.3:
        del parts[len(parts) - chance.randint(1, len(parts)) :]
    body = b"".join(parts)
    if chance.random() < 0.2:
        body = body[: chance.randint(0, len(body))]
    return body.replace(b"\n", b"\r\n") if chance.random() < 0.2 else body


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**64))
def test_a_hundred_streams_at_once_are_each_recorded_and_relayed_as_alone(seed: int) -> None:
    chance = random.Random(seed)
    feeds, expected = [], []
    for stream in chance.choices(STREAMS, k=STREAMS_AT_ONCE):
        body = varied(chance, stream)
        end = chance.choice([End.WHOLE, End.WHOLE, *End])
        places = [chance.randint(0, len(body)) for _ in range(chance.randint(0, 12))]
        feeds.append(Feed(stream, [piece for piece in cut(body, places) if piece], end))
        expected.append(alone(stream, body, end))
    turns = [number for number, feed in enumerate(feeds) for _ in feed.pieces]
    chance.shuffle(turns)
    for feed, got, wanted in zip(feeds, interleaved(feeds, turns), expected, strict=True):
        assert got.record == wanted.record, feed
        # What a client that leaves has got by then depends on what was on its way, and so does audio that breaks off.
        depends = feed.end is End.LEFT or (feed.stream.media_type == AUDIO and feed.end is not End.WHOLE)
        assert depends or (got.status, got.body) == (wanted.status, wanted.body), feed


BREAKS_OFF = ("abort", "disconnect", "error", "response_fields", "vlm")
"""In the names of those that were recorded without their end."""


def test_every_stream_is_one_that_the_gateway_asks_for_and_finds_complete() -> None:
    """Else the other tests here would compare nothing but refusals."""
    for stream in STREAMS:
        seen = alone(stream, stream.body)
        if not any(word in stream.name for word in BREAKS_OFF):
            assert (seen.status, seen.record.outcome) == (200, Outcome.COMPLETE), stream


def call_of(stream: Stream) -> Call:
    path, body = stream.sent()
    route = find(path)
    assert route is not None
    return route.parse(Asked(route.operation, path, body, stream.content_type))


def relay_for(stream: Stream) -> Relay:
    call = call_of(stream)
    return relay_of(call.framing, call.stream_meter(ENGINES[stream.engine]))


def state_of(meter: StreamMeter) -> tuple[TokenUsage, bool, bool, bool]:
    return meter.usage(), meter.finished, meter.failed, meter.done


def relayed_bytes(relay: Relay, piece: bytes) -> bytes:
    """What a piece sends on, be it at once or when the record is written."""
    held = len(relay.terminal)
    out = relay.feed(piece, 0)
    return out + relay.terminal[held:]


garbage = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ").replace(b"\r", b" "))


@settings(max_examples=200, deadline=None)
@given(evented, st.lists(garbage, max_size=4), st.randoms(use_true_random=False), offsets)
def test_noise_between_events_reaches_the_client_as_it_came_and_changes_no_count(
    stream: Stream, junk: list[bytes], chance: random.Random, places: list[int]
) -> None:
    template = b"%b\n" if stream.media_type == LINES else b"data: %b\n\n"
    noise = [*(template % data for data in junk), *chance.choices(noise_of(stream), k=4)]
    clean, noisy, sent, expected = relay_for(stream), relay_for(stream), b"", b""
    for event in stream.events():
        for _ in range(chance.choice([0, 0, 1, 2])):
            piece = chance.choice(noise)
            sent, expected = sent + piece, expected + piece
        sent, expected = sent + event, expected + relayed_bytes(clean, event)
    held = len(clean.terminal)
    expected += clean.finish(0) + clean.terminal[held:]
    got = b"".join([noisy.feed(piece, 0) for piece in cut(sent, places)]) + noisy.finish(0) + noisy.terminal
    assert got == expected
    assert state_of(noisy.meter) == state_of(clean.meter)


no_events = st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ \r\ndatu10e-.null', max_size=80).map(
    str.encode
)


def whole_events(stream: Stream, body: bytes) -> bytes:
    """A body up to the end of its last event; audio without its last piece."""
    if stream.media_type == AUDIO:
        return b""
    framer = NdjsonFramer() if stream.media_type == LINES else SseFramer()
    return b"".join(framer.feed(body))


@settings(max_examples=200, deadline=None)
@given(streams, no_events, st.sampled_from(End), offsets)
def test_bytes_that_are_no_stream_reach_the_client_unchanged_and_are_one_record(
    stream: Stream, body: bytes, end: End, places: list[int]
) -> None:
    pieces = [piece for piece in cut(body, places) if piece]
    (seen,) = interleaved([Feed(stream, pieces, end)], [0] * len(pieces))
    check_invariants(seen.record.usage)
    if end is End.LEFT:
        assert body.startswith(seen.body)
        assert seen.record.outcome is Outcome.CLIENT_CLOSED
    else:
        # What follows is the gateway's own error, in the place of an event that is not there to its end.
        assert seen.body.startswith(whole_events(stream, body))


numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(unreduced, no_events | values.map(lambda value: json.dumps(value).encode()), offsets)
def test_a_whole_reply_of_any_bytes_passes_as_it_came_and_is_one_record(
    stream: Stream, body: bytes, places: list[int]
) -> None:
    """Also to one who asked for a stream: engines answer so what they do not stream."""
    pieces = [piece for piece in cut(body, places) if piece]
    (seen,) = interleaved([Feed(stream._replace(media_type=b"application/json"), pieces)], [0] * len(pieces))
    assert (seen.status, seen.body, seen.record.outcome) == (200, body, Outcome.COMPLETE)
    check_invariants(seen.record.usage)


SAYS_NOTHING: list[Any] = [
    None,
    {},
    [],
    0,
    "",
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
]
ABSURD: list[Any] = [
    True,
    -1,
    2**63,
    2**70,
    1e308,
    0.5,
    "5",
    "\ud7ff",
    [None],
    [[]],
    {"a": {}},
    {"input_tokens": -5},
]


def spoiled(chance: random.Random, value: Any) -> Any:
    """A JSON value with some of what stands in it taken out, emptied or replaced."""
    if chance.random() < 0.08:
        return chance.choice(SAYS_NOTHING + ABSURD)
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if chance.random() > 0.04}
        return {name: spoiled(chance, inner) for name, inner in kept.items()}
    return [spoiled(chance, inner) for inner in value] if isinstance(value, list) else value


def spoiled_events(chance: random.Random, stream: Stream) -> Iterator[bytes]:
    """Its events, some spoiled, lost, doubled, cut off or joined."""
    for event in stream.events():
        head, brace, rest = event.partition(b"{")
        try:
            value = msgspec.json.decode(brace + rest)
        except msgspec.DecodeError:
            value = None
        if value is not None and chance.random() < 0.5:
            tail = event[len(event.rstrip()) :]
            event = head + msgspec.json.encode(spoiled(chance, value)) + tail  # noqa: PLW2901 - the same event, spoiled
        kind = chance.random()
        if kind > 0.05:
            yield event[: chance.randint(0, len(event))] if kind > 0.95 else event
        if kind > 0.9:
            yield chance.choice([event, DONE, b"\n", *noise_of(stream)])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([one for one in STREAMS if one.media_type != AUDIO]),
    st.randoms(use_true_random=False),
    offsets,
)
def test_no_payload_is_a_crash_and_each_is_one_record_without_contradictions(
    stream: Stream, chance: random.Random, places: list[int]
) -> None:
    body = b"".join(spoiled_events(chance, stream))
    pieces = [piece for piece in cut(body, places) if piece]
    (seen,) = interleaved([Feed(stream, pieces, chance.choice(list(End)))], [0] * len(pieces))
    check_invariants(seen.record.usage)
    assert seen.status in {200, 500, 502}
