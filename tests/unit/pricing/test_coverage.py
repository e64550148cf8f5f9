from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money
from billing.clock import BUCKET_US
from billing.invoicing.period import charged_month, parse_period
from billing.pricing.coverage import Coverage, Month, coverages, quarters_between
from billing.pricing.plan import Content, Plan, Version
from billing.pricing.term import Term

QUARTERS = 30 * 24 * 4
MONTH = Month(0, QUARTERS * BUCKET_US, QUARTERS)


def plan(name: str, effective: int | None = 0) -> Plan:
    versions = () if effective is None else (Version(effective * BUCKET_US, Content("", ()), 1),)
    return Plan(UUID(int=1), name, "USD", 0, versions)


def term(starts: int, ends: int | None, of: Plan) -> Term:
    return Term(starts * BUCKET_US, None if ends is None else ends * BUCKET_US, of)


A, B = plan("a"), plan("b")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([term(-5, None, A)], {"a": None}, id="all of the month"),
        pytest.param([term(0, QUARTERS, A)], {"a": None}, id="all of it to the quarter of an hour"),
        pytest.param([term(-9, 22, A)], {"a": "22/2880 from 0 to 22"}, id="a sliver at its beginning"),
        pytest.param([term(2858, None, A)], {"a": "22/2880 from 2858 to 2880"}, id="a sliver at its end"),
        pytest.param([term(0, 10, A), term(20, 30, A)], {"a": "20/2880 from 0 to 30"}, id="with a gap"),
        pytest.param([term(0, 10, A), term(10, None, B)], {"a": "10/2880 from 0 to 10", "b": "2870/2880 from 10 to 2880"}, id="two plans share it"),
        pytest.param([term(0, 1000, A), term(500, None, A)], {"a": None}, id="what two terms cover counts once"),
        pytest.param([term(0, None, plan("late", 2000))], {"late": "880/2880 from 2000 to 2880"}, id="from its first prices on"),
        pytest.param([term(0, None, plan("empty", None)), term(-9, 0, A), term(2880, None, B)], {}, id="nothing of it"),
    ],
)  # fmt: skip
def test_a_plan_covers_the_quarters_that_its_prices_hold_for(
    terms: list[Term], expected: dict[str, str | None]
) -> None:
    found = {
        name: each
        and f"{each} from {quarters_between(0, each.start_us)} to {quarters_between(0, each.end_us)}"
        for name, each in coverages(terms, MONTH).items()
    }
    assert found == expected


@pytest.mark.parametrize(("hours", "share"), [(13, None), (0, None), (-13, "2828/2880")])
def test_a_change_of_the_zone_costs_nobody_more_than_a_month_or_than_its_time(
    hours: int, share: str | None
) -> None:
    changed = Month(0, (QUARTERS + 4 * hours) * BUCKET_US, QUARTERS)
    (found,) = coverages([term(0, None, A)], changed).values()
    assert (found and str(found)) == share


def test_a_month_of_the_first_format_is_charged_in_full() -> None:
    assert coverages([term(2858, None, A)], Month(0, MONTH.end_us, None)) == {"a": None}


@pytest.mark.parametrize(
    ("zone", "month", "quarters"),
    [
        ("UTC", "2026-11", 2_880),
        ("Europe/Berlin", "2026-10", 2_980),
        ("Europe/Berlin", "2026-03", 2_972),
        ("Australia/Lord_Howe", "2026-10", 2_974),
        ("America/New_York", "2026-11", 2_884),
        ("Asia/Kolkata", "2028-02", 2_784),
    ],
)
def test_a_month_has_the_quarters_that_its_clock_shows(zone: str, month: str, quarters: int) -> None:
    found = charged_month(parse_period(month, zone=ZoneInfo(zone)), ZoneInfo(zone))
    assert found.quarters == quarters == quarters_between(found.start_us, found.end_us)


def test_a_share_of_an_amount_is_exact_to_the_twelfth_decimal() -> None:
    assert Coverage(22, 2_976, 0, 0).share(Decimal("500.00")) == Decimal("3.696236559140")
    assert Coverage(1_440, 2_880, 0, 0).share(Decimal("20.00")) == 10
    assert Coverage(1, 3, 0, 0).share(Decimal("0.000000000000000001")) == 0
    with pytest.raises(ValueError, match="more than 18 decimals"):
        Coverage(1, 3, 0, 0).share(Decimal("1E-19"))


@given(
    st.decimals(min_value=0, max_value=1_000_000, places=12),
    st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=7),
)
def test_parts_of_several_plans_are_off_by_less_than_half_a_last_decimal_each(
    amount: Decimal, parts: list[int]
) -> None:
    whole = sum(parts)
    shares = [Fraction(Coverage(part, whole, 0, 0).share(amount)) for part in parts]
    assert abs(sum(shares) - Fraction(amount)) <= Fraction(len(parts), 2 * 10**12)


def test_three_thirds_of_a_fee_miss_half_a_minor_unit() -> None:
    third = Coverage(992, 2_976, 0, 0).share(Decimal("0.025"))
    assert money.total([third] * 3) == Decimal("0.024999999999")


@given(
    st.decimals(min_value=0, max_value=1_000_000_000, places=2),
    st.sampled_from([2_688, 2_784, 2_880, 2_972, 2_974, 2_976, 2_980, 2_884]),
    st.integers(min_value=0, max_value=2_688),
)
def test_parts_that_make_a_month_make_the_amount(amount: Decimal, whole: int, part: int) -> None:
    one, other = (Coverage(each, whole, 0, 0).share(amount) for each in (part, whole - part))
    assert money.total([one, other]) == amount
    assert abs(Fraction(one) - Fraction(amount) * part / whole) <= Fraction(1, 2 * 10**12)
