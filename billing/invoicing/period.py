"""Billing periods: half-open months, in UTC for now."""

import re
from datetime import UTC, datetime

import msgspec

from billing.clock import from_datetime, month_start, next_month_start, to_datetime
from billing.errors import InvalidInput

_MONTH = re.compile(r"(?P<year>20[0-9]{2})-(?P<month>0[1-9]|1[0-2])")


class Period(msgspec.Struct, frozen=True):
    """``[start_us, end_us)``: an event at exactly the end belongs to the next period."""

    start_us: int
    end_us: int

    def __str__(self) -> str:
        return f"{to_datetime(self.start_us):%Y-%m}"

    @property
    def title(self) -> str:
        """The month as people write it: ``November 2026``."""
        return f"{to_datetime(self.start_us):%B %Y}"

    def holds(self, instant_us: int) -> bool:
        """Whether an instant lies inside."""
        return self.start_us <= instant_us < self.end_us


def month_of(instant_us: int) -> Period:
    """The month that an instant falls into."""
    return Period(month_start(instant_us), next_month_start(instant_us))


def parse_period(text: str, where: str = "period") -> Period:
    """The month that ``2026-11`` names; raises ``InvalidInput`` naming ``where`` on any other text."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{where}: {text[:40]!r} is not a month; write for example 2026-11", where)
    return month_of(from_datetime(datetime(int(found["year"]), int(found["month"]), 1, tzinfo=UTC)))
