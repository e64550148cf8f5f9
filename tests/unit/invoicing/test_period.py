import pytest

from billing.errors import InvalidInput
from billing.invoicing.period import Period, month_of, parse_period
from tests.invoice_kit import at


@pytest.mark.parametrize(
    ("text", "start", "end", "title"),
    [
        ("2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "November 2026"),
        ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "December 2026"),
        ("2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", "February 2028"),
    ],
)
def test_a_month_is_half_open(text: str, start: str, end: str, title: str) -> None:
    period = parse_period(text)
    assert period == Period(at(start), at(end))
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


def test_months_tile_time() -> None:
    period = month_of(at("2026-01-15T12:00:00Z"))
    for _ in range(36):
        following = month_of(period.end_us)
        assert following.start_us == period.end_us
        assert month_of(period.end_us - 1) == period
        period = following
