import pytest

from billing.pricing.instant import OutOfYears, check_years, parse_instant
from tests.invoice_kit import at


@pytest.mark.parametrize(
    "text", ["2000-01-01T00:00:00Z", "2026-11-24T10:00:00+05:30", "2200-12-31T23:45:00Z"]
)
def test_an_instant_lies_in_the_years_that_anything_is_about(text: str) -> None:
    assert parse_instant(text) == at(text) == check_years(at(text))


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1999-12-31T23:45:00Z",
        "2000-01-01T00:00:00+00:15",
        "2201-01-01T00:00:00Z",
        "9999-12-31T23:45:00-14:00",
    ],
)
def test_a_far_year_is_refused(text: str) -> None:
    with pytest.raises(OutOfYears, match="lies outside the years 2000 to 2200 in UTC"):
        parse_instant(text)


@pytest.mark.parametrize("text", ["", "soon", "2026-11-24T10:00:00"])
def test_what_is_no_instant_or_has_no_zone_is_another_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|has no time zone"):
        parse_instant(text)
