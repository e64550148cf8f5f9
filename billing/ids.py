"""Identifiers: UUIDv7 (RFC 9562 §5.7), made before the work starts, so that the id is the idempotency key everywhere.

A usage record's time is the time inside its id (design.md §4). Randomness and the instant are arguments.
"""

from collections.abc import Callable
from uuid import UUID

NewId = Callable[[], UUID]
"""A collaborator that makes the next id; the edge wires it to a clock and a source of randomness."""

RANDOM_BYTES = 10
"""Bytes of randomness that :func:`uuid7` consumes (74 bits are used)."""

_MILLISECOND_US = 1_000
_INSTANT_MS_MAX = (1 << 48) - 1


def uuid7(instant_us: int, random: bytes) -> UUID:
    """A UUIDv7 of an instant (microseconds since the epoch; the id holds milliseconds) and 10 random bytes.

    Raises ``ValueError`` when the instant does not fit 48 bits of milliseconds or the randomness is short.
    """
    milliseconds = instant_us // _MILLISECOND_US
    if not 0 <= milliseconds <= _INSTANT_MS_MAX:
        raise ValueError(f"instant {instant_us} µs is outside what a UUIDv7 can hold")
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"{RANDOM_BYTES} random bytes are needed, got {len(random)}")
    noise = int.from_bytes(random, "big")
    high = (milliseconds << 16) | 0x7000 | (noise >> 68 & 0xFFF)
    low = 0x8000_0000_0000_0000 | (noise & 0x3FFF_FFFF_FFFF_FFFF)
    return UUID(int=(high << 64) | low)


def instant_of(usage_id: UUID) -> int:
    """The instant inside a UUIDv7, in microseconds at millisecond precision; raises ``ValueError`` on another version."""
    if usage_id.version != 7:  # noqa: PLR2004 - the version this system makes
        raise ValueError(f"{usage_id} is a UUID of version {usage_id.version}, not 7: it holds no time")
    return (usage_id.int >> 80) * _MILLISECOND_US


def floor_of(instant_us: int) -> UUID:
    """The smallest 128-bit value whose first 48 bits are an instant's milliseconds: a partition's bound, not an id."""
    return UUID(int=(instant_us // _MILLISECOND_US) << 80)
