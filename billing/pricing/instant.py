"""Instants as people write them, within the years that prices and keys can be about."""

from datetime import UTC, datetime

from billing.clock import from_datetime

YEAR_MIN = 2000
YEAR_MAX = 2200
INSTANT_US_MIN = from_datetime(datetime(YEAR_MIN, 1, 1, tzinfo=UTC))
INSTANT_US_END = from_datetime(datetime(YEAR_MAX + 1, 1, 1, tzinfo=UTC))
"""The first instant after the last year: beyond these bounds lie typing errors, and what a database cannot hold."""


class OutOfYears(ValueError):
    """An instant before or after the years that anything can be about, in UTC."""

    def __init__(self) -> None:
        super().__init__(f"lies outside the years {YEAR_MIN} to {YEAR_MAX} in UTC")


def check_years(instant_us: int) -> int:
    """The instant itself; raises ``OutOfYears`` outside ``YEAR_MIN`` to ``YEAR_MAX``."""
    if not INSTANT_US_MIN <= instant_us < INSTANT_US_END:
        raise OutOfYears
    return instant_us


def parse_instant(text: str) -> int:
    """The instant of ISO 8601 text with its zone, in microseconds.

    Raises ``OutOfYears``, and ``ValueError`` on what is no instant or has no zone.
    """
    return check_years(from_datetime(datetime.fromisoformat(text)))
