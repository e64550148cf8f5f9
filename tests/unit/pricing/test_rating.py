from decimal import Decimal
from itertools import permutations
from uuid import UUID

import pytest

from billing.pricing.parse import parse
from billing.pricing.plan import Content, ModelRates, Plan, Version
from billing.pricing.rating import Pool, Priced, Rating, Share, Unrated, Usage, price_at, rate
from billing.pricing.term import Term, Unpriced
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import at

UNCACHED, CACHED, WRITE, ANSWER, REASONING, *_ = Component
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
        # At risk: by the nearest version, 3 × 0.50 / 1,000; nobody can say; by the version in force, 5 × 0.40 / 1,000.
        Unrated("golden", UNCACHED, 3, Unpriced.NO_PLAN, Decimal("0.0015")),
        Unrated("golden", ANSWER, 7, Unpriced.NO_RATE, None),
        Unrated("silver", UNCACHED, 5, Unpriced.NO_RATE, Decimal("0.002")),
    )


def test_no_order_of_usage_changes_the_lines() -> None:
    expected = rate(USAGE, [DEMO])
    assert all(rate([*order, *USAGE[6:]], [DEMO]) == expected for order in permutations(USAGE[:6]))


def test_nothing_used_is_nothing_billed() -> None:
    assert rate([], [DEMO]).lines == rate([], []).lines == ()


# Input: 10 included, then 10 at 3, then 1 each. Output: 5 included, then 2 each. Of every model together.
TIERED = """\
  - effective: {since}
    per: 1
    rates:
      - model: "*"
        input: {{tiers: [{{up_to: 10, price: {dear}}}, {{price: 1}}], allowance: 10}}
        output: {{price: 2, allowance: 5}}
"""


def tiered(name: str = "tiered", *since: tuple[str, int]) -> Plan:
    texts = [
        TIERED.format(since=instant, dear=dear) for instant, dear in since or [("2026-01-01T00:00:00Z", 3)]
    ]
    found = parse(f"plan: {name}\ncurrency: USD\nversions:\n{''.join(texts)}")
    versions = [
        Version(each.effective_us, each.content, number) for number, each in enumerate(found.versions, 1)
    ]
    return Plan(UUID(int=1), name, "USD", 0, tuple(versions))


def shown(rating: Rating) -> list[tuple[int, str, str, int, str, str]]:
    return [
        (each.version, each.model, each.component, each.quantity, tier(each.tier, included=each.included), str(each.amount))
        for each in rating.lines
    ]  # fmt: skip


def tier(number: int | None, *, included: bool) -> str:
    return "included" if included else "-" if number is None else f"tier {number}"


def test_what_one_price_prices_climbs_its_tiers_and_uses_its_allowance_together() -> None:
    usage = [
        Usage(JANUARY, "b", UNCACHED, 8),
        Usage(JANUARY, "a", UNCACHED, 7),
        Usage(JANUARY, "b", CACHED, 9),
        Usage(JANUARY, "a", ANSWER, 4),
        Usage(JANUARY, "a", REASONING, 4),
    ]
    # Filled: uncached input of a (7), of b (8), cached input of b (9): 10 included, 10 at 3, 4 at 1.
    expected = [
        (1, "a", "uncached_input", 7, "included", "0"),
        (1, "a", "answer_output", 4, "included", "0"),
        (1, "a", "reasoning", 1, "included", "0"),
        (1, "a", "reasoning", 3, "-", "6"),
        (1, "b", "uncached_input", 3, "included", "0"),
        (1, "b", "uncached_input", 5, "tier 0", "15"),
        (1, "b", "cached_input", 5, "tier 0", "15"),
        (1, "b", "cached_input", 4, "tier 1", "4"),
    ]
    for order in permutations(usage):
        rating = rate(order, [Term(JANUARY, None, tiered())])
        assert shown(rating) == expected
        assert rating.positions == {Pool("tiered", "*", "input"): 24, Pool("tiered", "*", "output"): 8}


