import zlib

import pytest

from billing.metering.segment import (
    ENTRY_BYTES_MAX,
    HEADER_BYTES,
    Damage,
    Framed,
    frame,
    scan,
    segment_name,
    segment_start,
)

BASE = 1_000
PAYLOADS = [b"one", b"two", b"a third, longer payload", b"\0\0\0\0", b"last"]


def framed(payloads: list[bytes], base: int = BASE) -> bytes:
    data = b""
    for payload in payloads:
        data += frame(payload, base + len(data))
    return data


def payloads_of(data: bytes, *, at_end: bool = True) -> list[bytes]:
    found = scan(data, BASE, at_end=at_end).found
    return [item.payload for item in found if isinstance(item, Framed)]


def test_an_entry_is_length_checksum_and_payload() -> None:
    checksum = zlib.crc32(b"payload", 7)
    assert frame(b"payload", 7) == b"\x07\0\0\0" + checksum.to_bytes(4, "little") + b"payload"


@pytest.mark.parametrize("size", [0, ENTRY_BYTES_MAX + 1])
def test_an_empty_or_huge_payload_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="an entry holds 1 to 65535 bytes"):
        frame(bytes(size), 0)


def test_the_largest_payload_is_read_back() -> None:
    largest = bytes(ENTRY_BYTES_MAX)
    assert payloads_of(framed([largest, b"next"])) == [largest, b"next"]


def test_entries_are_found_with_their_positions() -> None:
    result = scan(framed([b"one", b"three"]), BASE, at_end=True)
    assert result.found == [
        Framed(BASE, BASE + HEADER_BYTES + 3, b"one"),
        Framed(BASE + 11, BASE + 24, b"three"),
    ]
    assert result.position == BASE + 24


@pytest.mark.parametrize("at_end", [True, False])
def test_a_tail_torn_at_any_byte_is_left_unread(*, at_end: bool) -> None:
    data = framed(PAYLOADS)
    whole = len(framed(PAYLOADS[:-1]))
    for cut in range(whole, len(data)):
        result = scan(data[:cut], BASE, at_end=at_end)
        assert [item.payload for item in result.found] == PAYLOADS[:-1]
        assert result.position == BASE + whole


def test_a_tail_of_zeros_is_no_entry() -> None:
    """A power loss may leave a file longer than its data, filled with zeros."""
    result = scan(framed(PAYLOADS) + bytes(4_096), BASE, at_end=True)
    assert [item.payload for item in result.found] == PAYLOADS
    assert result.position == BASE + len(framed(PAYLOADS))


def test_zeros_at_the_start_of_a_spool_are_no_entry() -> None:
    assert scan(bytes(64), 0, at_end=True).found == []


@pytest.mark.parametrize("broken", range(len(framed(PAYLOADS[:2])), len(framed(PAYLOADS[:3]))))
def test_one_flipped_byte_costs_one_entry_and_is_reported(broken: int) -> None:
    data = bytearray(framed(PAYLOADS))
    data[broken] ^= 0xFF
    start, end = BASE + len(framed(PAYLOADS[:2])), BASE + len(framed(PAYLOADS[:3]))
    result = scan(bytes(data), BASE, at_end=True)
    assert payloads_of(bytes(data)) == [*PAYLOADS[:2], *PAYLOADS[3:]]
    assert [(d.start, d.end) for d in result.found if isinstance(d, Damage)] == [(start, end)]


def test_bytes_that_lie_at_another_position_are_no_entry() -> None:
    assert scan(framed([b"one", b"two"], BASE), BASE + 1, at_end=True).found == []


def test_an_entry_behind_a_hole_is_found_at_its_own_position() -> None:
    data = bytes(37) + frame(b"behind", BASE + 37)
    result = scan(data, BASE, at_end=True)
    assert [type(item) for item in result.found] == [Damage, Framed]
    assert result.found[0] == Damage(BASE, BASE + 37, bytes(37))


def test_without_the_end_a_large_piece_that_is_no_entry_is_damage_too() -> None:
    data = b"\xff" * (ENTRY_BYTES_MAX * 2) + frame(b"behind", BASE + ENTRY_BYTES_MAX * 2)
    result = scan(data, BASE, at_end=False)
    assert isinstance(result.found[0], Damage)
    assert len(result.found[0].payload) == ENTRY_BYTES_MAX
    assert payloads_of(data, at_end=False) == [b"behind"]


def test_segments_are_named_by_their_start_and_sort_like_it() -> None:
    names = [segment_name(start) for start in (0, 9, 16 << 20, 1 << 62)]
    assert names == sorted(names)
    assert [segment_start(name) for name in names] == [0, 9, 16 << 20, 1 << 62]


@pytest.mark.parametrize(
    "name", ["lock", "reserve", "", "1.segment", "00000000000000000000.segment.bak", "x" * 20 + ".segment"]
)
def test_other_files_are_no_segments(name: str) -> None:
    assert segment_start(name) is None
