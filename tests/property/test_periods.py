"""Months tile time in every zone there is (billing-rules.md I13)."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.clock import from_datetime, is_on_grid, to_datetime
from billing.invoicing.period import month_after, month_before, month_of, parse_period

YEARS = range(1995, 2036)
ZONES = sorted(available_timezones())
PARTS = 8
"""The zones are looked at in parts, so that a failure is found without the others."""
FIRST_US = from_datetime(datetime(2000, 3, 1, tzinfo=UTC))
LAST_US = from_datetime(datetime(2099, 11, 1, tzinfo=UTC))


@pytest.mark.parametrize("part", range(PARTS))
def test_months_tile_time_in_every_zone_on_the_grid(part: int) -> None:
    for zone in map(ZoneInfo, ZONES[part::PARTS]):
        period = month_of(from_datetime(datetime(YEARS[0], 1, 15, tzinfo=UTC)), zone)
        while int(period.month[:4]) < YEARS[-1]:
            assert is_on_grid(period.start_us), zone
            assert period.start_us < period.end_us, zone
            # The month begins with the first instant whose date is the 1st, and no other month's.
            assert to_datetime(period.start_us).astimezone(zone).day == 1, zone
            assert to_datetime(period.start_us - 1).astimezone(zone).day != 1, zone
            following = month_of(period.end_us, zone)
            assert following.start_us == period.end_us, zone
            assert month_of(period.end_us - 1, zone) == period, zone
            assert (following.month, month_before(following.month)) == (
                month_after(period.month),
                period.month,
            )
            period = following


@settings(deadline=None)
@given(st.sampled_from(ZONES).map(ZoneInfo), st.integers(FIRST_US, LAST_US))
def test_every_instant_is_in_exactly_the_month_it_names(zone: ZoneInfo, instant_us: int) -> None:
    period = month_of(instant_us, zone)
    assert period.holds(instant_us)
    assert parse_period(period.month, zone=zone) == period
    assert not parse_period(month_before(period.month), zone=zone).holds(instant_us)
    assert not parse_period(month_after(period.month), zone=zone).holds(instant_us)
