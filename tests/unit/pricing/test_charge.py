from decimal import Decimal
from uuid import UUID

import pytest

from billing.clock import BUCKET_US
from billing.pricing.charge import Charge, charges
from billing.pricing.coverage import Month
from billing.pricing.plan import Content, Plan, Version
from billing.pricing.rating import Rated
from billing.pricing.term import Term
from billing.pricing.unit import UnitPrice


def plan(name: str, *versions: tuple[int, str | None, str | None]) -> Plan:
    """A plan with a fee and a minimum from each quarter of an hour on."""

    def amount(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    made = [
        Version(effective * BUCKET_US, Content("", (), amount(fee), amount(minimum)), number)
        for number, (effective, fee, minimum) in enumerate(versions, 1)
    ]
    return Plan(UUID(int=1), name, "USD", 0, tuple(made))


def term(starts: int, ends: int | None, of: Plan) -> Term:
    return Term(starts * BUCKET_US, None if ends is None else ends * BUCKET_US, of)


def charges_of(
    terms: list[Term], *, subscribed: list[Term] | None = None, month: Month | None = None, **used: str
) -> tuple[Charge, ...]:
    """What a month of 100 quarters of an hour is charged."""
    lines = [
        Rated(name, 1, "golden", "total", 1, UnitPrice(Decimal(amount), 1), Decimal(amount))
        for name, amount in used.items()
    ]
    return charges(terms, 100 * BUCKET_US, 200 * BUCKET_US, lines, month=month, subscribed=subscribed)


def charged(terms: list[Term], **used: str) -> list[tuple[str, str, int, str]]:
    return [
        (each.kind.value, each.plan, each.version, str(each.amount)) for each in charges_of(terms, **used)
    ]


A = plan("a", (0, "500.00", "1000.00"), (150, "600", "2000"))


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([term(0, None, A)], [("fee", "a", 1, "500.00"), ("minimum", "a", 2, "2000")], id="the first version's fee, the last one's minimum"),
        pytest.param([term(0, 150, A)], [("fee", "a", 1, "250"), ("minimum", "a", 1, "500")], id="a version that begins as the term ends says nothing"),
        pytest.param([term(150, None, A)], [("fee", "a", 2, "300"), ("minimum", "a", 2, "1000")], id="for the part of it that the term covers"),
        pytest.param([term(0, 100, A), term(200, None, A)], [], id="a term that only touches the period"),
        pytest.param([term(0, 120, A), term(160, None, A)], [("fee", "a", 1, "300"), ("minimum", "a", 2, "1200")], id="a plan that is taken up again charges once, for both parts"),
        pytest.param([term(0, None, plan("late", (130, "5", None)))], [("fee", "late", 1, "3.5")], id="a plan whose first prices begin inside the period"),
        pytest.param([term(0, None, plan("plain", (0, None, None)))], [], id="a plan without a fee"),
        pytest.param(
            [term(0, 120, plan("b", (0, "7", None))), term(120, None, plan("a", (0, "8", None)))],
            [("fee", "b", 1, "1.4"), ("fee", "a", 1, "6.4")],
            id="each plan its own, in the order of time",
        ),
    ],
)  # fmt: skip
def test_a_period_is_charged_its_fee_and_minimum_once(
    terms: list[Term], expected: list[tuple[str, str, int, str]]
) -> None:
    assert charged(terms) == expected


@pytest.mark.parametrize(
    ("used", "lacking"),
    [("0", ["1000"]), ("612.3", ["387.7"]), ("999.999999999", ["1E-9"]), ("1000", []), ("2000", [])],
)
def test_the_true_up_is_what_the_usage_lacks_of_the_minimum(used: str, lacking: list[str]) -> None:
    found = charged([term(0, None, plan("a", (0, "500", "1000")))], a=used, other="5000")
    assert found == [("fee", "a", 1, "500"), *(("minimum", "a", 1, each) for each in lacking)]


def test_the_true_up_is_exact_to_the_last_of_many_digits() -> None:
    big = plan("a", (0, None, "1000000000"))
    [found] = charged([term(0, None, big)], a="999999999.999999999999999999999999999999")
    assert found == ("minimum", "a", 1, "1E-30")


def test_the_minimum_of_a_part_of_a_month_is_a_part_of_it_and_usage_fills_that() -> None:
    terms = [term(0, 101, plan("a", (0, None, "100")))]
    [charge] = charges_of(terms, a="0.4")
    assert (charge.agreed, charge.due, charge.amount, str(charge.coverage)) == (
        100,
        1,
        Decimal("0.6"),
        "1/100",
    )
    assert charges_of(terms, a="1") == ()


def test_a_month_that_is_closed_early_is_charged_in_full() -> None:
    terms = [term(0, None, A)]
    whole = Month(100 * BUCKET_US, 300 * BUCKET_US, 200)
    assert [str(each.amount) for each in charges_of(terms, month=whole)] == ["500.00", "2000"]
    ended = [term(0, 250, A)]
    assert [str(each.amount) for each in charges_of(ended, month=whole)] == ["375", "1500"]


def test_what_an_invoice_charged_stays_charged_whatever_prices_the_rest() -> None:
    assert [str(each.amount) for each in charges_of([term(0, 150, A)], subscribed=[term(0, None, A)])] == [
        "500.00",
        "1000.00",
    ]
