from decimal import Decimal
from itertools import permutations
from uuid import UUID

import pytest

from billing.pricing.plan import Content, ModelRates, Plan, Version
from billing.pricing.rating import Priced, Term, Unpriced, Unrated, Usage, price_at, rate
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import at

UNCACHED, CACHED, WRITE, ANSWER, REASONING = Component
JANUARY, FEBRUARY, MARCH = at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")


def plan(name: str, *versions: tuple[int, str]) -> Plan:
    """A plan that prices the input of ``golden`` per 1,000 tokens, by a price from each instant on."""
    made = [
        Version(
            effective_us,
            Content("", (ModelRates("golden", {UNCACHED: UnitPrice(Decimal(price), 1_000)}),)),
            number,
        )
        for number, (effective_us, price) in enumerate(versions, 1)
    ]
    return Plan(UUID(int=len(name)), name, "USD", 0, tuple(made))


DEMO = Term(JANUARY, None, plan("demo", (JANUARY, "0.50"), (FEBRUARY, "0.40")))


def priced(at_us: int, *terms: Term) -> str | Unpriced:
    found = price_at(terms, at_us, "golden", UNCACHED)
    return f"{found.plan} v{found.version.number} {found.rate.price}" if isinstance(found, Priced) else found


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [
        pytest.param(JANUARY, "demo v1 0.5 per 1,000", id="from its first instant"),
        pytest.param(FEBRUARY - 1, "demo v1 0.5 per 1,000", id="the old price until the last microsecond"),
        pytest.param(FEBRUARY, "demo v2 0.4 per 1,000", id="the new price from the instant itself"),
        pytest.param(JANUARY - 1, Unpriced.NO_PLAN, id="before the subscription there is no plan"),
    ],
)
def test_the_price_in_force_at_the_time_of_use_applies(at_us: int, expected: str | Unpriced) -> None:
    assert priced(at_us, DEMO) == expected


def test_one_plan_follows_another_at_the_end_of_its_term() -> None:
    old = Term(JANUARY, FEBRUARY, plan("old", (JANUARY, "1")))
    new = Term(FEBRUARY, None, plan("new", (JANUARY, "2")))
    assert priced(FEBRUARY - 1, old, new) == "old v1 1 per 1,000"
    assert priced(FEBRUARY, old, new) == "new v1 2 per 1,000"
    assert priced(FEBRUARY, old) is Unpriced.NO_PLAN


def test_a_plan_whose_first_version_comes_later_has_no_prices_yet() -> None:
    assert priced(JANUARY, Term(JANUARY, None, plan("late", (FEBRUARY, "1")))) is Unpriced.NO_VERSION


def test_a_model_that_no_version_names_has_no_rate() -> None:
    assert price_at([DEMO], JANUARY, "silver", UNCACHED) is Unpriced.NO_RATE
    assert price_at([DEMO], JANUARY, "golden", ANSWER) is Unpriced.NO_RATE


USAGE = [
    Usage(JANUARY, "golden", UNCACHED, 1_000),
    Usage(JANUARY + 900_000_000, "golden", UNCACHED, 234),
    Usage(FEBRUARY, "golden", UNCACHED, 10),
    Usage(FEBRUARY, "golden", CACHED, 20),
    Usage(FEBRUARY, "golden", ANSWER, 7),
    Usage(FEBRUARY, "silver", UNCACHED, 5),
    Usage(JANUARY - 1, "golden", UNCACHED, 3),
    Usage(FEBRUARY, "golden", REASONING, 0),
]


def test_usage_becomes_a_line_per_version_model_and_component() -> None:
    rating = rate(USAGE, [DEMO])
    assert [
        (each.plan, each.version, each.model, each.component, each.quantity, str(each.amount))
        for each in rating.lines
    ] == [
        ("demo", 1, "golden", UNCACHED, 1_234, "0.61700"),
        ("demo", 2, "golden", UNCACHED, 10, "0.00400"),
        ("demo", 2, "golden", CACHED, 20, "0.00800"),
    ]
    assert rating.unrated == (
        Unrated("golden", UNCACHED, 3, Unpriced.NO_PLAN),
        Unrated("golden", ANSWER, 7, Unpriced.NO_RATE),
        Unrated("silver", UNCACHED, 5, Unpriced.NO_RATE),
    )


def test_no_order_of_usage_changes_the_lines() -> None:
    expected = rate(USAGE, [DEMO])
    assert all(rate([*order, *USAGE[6:]], [DEMO]) == expected for order in permutations(USAGE[:6]))


def test_nothing_used_is_nothing_billed() -> None:
    assert rate([], [DEMO]).lines == rate([], []).lines == ()
