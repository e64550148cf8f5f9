"""How entries stand in a spool's files: ``length u32 | crc32 u32 | payload``, little-endian, one after the other.

A position is a byte offset over all segments of a spool; a segment's file is named by the position it starts at. The
CRC is seeded with the entry's position, so that zeros (what a power loss leaves) and bytes that lie elsewhere never pass
for an entry, and reading can go on after damage.
"""

import struct
import zlib

import msgspec

HEADER_BYTES = 8
ENTRY_BYTES_MAX = 65_535
"""Largest payload. Its length therefore has two zero bytes, which is how a scan finds the next entry after damage."""

_SUFFIX = ".segment"
_DIGITS = 20
_SEED_MASK = 0xFFFF_FFFF
_pack = struct.Struct("<II").pack
_unpack_from = struct.Struct("<II").unpack_from
_crc32 = zlib.crc32


class Framed(msgspec.Struct, frozen=True, gc=False):
    """One entry as it was found: ``[start, end)`` are its positions, header included."""

    start: int
    end: int
    payload: bytes


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes ``[start, end)`` that are no entry although entries follow; ``payload`` holds the first of them."""

    start: int
    end: int
    payload: bytes


class Scan(msgspec.Struct, frozen=True):
    """What a stretch of bytes holds, in order, and the position from which to read on."""

    found: list[Framed | Damage]
    position: int


def frame(payload: bytes, position: int) -> bytes:
    """The bytes to append at ``position``; raises ``ValueError`` when the payload is empty or too large."""
    if not 0 < len(payload) <= ENTRY_BYTES_MAX:
        raise ValueError(f"an entry holds 1 to {ENTRY_BYTES_MAX} bytes, got {len(payload)}")
    return _pack(len(payload), _crc32(payload, position & _SEED_MASK)) + payload


def scan(data: bytes, base: int, *, at_end: bool) -> Scan:
    """The entries of ``data``, which starts at position ``base`` of the spool.

    ``at_end`` says that nothing is written behind ``data`` yet. Then a last piece that is not a whole entry stays unread
    (a torn tail: wait when the writer lives, the end when it is dead), and a bad piece with entries behind it is damage.
    Without ``at_end`` a piece cut off by the end of ``data`` stays unread, and the caller comes back with more.
    """
    found: list[Framed | Damage] = []
    offset = 0
    while True:
        payload = _whole(data, offset, base)
        if payload:
            end = offset + HEADER_BYTES + len(payload)
            found.append(Framed(base + offset, base + end, payload))
            offset = end
            continue
        if not at_end and len(data) - offset < HEADER_BYTES + ENTRY_BYTES_MAX:
            return Scan(found, base + offset)
        following = _next_whole(data, offset + 1, base)
        if following is None:
            return Scan(found, base + offset)
        found.append(damage(data[offset:following], base + offset))
        offset = following


def damage(data: bytes, start: int) -> Damage:
    """The damage of these bytes at a position; of a long stretch only the first 64 KiB are kept."""
    return Damage(start, start + len(data), data[:ENTRY_BYTES_MAX])


def segment_name(start: int) -> str:
    """The file name of the segment that starts at a position; names sort like positions."""
    return f"{start:0{_DIGITS}d}{_SUFFIX}"


def segment_start(name: str) -> int | None:
    """The position at which a segment starts, by its file name; None for any other file."""
    digits, dot, _ = name.partition(_SUFFIX)
    return int(digits) if dot and name == f"{digits}{_SUFFIX}" and _is_position(digits) else None


def _is_position(digits: str) -> bool:
    return len(digits) == _DIGITS and digits.isascii() and digits.isdigit()


def _whole(data: bytes, offset: int, base: int) -> bytes:
    """The payload of the entry at ``offset``; empty when no whole, undamaged entry starts there."""
    start = offset + HEADER_BYTES
    if start > len(data):
        return b""
    length, checksum = _unpack_from(data, offset)
    if not 0 < length <= ENTRY_BYTES_MAX or start + length > len(data):
        return b""
    payload = data[start : start + length]
    return payload if _crc32(payload, (base + offset) & _SEED_MASK) == checksum else b""


def _next_whole(data: bytes, offset: int, base: int) -> int | None:
    zeros = data.find(b"\0\0", offset + 2)
    while zeros >= 0:
        if _whole(data, zeros - 2, base):
            return zeros - 2
        zeros = data.find(b"\0\0", zeros + 1)
    return None
