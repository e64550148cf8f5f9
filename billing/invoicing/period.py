"""Billing periods: half-open months of a tenant's time zone, exact in UTC.

Zones are an argument: which one a name means is looked up at the edge. A month begins at local midnight of its 1st.
Where the clock jumps over that midnight it begins with the jump, and where midnight comes twice with the first, so that
months tile time in every zone, on the 15-minute grid (tests/property/test_periods.py looks at all of them).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo

import msgspec

from billing.clock import BUCKET_US, bucket_start, from_datetime, to_datetime
from billing.errors import Conflict, InvalidInput
from billing.pricing.coverage import Month, quarters_between

_MONTH = re.compile(r"(?P<year>20[0-9]{2})-(?P<month>0[1-9]|1[0-2])")
_DECEMBER = 12


class Period(msgspec.Struct, frozen=True):
    """``[start_us, end_us)``: an event at exactly the end belongs to the next period.

    ``month`` is the name of the month that it is or is a part of, ``2026-11``; empty for a span that is neither.
    """

    start_us: int
    end_us: int
    month: str = ""

    def __str__(self) -> str:
        return self.month or f"{instant(self.start_us)}/{instant(self.end_us)}"

    @property
    def title(self) -> str:
        """The month as people write it: ``November 2026``."""
        return f"{datetime(*_numbers(self.month), 1, tzinfo=UTC):%B %Y}" if self.month else str(self)

    def holds(self, instant_us: int) -> bool:
        """Whether an instant lies inside."""
        return self.start_us <= instant_us < self.end_us


def month_of(instant_us: int, zone: tzinfo = UTC) -> Period:
    """The month that an instant falls into in a zone."""
    local = to_datetime(instant_us).astimezone(zone)
    found = _month(local.year, local.month, zone)
    # Where the clock goes back over midnight of a 1st, the hour that comes twice belongs to the new month.
    return found if found.holds(instant_us) else _month(*_following(local.year, local.month), zone)


def parse_period(text: str, where: str = "period", zone: tzinfo = UTC) -> Period:
    """The month that ``2026-11`` names in a zone; raises ``InvalidInput`` naming ``where`` on any other text."""
    if _MONTH.fullmatch(text) is None:
        raise InvalidInput(f"{where}: {text[:40]!r} is not a month; write for example 2026-11", where)
    return _month(*_numbers(text), zone)


def month_before(month: str) -> str:
    """The name of the month before."""
    year, number = _numbers(month)
    return _name(year - 1, _DECEMBER) if number == 1 else _name(year, number - 1)


def month_after(month: str) -> str:
    """The name of the month after."""
    return _name(*_following(*_numbers(month)))


def between(period: Period, begins_us: int | None, ends_us: int | None) -> Period:
    """The period between its neighbours that are invoiced: where the one before ended, and the one after begins.

    They differ from local midnight only when the tenant's zone was changed in between; without this, the hours between
    the two midnights would be billed twice or never.
    """
    start_us = period.start_us if begins_us is None else begins_us
    end_us = period.end_us if ends_us is None else ends_us
    return Period(start_us, end_us, period.month)


def charged_month(period: Period, zone: tzinfo) -> Month:
    """What fees of a month are prorated by: its time as it is invoiced, and the length of the calendar month in a zone."""
    calendar = parse_period(period.month, zone=zone)
    return Month(period.start_us, period.end_us, quarters_between(calendar.start_us, calendar.end_us))


def part_of_month(name: str, instant_us: int, period: Period, zone: tzinfo) -> str | None:
    """What follows when a plan starts or ends at an instant within a month; None where the month begins or ends.

    ``period`` is the month as it is invoiced, ``name`` what the instant is called.
    """
    if instant_us in {period.start_us, period.end_us}:
        return None
    return (
        f"{name} {instant(instant_us)} lies within {period.title}, which goes from {local(period.start_us, zone)} to "
        f"{local(period.end_us, zone)}: fee and minimum of that month are prorated by the quarters of an hour that the plan "
        "holds for; included tokens are not"
    )


def parts_of_months(
    span: tuple[int, int | None], periods: Mapping[str, Period], zone: tzinfo
) -> tuple[str, ...]:
    """What follows when a subscription's span starts or ends within a month; nothing of one that never applies.

    ``periods`` are the months of both ends by their names, as they are invoiced.
    """
    if span[0] == span[1]:
        return ()
    said = [
        part_of_month(name, instant_us, periods[month_of(instant_us, zone).month], zone)
        for name, instant_us in zip(("starts_at", "ends_at"), span, strict=True)
        if instant_us is not None
    ]
    return tuple(text for text in said if text is not None)


def months_near(months: Iterable[str]) -> set[str]:
    """Months by their names, with the ones before and after each."""
    return {name for month in months for name in (month_before(month), month, month_after(month))}


class Cut(msgspec.Struct, frozen=True):
    """What an invoice covers: its period, and whether the month still goes on after it."""

    period: Period
    is_early: bool


def cut(month: Period, now_us: int, zone: tzinfo, *, early: bool) -> Cut:
    """What an invoice of a month covers when it is closed now: all of it, or, early, up to the next quarter of an hour.

    Raises ``Conflict`` naming the zone and the end when the month has not ended, or has not begun.
    """
    if now_us >= month.end_us:
        return Cut(month, is_early=False)
    if now_us < month.start_us:
        raise Conflict(f"period {month} has not begun: it begins at {local(month.start_us, zone)}")
    if not early:
        raise Conflict(
            f"period {month} has not ended: it ends at {local(month.end_us, zone)}. Close it then, or close it early "
            "with --early: what comes later is late usage of that invoice"
        )
    end_us = min(month.end_us, bucket_start(now_us) + BUCKET_US)
    return Cut(Period(month.start_us, end_us, month.month), is_early=True)


def local(instant_us: int, zone: tzinfo) -> str:
    """An instant as messages write it: the time in a zone, the zone, and the same in UTC when that is another."""
    text = f"{to_datetime(instant_us).astimezone(zone):%Y-%m-%d %H:%M} {zone}"
    return text if zone is UTC else f"{text} ({instant(instant_us)})"


def instant(instant_us: int) -> str:
    """An instant in UTC, to the second: ``2026-12-01T00:00:00Z``."""
    return f"{to_datetime(instant_us):%Y-%m-%dT%H:%M:%SZ}"


def _month(year: int, month: int, zone: tzinfo) -> Period:
    return Period(_midnight(year, month, zone), _midnight(*_following(year, month), zone), _name(year, month))


def _midnight(year: int, month: int, zone: tzinfo) -> int:
    # fold=0 reads a midnight that comes twice as the first, and one that is jumped over by the offset before the jump.
    return from_datetime(datetime(year, month, 1, tzinfo=zone))


def _following(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == _DECEMBER else (year, month + 1)


def _numbers(month: str) -> tuple[int, int]:
    return int(month[:4]), int(month[5:])


def _name(year: int, month: int) -> str:
    return f"{year:04}-{month:02}"