def test_a_pool_goes_on_from_one_version_to_the_next() -> None:
    plan = tiered("tiered", ("2026-01-01T00:00:00Z", 3), ("2026-02-01T00:00:00Z", 7))
    usage = [Usage(FEBRUARY, "a", UNCACHED, 20), Usage(JANUARY, "a", UNCACHED, 12)]
    # January: 10 included, 2 of the first tier; February: the other 8 of it at the new price, then 12 of the second.
    assert shown(rate(usage, [Term(JANUARY, None, plan)])) == [
        (1, "a", "uncached_input", 10, "included", "0"),
        (1, "a", "uncached_input", 2, "tier 0", "6"),
        (2, "a", "uncached_input", 8, "tier 0", "56"),
        (2, "a", "uncached_input", 12, "tier 1", "12"),
    ]


def test_an_allowance_is_there_once_although_a_version_between_has_none() -> None:
    plan = tiered("tiered", ("2026-01-01T00:00:00Z", 3), ("2026-03-01T00:00:00Z", 3))
    flat = Version(FEBRUARY, Content("", (ModelRates("*", {UNCACHED: UnitPrice(Decimal(1), 1)}),)), 3)
    plan = Plan(plan.id, plan.name, "USD", 0, (plan.versions[0], flat, plan.versions[1]))
    usage = [Usage(each, "a", UNCACHED, 10) for each in (JANUARY, FEBRUARY, MARCH)]
    assert [(each.included, each.amount) for each in rate(usage, [Term(JANUARY, None, plan)]).lines] == [
        (True, Decimal(0)),
        (False, Decimal(30)),
        (False, Decimal(10)),
    ]


def test_another_plan_starts_anew_and_the_same_one_taken_up_again_does_not() -> None:
    usage = [Usage(each, "a", UNCACHED, 10) for each in (JANUARY, FEBRUARY, MARCH)]
    terms = [
        Term(JANUARY, FEBRUARY, tiered("one")),
        Term(FEBRUARY, MARCH, tiered("two")),
        Term(MARCH, None, tiered("one")),
    ]
    found = [(each.plan, each.included, each.amount) for each in rate(usage, terms).lines]
    assert found == [("one", True, 0), ("one", False, 30), ("two", True, 0)]


def test_shares_say_what_each_group_costs_of_the_pools_they_share() -> None:
    usage = [
        Usage(JANUARY, "a", UNCACHED, 12, ("complete", "reported")),
        Usage(JANUARY, "a", UNCACHED, 3, ("client_closed", "running")),
        Usage(0, "a", UNCACHED, 5, ("complete", "reported")),
    ]
    rating = rate(usage, [Term(JANUARY, None, tiered())])
    # client_closed goes first: 3 included; then 7 included and 5 at 3.
    assert rating.shares == {
        ("client_closed", "running"): Share(Decimal(0), 0),
        ("complete", "reported"): Share(Decimal(15), 5),
    }
    assert rating.amount == Decimal(15)


def test_pools_go_on_from_where_they_are_said_to_stand() -> None:
    first = rate([Usage(JANUARY, "a", UNCACHED, 15)], [Term(JANUARY, None, tiered())])
    second = rate([Usage(JANUARY, "a", UNCACHED, 6)], [Term(JANUARY, None, tiered())], first.positions)
    assert [(each.quantity, each.tier) for each in second.lines] == [(5, 0), (1, 1)]
    assert second.positions == {Pool("tiered", "*", "input"): 21}


def test_total_is_one_line_a_model() -> None:
    content = Content("", (ModelRates("*", {}, UnitPrice(Decimal("0.5"), 1)),))
    terms = [Term(JANUARY, None, Plan(UUID(int=1), "blended", "USD", 0, (Version(JANUARY, content, 1),)))]
    usage = [Usage(JANUARY, "a", each, 10) for each in Component if each.is_served]
    assert shown(rate(usage, terms)) == [(1, "a", "total", 100, "-", "50.0")]


def test_an_estimate_that_lacks_a_part_is_none() -> None:
    content = Content("", (ModelRates("a", {ANSWER: UnitPrice(Decimal(1), 1)}),))
    wider = Content(
        "", (ModelRates("a", {ANSWER: UnitPrice(Decimal(1), 1), UNCACHED: UnitPrice(Decimal(1), 1)}),)
    )
    plan = Plan(UUID(int=1), "p", "USD", 0, (Version(JANUARY, content, 1), Version(FEBRUARY, wider, 2)))
    usage = [Usage(JANUARY, "b", UNCACHED, 10), Usage(FEBRUARY, "b", UNCACHED, 10)]
    assert [each.at_risk for each in rate(usage, [Term(JANUARY, None, plan)]).unrated] == [None]
    assert [each.at_risk for each in rate(usage[1:], [Term(JANUARY, None, plan)]).unrated] == [Decimal(10)]


