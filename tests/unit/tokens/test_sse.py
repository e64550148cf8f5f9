"""Server-sent events are cut at blank lines however reads fall, and their bytes give the stream back."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.sse import DONE, EVENT_BYTES_MAX, SseFramer, data_of, with_data

STREAM = b': ping\n\nevent: x\ndata: {"a":1}\n\ndata: one\ndata: two\n\nid: 7\n\ndata: [DONE]\n\n'
EVENTS = [
    b": ping\n\n",
    b'event: x\ndata: {"a":1}\n\n',
    b"data: one\ndata: two\n\n",
    b"id: 7\n\n",
    b"data: [DONE]\n\n",
]
LINE_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def framed(*pieces: bytes) -> list[bytes]:
    framer = SseFramer()
    events = [event for piece in pieces for event in framer.feed(piece)]
    rest = framer.rest()
    return [*events, rest] if rest else events


def test_events_are_cut_at_blank_lines() -> None:
    assert framed(STREAM) == EVENTS


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_each_line_end_cuts_the_same_events(line_end: bytes) -> None:
    assert framed(STREAM.replace(b"\n", line_end)) == [event.replace(b"\n", line_end) for event in EVENTS]


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_one_byte_at_a_time_loses_nothing_and_finds_the_same_data(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    events = framed(*(stream[at : at + 1] for at in range(len(stream))))
    assert b"".join(events) == stream
    assert [data for data in map(data_of, events) if data] == [
        b'{"a":1}', b"one\ntwo", DONE,
    ]  # fmt: skip


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: 1\n\r\ndata: 2\r\n\ndata: 3\r\r\ndata: 4\n\rdata: 5\r\r\n"
    assert [data_of(event) for event in framed(stream)] == [b"1", b"2", b"3", b"4", b"5"]


def test_one_crlf_is_never_taken_for_a_blank_line() -> None:
    assert framed(b"data: 1\r\ndata: 2\r\n\r\n") == [b"data: 1\r\ndata: 2\r\n\r\n"]
    assert framed(b"data: 1\r", b"\ndata: 2\r\n\r\n") == [b"data: 1\r\ndata: 2\r\n\r\n"]


def test_a_crlf_blank_line_cut_between_its_two_bytes_still_belongs_to_its_event() -> None:
    assert framed(b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n") == [b"data: 1\r\n\r\n", b"data: 2\r\n\r\n"]


def test_what_follows_the_last_blank_line_waits_and_is_given_back_once() -> None:
    framer = SseFramer()
    assert framer.feed(b"data: 1\n\ndata: 2") == [b"data: 1\n\n"]
    assert repr(framer) == "<SseFramer tail=7 B>"
    assert framer.rest() == b"data: 2"
    assert framer.rest() == b""
    assert repr(framer) == "<SseFramer tail=0 B>"


def test_empty_pieces_change_nothing() -> None:
    assert framed(b"", STREAM[:9], b"", STREAM[9:], b"") == EVENTS


@given(
    stream=st.text(alphabet="\r\na", max_size=24).map(str.encode),
    cuts=st.lists(st.integers(0, 24), max_size=8),
)
def test_any_line_ends_cut_anywhere_give_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(stream)]
    assert framed(*(stream[start:end] for start, end in pairwise(places))) == framed(stream)


SECONDS_MAX = 3.0
LARGE = {
    "one long line": b"data: " + b"x" * (6 << 20) + b"\n\n",
    "many lines": b"data: x\n" * (6 << 17) + b"\n",
    "many lines that end in CR": b"a\r" * (3 << 20) + b"\r\n",
}


@pytest.mark.parametrize("event", LARGE.values(), ids=LARGE)
def test_a_large_event_in_small_reads_takes_time_by_its_size_and_not_by_its_square(event: bytes) -> None:
    pieces = [event[at : at + 512] for at in range(0, len(event), 512)]
    begin = time.process_time()
    assert framed(*pieces) == [event]
    assert time.process_time() - begin < SECONDS_MAX


def test_what_waits_for_its_end_is_counted() -> None:
    framer = SseFramer()
    for piece in (b"data: 1\n\ndata", b": 2\r", b""):
        framer.feed(piece)
    assert len(framer.tail) == 8
    framer.feed(b"\n\r\n")
    assert len(framer.tail) == 0


def test_an_event_of_exactly_the_largest_size_is_still_framed() -> None:
    long = b"data: " + b"x" * (EVENT_BYTES_MAX - 6)
    framer = SseFramer()
    assert framer.feed(long) == []
    assert framer.feed(b"\n\n") == [long + b"\n\n"]
    assert not framer.overflowed


def test_an_event_above_the_largest_size_passes_unframed_and_no_byte_is_kept() -> None:
    long = b"data: " + b"x" * EVENT_BYTES_MAX
    framer = SseFramer()
    assert framer.feed(long) == [long]
    assert framer.overflowed
    assert repr(framer) == "<SseFramer tail=0 B overflowed>"
    assert b"".join([*framer.feed(b"yyy"), *framer.feed(b"\n\ndata: 1\n\n"), framer.rest()]) == (
        b"yyy\n\ndata: 1\n\n"
    )


def test_after_an_event_above_the_largest_size_the_next_ones_are_framed_again() -> None:
    framer = SseFramer()
    framer.feed(b"data: " + b"x" * EVENT_BYTES_MAX)
    assert framer.feed(b"\n\ndata: 1\n\ndata: [DONE]\n\n")[-2:] == [b"data: 1\n\n", b"data: [DONE]\n\n"]


DATA = {
    "one line, a space after the colon": (b"data: x\n\n", b"x"),
    "one line, no space": (b"data:x\n\n", b"x"),
    "only one space is taken off": (b"data:  x\n\n", b" x"),
    "several lines are joined by LF": (b"data: a\ndata: b\n\n", b"a\nb"),
    "only one space is taken off, and none behind": (b"data:  x \r\n\r\n", b" x "),
    "other fields are not data": (b"event: e\nid: 1\nretry: 5\ndata: x\n\n", b"x"),
    "a comment is not data": (b": data: no\n\n", b""),
    "a field whose name begins like data is another": (b"data2: x\ndatabase: y\n\n", b""),
    "a space before the name makes it another": (b" data: x\n\n", b""),
    "data without a colon is an empty line of data": (b"data\n\n", b""),
    "CRLF": (b"data: x\r\n\r\n", b"x"),
    "CR": (b"data: x\r\r", b"x"),
    "a colon inside the value stays": (b'data: {"a":"b: c"}\n\n', b'{"a":"b: c"}'),
    "no blank line at the end": (b"data: x", b"x"),
    "one line end at the end": (b"data: x\n", b"x"),
    "half of a CRLF before it": (b"\ndata: x\r\n\r\n", b"x"),
    "nothing": (b"\n\n", b""),
    "empty data": (b"data: \n\n", b""),
    "a comment before data": (b": ping\ndata: x\n\n", b"x"),
    "a byte order mark at the stream's beginning": (b"\xef\xbb\xbfdata: x\n\n", b"x"),
}


@pytest.mark.parametrize(("event", "data"), DATA.values(), ids=DATA)
def test_data_of_an_event(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


EDITED = {
    "a plain event": (b"data: old\n\n", b"data: new\n\n"),
    "without the space": (b"data:old\n\n", b"data: new\n\n"),
    "other lines stay before it": (
        b": c\nevent: e\ndata: old\nid: 3\n\n",
        b": c\nevent: e\nid: 3\ndata: new\n\n",
    ),
    "two data lines become one": (b"data: o\ndata: ld\n\n", b"data: new\n\n"),
    "CRLF": (b"event: e\r\ndata: old\r\n\r\n", b"event: e\ndata: new\n\n"),
    "an unfinished event is finished": (b"data: old", b"data: new\n\n"),
}


@pytest.mark.parametrize(("event", "edited"), EDITED.values(), ids=EDITED)
def test_an_event_with_other_data(event: bytes, edited: bytes) -> None:
    assert with_data(event, b"new") == edited
    assert data_of(edited) == b"new"
