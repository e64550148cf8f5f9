from decimal import Decimal
from uuid import UUID

import pytest

from billing.pricing.charge import charges
from billing.pricing.plan import Content, Plan, Version
from billing.pricing.rating import Rated
from billing.pricing.term import Term
from billing.pricing.unit import UnitPrice


def plan(name: str, *versions: tuple[int, str | None, str | None]) -> Plan:
    """A plan with a fee and a minimum from each instant on."""

    def amount(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    made = [
        Version(effective, Content("", (), amount(fee), amount(minimum)), number)
        for number, (effective, fee, minimum) in enumerate(versions, 1)
    ]
    return Plan(UUID(int=1), name, "USD", 0, tuple(made))


def charged(terms: list[Term], **used: str) -> list[tuple[str, str, int, str]]:
    lines = [
        Rated(name, 1, "golden", "total", 1, UnitPrice(Decimal(amount), 1), Decimal(amount))
        for name, amount in used.items()
    ]
    return [
        (each.kind.value, each.plan, each.version, str(each.amount))
        for each in charges(terms, 100, 200, lines)
    ]


A = plan("a", (0, "500.00", "1000.00"), (150, "600", "2000"))


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([Term(0, None, A)], [("fee", "a", 1, "500.00"), ("minimum", "a", 2, "2000")], id="the first version's fee, the last one's minimum"),
        pytest.param([Term(0, 150, A)], [("fee", "a", 1, "500.00"), ("minimum", "a", 1, "1000.00")], id="a version that begins as the term ends says nothing"),
        pytest.param([Term(150, None, A)], [("fee", "a", 2, "600"), ("minimum", "a", 2, "2000")], id="in full however late the term begins"),
        pytest.param([Term(0, 100, A), Term(200, None, A)], [], id="a term that only touches the period"),
        pytest.param([Term(0, 120, A), Term(160, None, A)], [("fee", "a", 1, "500.00"), ("minimum", "a", 2, "2000")], id="a plan that is taken up again charges once"),
        pytest.param([Term(0, None, plan("late", (130, "5", None)))], [("fee", "late", 1, "5")], id="a plan whose first prices begin inside the period"),
        pytest.param([Term(0, None, plan("plain", (0, None, None)))], [], id="a plan without a fee"),
        pytest.param(
            [Term(0, 120, plan("b", (0, "7", None))), Term(120, None, plan("a", (0, "8", None)))],
            [("fee", "b", 1, "7"), ("fee", "a", 1, "8")],
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
    found = charged([Term(0, None, plan("a", (0, "500", "1000")))], a=used, other="5000")
    assert found == [("fee", "a", 1, "500"), *(("minimum", "a", 1, each) for each in lacking)]


def test_the_true_up_is_exact_to_the_last_of_many_digits() -> None:
    big = plan("a", (0, None, "1000000000"))
    [found] = charged([Term(0, None, big)], a="999999999.999999999999999999999999999999")
    assert found == ("minimum", "a", 1, "1E-30")
