from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import pytest

from billing.clock import BUCKET_US
from billing.errors import Conflict, InvalidInput
from billing.invoicing.period import (
    Cut,
    Period,
    between,
    cut,
    local,
    month_after,
    month_before,
    month_of,
    months_near,
    parse_period,
    parts_of_months,
)
from tests.invoice_kit import at

KOLKATA = ZoneInfo("Asia/Kolkata")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
NOVEMBER = parse_period("2026-11")


@pytest.mark.parametrize(
    ("text", "zone", "start", "end", "title"),
    [
        ("2026-11", UTC, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "November 2026"),
        ("2026-12", UTC, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "December 2026"),
        ("2028-02", UTC, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", "February 2028"),
        ("2026-11", KOLKATA, "2026-10-31T18:30:00Z", "2026-11-30T18:30:00Z", "November 2026"),
        # Half an hour of summer time: +10:30 until the 4th of October, +11 after.
        ("2026-10", LORD_HOWE, "2026-09-30T13:30:00Z", "2026-10-31T13:00:00Z", "October 2026"),
        # Summer time begins at midnight of the 1st: that midnight never is, and the month begins at 01:00.
        (
            "2017-10",
            ZoneInfo("America/Asuncion"),
            "2017-10-01T04:00:00Z",
            "2017-11-01T03:00:00Z",
            "October 2017",
        ),
    ],
)
def test_a_month_is_half_open(text: str, zone: tzinfo, start: str, end: str, title: str) -> None:
    period = parse_period(text, zone=zone)
    assert period == Period(at(start), at(end), text)
    assert (str(period), period.title) == (text, title)
    assert period.holds(at(start))
    assert period.holds(at(end) - 1)
    assert not period.holds(at(end))
    assert not period.holds(at(start) - 1)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "2026-1", "11-2026", "2026-11-01", "2026-11\n", "1926-11"]
)
def test_anything_else_is_no_month(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a month; write for example 2026-11"):
        parse_period(text)


def test_a_span_that_is_no_month_says_what_it_is() -> None:
    span = Period(0, BUCKET_US)
    assert str(span) == span.title == "1970-01-01T00:00:00Z/1970-01-01T00:15:00Z"


def test_the_hour_that_comes_twice_over_midnight_belongs_to_the_month_that_began() -> None:
    # Until 2006 clocks in Cuba went back at 01:00 standard time of a Sunday, as on Saint John's at 00:01.
    zone = ZoneInfo("America/St_Johns")
    period = parse_period("2009-11", zone=zone)
    assert month_of(period.start_us, zone) == period
    for minutes in range(-120, 121):
        found = month_of(period.start_us + minutes * 60_000_000, zone)
        assert found.month == ("2009-11" if minutes >= 0 else "2009-10")


def test_months_have_neighbours() -> None:
    assert (month_before("2026-01"), month_after("2026-12")) == ("2025-12", "2027-01")
    assert (month_before("2026-12"), month_after("2026-01")) == ("2026-11", "2026-02")


def test_a_month_begins_where_the_invoice_before_it_ended_and_ends_where_the_next_begins() -> None:
    begins_us, ends_us = at("2026-10-31T18:30:00Z"), at("2026-12-01T05:00:00Z")
    assert between(NOVEMBER, None, None) == NOVEMBER
    assert between(NOVEMBER, begins_us, ends_us) == Period(begins_us, ends_us, "2026-11")


def test_a_month_that_has_ended_is_cut_whole() -> None:
    assert cut(NOVEMBER, NOVEMBER.end_us, UTC, early=False) == Cut(NOVEMBER, is_early=False)
    assert cut(NOVEMBER, NOVEMBER.end_us, UTC, early=True) == Cut(NOVEMBER, is_early=False)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-24T10:00:00Z", "2026-11-24T10:15:00Z"),
        ("2026-11-24T10:14:59.999Z", "2026-11-24T10:15:00Z"),
        ("2026-11-30T23:50:00Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_an_early_cut_ends_with_the_present_quarter_of_an_hour(now: str, end: str) -> None:
    wanted = Period(NOVEMBER.start_us, at(end), "2026-11")
    assert cut(NOVEMBER, at(now), UTC, early=True) == Cut(wanted, is_early=True)


def test_a_month_that_goes_on_is_refused_with_its_end_in_the_tenants_zone() -> None:
    month = parse_period("2026-11", zone=KOLKATA)
    with pytest.raises(Conflict) as caught:
        cut(month, month.end_us - 1, KOLKATA, early=False)
    assert str(caught.value) == (
        "period 2026-11 has not ended: it ends at 2026-12-01 00:00 Asia/Kolkata (2026-11-30T18:30:00Z). Close it then, "
        "or close it early with --early: what comes later is late usage of that invoice"
    )


@pytest.mark.parametrize("early", [False, True])
def test_a_month_that_has_not_begun_is_refused_also_early(early: bool) -> None:
    with pytest.raises(Conflict, match="has not begun: it begins at 2026-11-01 00:00 UTC"):
        cut(NOVEMBER, NOVEMBER.start_us - 1, UTC, early=early)


def test_an_instant_is_written_in_its_zone() -> None:
    assert local(at("2026-11-30T13:00:00Z"), UTC) == "2026-11-30 13:00 UTC"
    assert local(at("2026-11-30T13:00:00Z"), LORD_HOWE) == (
        "2026-12-01 00:00 Australia/Lord_Howe (2026-11-30T13:00:00Z)"
    )


def test_a_subscription_that_begins_or_ends_within_a_month_of_its_zone_is_warned_of() -> None:
    periods = {month: parse_period(month, zone=KOLKATA) for month in ("2026-11", "2026-12")}
    first, last = at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")
    starts, ends = parts_of_months((first, last), periods, KOLKATA)
    assert starts == (
        "starts_at 2026-11-01T00:00:00Z lies within November 2026, which goes from 2026-11-01 00:00 Asia/Kolkata "
        "(2026-10-31T18:30:00Z) to 2026-12-01 00:00 Asia/Kolkata (2026-11-30T18:30:00Z): fee and minimum of that month are "
        "prorated by the quarters of an hour that the plan holds for; included tokens are not"
    )
    assert ends.startswith("ends_at 2026-12-01T00:00:00Z lies within December 2026, which goes from")
    assert parts_of_months((at("2026-10-31T18:30:00Z"), at("2026-11-30T18:30:00Z")), periods, KOLKATA) == ()
    assert len(parts_of_months((first, None), periods, KOLKATA)) == 1
    assert parts_of_months((first, first), periods, KOLKATA) == (), "it never applies"


def test_months_are_looked_at_with_their_neighbours() -> None:
    assert months_near(["2026-12", "2027-01"]) == {"2026-11", "2026-12", "2027-01", "2027-02"}
