from decimal import Decimal
from uuid import UUID

import pytest

from billing.pricing.plan import Content, ModelRates, Plan, Version
from billing.pricing.term import Gap, Held, Term, Unpriced, gaps, in_force, nearest
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component

CONTENT = Content("", (ModelRates("*", {Component.UNCACHED_INPUT: UnitPrice(Decimal(1), 1)}),))


def plan(name: str, *effective: int) -> Plan:
    versions = tuple(Version(each, CONTENT, number) for number, each in enumerate(effective, 1))
    return Plan(UUID(int=1), name, "USD", 0, versions)


TERMS = [Term(100, 200, plan("a", 50, 150)), Term(300, None, plan("b", 400))]


def named(held: Held | Unpriced | None) -> str:
    return f"{held.plan.name}{held.version.number}" if isinstance(held, Held) else str(held)


@pytest.mark.parametrize(
    ("instant", "expected"),
    [(99, "no plan"), (100, "a1"), (149, "a1"), (150, "a2"), (199, "a2"), (200, "no plan"), (300, "no prices yet"), (400, "b1")],
)  # fmt: skip
def test_a_version_is_in_force_from_its_instant_within_its_term(instant: int, expected: str) -> None:
    assert named(in_force(TERMS, instant)) == expected


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        pytest.param(0, "a1", id="before everything the first is nearest"),
        pytest.param(160, "a2", id="the one in force is nearest"),
        pytest.param(299, "a2", id="99 after a2's last instant, 101 before b1's first"),
        pytest.param(310, "b1", id="90 before b1's first instant"),
        pytest.param(299 + 1, "b1", id="100 from b1, 101 from a2"),
    ],
)
def test_the_nearest_version_in_time(instant: int, expected: str) -> None:
    assert named(nearest(TERMS, instant)) == expected


def test_of_two_equally_near_the_earlier_is_nearest() -> None:
    terms = [Term(0, 10, plan("a", 0)), Term(19, None, plan("b", 0))]
    assert named(nearest(terms, 14)) == "a1"


def test_without_a_version_none_is_nearest() -> None:
    assert nearest([], 5) is None
    assert nearest([Term(0, 10, plan("late", 20))], 5) is None


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(100, 200, (), id="a version all the time"),
        pytest.param(
            50, 500, (Gap(50, 100, Unpriced.NO_PLAN), Gap(200, 300, Unpriced.NO_PLAN), Gap(300, 400, Unpriced.NO_VERSION, "b")),
            id="before, between and before the first version",
        ),
        pytest.param(320, 350, (Gap(320, 350, Unpriced.NO_VERSION, "b"),), id="the first version comes later"),
        pytest.param(0, 100, (Gap(0, 100, Unpriced.NO_PLAN),), id="before everything"),
    ],
)  # fmt: skip
def test_gaps_are_where_no_version_is_in_force(start: int, end: int, expected: tuple[Gap, ...]) -> None:
    assert gaps(TERMS, start, end) == expected
    for gap in expected:
        assert in_force(TERMS, gap.start_us) == in_force(TERMS, gap.end_us - 1) == gap.reason


def test_a_plan_without_a_version_is_a_gap() -> None:
    assert gaps([Term(0, 50, plan("empty"))], 0, 50) == (Gap(0, 50, Unpriced.NO_VERSION, "empty"),)
