"""Time as a value: every rule takes an instant as an argument, and only the edge asks a clock for one.

Instants are whole microseconds since 1970-01-01 UTC, held in an ``int``: comparing, storing and bucketing them
is exact. Half-open intervals ``[start, end)`` everywhere.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MICROSECONDS_PER_SECOND = 1_000_000
BUCKET_MINUTES = 15
"""Length of a usage bucket. Every zone since 1990 lies a multiple of 15 minutes from UTC (design.md §7)."""
BUCKET_US = BUCKET_MINUTES * 60 * MICROSECONDS_PER_SECOND

Clock = Callable[[], int]
"""A collaborator that answers the present instant in microseconds since the epoch."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(instant_us: int) -> datetime:
    """The UTC ``datetime`` of an instant in microseconds; exact, no float on the way."""
    return _EPOCH + timedelta(microseconds=instant_us)


def rfc3339(instant_us: int) -> str:
    """An instant for machines: ``2026-11-24T10:00:00Z``, with microseconds only where there are any."""
    return to_datetime(instant_us).isoformat().replace("+00:00", "Z")


def from_datetime(moment: datetime) -> int:
    """The instant in microseconds of an aware ``datetime``; raises ``ValueError`` on a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: write an offset, for example Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def bucket_start(instant_us: int) -> int:
    """The start of the 15-minute bucket that an instant falls into (half-open: a boundary opens its bucket)."""
    return instant_us - instant_us % BUCKET_US


def is_on_grid(instant_us: int) -> bool:
    """Whether an instant lies on the 15-minute grid, as every effective instant of a plan must."""
    return instant_us % BUCKET_US == 0


def month_start(instant_us: int) -> int:
    """The first instant of the UTC month that an instant falls into."""
    moment = to_datetime(instant_us)
    return from_datetime(datetime(moment.year, moment.month, 1, tzinfo=UTC))


def next_month_start(instant_us: int) -> int:
    """The first instant of the UTC month after the one that an instant falls into."""
    moment = to_datetime(month_start(instant_us))
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)  # noqa: PLR2004 - December
    return from_datetime(datetime(year, month, 1, tzinfo=UTC))