def terms_of(*rates: str) -> list[Term]:
    text = f"plan: units\ncurrency: USD\nversions: [{{effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{', '.join(rates)}]}}]"
    [version] = parse(text).versions
    stored = Version(version.effective_us, version.content, 1)
    return [Term(JANUARY, None, Plan(UUID(int=1), "units", "USD", 0, (stored,)))]


def test_kinds_without_a_price_of_their_own_climb_the_tiers_of_the_whole() -> None:
    terms = terms_of('{model: "*", input: {allowance: 5, tiers: [{up_to: 10, price: 2}, {price: 1}]}}')
    usage = [Usage(JANUARY, "a", UNCACHED, 10), Usage(JANUARY, "a", Component.AUDIO_INPUT, 20)]
    found = rate(usage, terms)
    assert shown(found) == [
        (1, "a", "uncached_input", 5, "included", "0"),
        (1, "a", "uncached_input", 5, "tier 0", "0.010"),
        (1, "a", "audio_input", 5, "tier 0", "0.010"),
        (1, "a", "audio_input", 15, "tier 1", "0.015"),
    ]
    assert found.positions == {Pool("units", "*", "input"): 30}


def test_units_have_tiers_and_an_allowance_of_their_own() -> None:
    terms = terms_of(
        "{model: a, second: {allowance: 60, tiers: [{up_to: 100, price: 2}, {price: 1}]}, image: 0.04}"
    )
    usage = [
        Usage(JANUARY, "a", Component.SECOND, 100),
        Usage(FEBRUARY, "a", Component.SECOND, 70),
        Usage(JANUARY, "a", Component.IMAGE, 3),
    ]
    assert shown(rate(usage, terms)) == [
        (1, "a", "image", 3, "-", "0.12"),
        (1, "a", "second", 60, "included", "0"),
        (1, "a", "second", 100, "tier 0", "200"),
        (1, "a", "second", 10, "tier 1", "10"),
    ]


def test_requests_cost_something_only_where_a_plan_says_so_and_are_never_unrated() -> None:
    usage = [Usage(JANUARY, model, "request", 7) for model in ("a", "b")]
    assert shown(rate(usage, terms_of("{model: a, request: 0.50}"))) == [(1, "a", "request", 7, "-", "3.5")]
    for nobody in ([], [DEMO], terms_of("{model: b, request: {price: 1, allowance: 10}}")):
        assert rate(usage[:1], nobody) == Rating((), (), {}, {})


def test_a_unit_without_a_rate_is_unrated_and_at_risk_only_if_the_version_prices_it() -> None:
    terms = terms_of("{model: a, input: 1, second: 2}")
    usage = [
        Usage(JANUARY, "b", Component.SECOND, 5, ("complete", "")),
        Usage(JANUARY, "b", Component.IMAGE, 3, ("complete", "")),
        Usage(JANUARY, "b", Component.TRAINING, 4, ("complete", "")),
    ]
    found = rate(usage, terms)
    assert found.unrated == (
        Unrated("b", Component.TRAINING, 4, Unpriced.NO_RATE),
        Unrated("b", Component.IMAGE, 3, Unpriced.NO_RATE),
        Unrated("b", Component.SECOND, 5, Unpriced.NO_RATE, Decimal(10)),
    )
    # Tokens and units are counted apart.
    units = {Component.IMAGE: 3, Component.SECOND: 5}
    assert found.shares == {("complete", ""): Share(Decimal(0), 4, units)}


def test_lines_stand_with_tokens_first_and_requests_last() -> None:
    terms = terms_of('{model: "*", total: 1, training: 1, second: 1, request: 1}')
    words = [Component.SECOND, "request", Component.TRAINING, ANSWER, Component.AUDIO_OUTPUT]
    found = rate([Usage(JANUARY, "a", word, 10) for word in words], terms)
    assert [(line.component, line.quantity) for line in found.lines] == [
        ("total", 20),
        ("training", 10),
        ("second", 10),
        ("request", 10),
    ]
