"""Lines of JSON are cut at line ends however reads fall, and their bytes give the stream back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.ndjson import LINE_BYTES_MAX, NdjsonFramer
from billing.tokens.sse import Unframed

LINES = [b'{"a":1}\n', b"\n", '{"b":"é漢🚀"}\n'.encode(), b'{"c":"a\\nb"}\r\n', b"no JSON\n"]
STREAM = b"".join(LINES)
SECONDS_MAX = 3.0


def framed(*pieces: bytes) -> list[bytes]:
    framer = NdjsonFramer()
    lines = [line for piece in pieces for line in framer.feed(piece)]
    rest = framer.rest()
    return [*lines, rest] if rest else lines


def test_lines_keep_their_ends() -> None:
    assert framed(STREAM) == LINES


@pytest.mark.parametrize("offset", range(len(STREAM) + 1))
def test_two_reads_cut_anywhere_give_the_same_lines(offset: int) -> None:
    assert framed(STREAM[:offset], STREAM[offset:]) == LINES


def test_one_byte_at_a_time_gives_the_same_lines() -> None:
    assert framed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == LINES


@given(pieces=st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"\r\n", b"{}"]), max_size=20))
def test_any_bytes_come_back_and_only_the_last_lacks_its_end(pieces: list[bytes]) -> None:
    lines = framed(*pieces)
    assert b"".join(lines) == b"".join(pieces)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines[:-1])


def test_a_cr_alone_ends_no_line() -> None:
    assert framed(b"a\rb\n") == [b"a\rb\n"]


def test_what_follows_the_last_line_end_waits_and_is_given_back_once() -> None:
    framer = NdjsonFramer()
    assert framer.feed(b"{}\n{") == [b"{}\n"]
    assert repr(framer) == "<NdjsonFramer tail=1 B>"
    assert framer.rest() == b"{"
    assert framer.rest() == b""


def test_a_large_line_in_small_reads_takes_time_by_its_size_and_not_by_its_square() -> None:
    line = b"x" * (6 << 20) + b"\n"
    begin = time.process_time()
    assert framed(*(line[at : at + 256] for at in range(0, len(line), 256))) == [line]
    assert time.process_time() - begin < SECONDS_MAX


def test_what_waits_for_its_end_is_counted() -> None:
    framer = NdjsonFramer()
    for piece in (b"{}\n{", b'"a"', b""):
        framer.feed(piece)
    assert len(framer.tail) == 4
    framer.feed(b":1}\n")
    assert len(framer.tail) == 0


def test_a_line_of_exactly_the_largest_size_is_still_framed() -> None:
    framer = NdjsonFramer()
    assert framer.feed(b"x" * LINE_BYTES_MAX) == []
    assert framer.feed(b"\n") == [b"x" * LINE_BYTES_MAX + b"\n"]


def test_a_line_above_the_largest_size_passes_unframed_and_the_next_ones_are_framed_again() -> None:
    framer = NdjsonFramer()
    long = b"x" * (LINE_BYTES_MAX + 1)
    assert framer.feed(long) == [long]
    assert repr(framer) == "<NdjsonFramer tail=0 B overflowed>"
    assert framer.feed(b"") == []
    assert framer.feed(b"yy") == [b"yy"]
    parts = framer.feed(b"z\n{}\n{")
    assert parts == [b"z\n", b"{}\n"]
    assert [isinstance(part, Unframed) for part in parts] == [True, False]
    assert (framer.overflowed, framer.rest()) == (False, b"{")
