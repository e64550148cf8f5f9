"""Invariants of billing-rules.md §4 over random plans of every shape, usage, splits and clocks."""

import fnmatch
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import money
from billing.clock import BUCKET_US
from billing.errors import InvalidInput
from billing.invoicing.draft import draft
from billing.invoicing.period import Period
from billing.invoicing.reconcile import reconcile
from billing.metering.stored import RollupRow
from billing.money import Rounding
from billing.pricing.charge import ChargeKind
from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.measure import REQUEST, WORDS, Word
from billing.pricing.parse_rates import _expand, _pools
from billing.pricing.pattern import can_match_the_same, matches
from billing.pricing.plan import SHORTHANDS, TOTAL, Content, ModelRates, Plan, Version, check_rates, resolve
from billing.pricing.price import Price, pieces
from billing.pricing.rating import Usage, rate
from billing.pricing.term import Term
from billing.pricing.unit import PER_CHOICES, UnitPrice
from billing.tokens.components import Component, Components
from tests.invoice_kit import rollup_row

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no fault of a price."""
BUCKETS = 40
PERIOD = Period(0, BUCKETS * BUCKET_US)

prices = st.decimals(min_value=0, max_value=1000, places=12, allow_nan=False).map(
    lambda price: Decimal(money.plain(price))
)
units = st.builds(UnitPrice, prices, st.sampled_from(PER_CHOICES))
allowances = st.integers(min_value=0, max_value=10**13)
tiers = st.builds(Tier, prices, st.sampled_from(PER_CHOICES))


@st.composite
def graduated_prices(draw: st.DrawFn) -> GraduatedPrice:
    """A price with one to four tiers whose edges lie where random quantities do."""
    edges = [*sorted(draw(st.sets(st.integers(1, 10**15), max_size=3))), None]
    made = tuple(msgspec.structs.replace(draw(tiers), up_to=edge) for edge in edges)
    return GraduatedPrice(made, draw(allowances))


any_prices = (
    units | st.builds(UnitPrice, prices, st.sampled_from(PER_CHOICES), allowances) | graduated_prices()
)
quantities = st.integers(min_value=0, max_value=10**15)
names = st.text("ab-", min_size=1, max_size=5)
patterns = st.text("ab*", min_size=1, max_size=6).filter(lambda text: "**" not in text)
written = st.dictionaries(st.sampled_from([*SHORTHANDS, *Component]), any_prices, min_size=1)
beside = st.dictionaries(st.sampled_from([part for part in Component if not part.is_served]), any_prices)
requests = st.none() | any_prices
entries = st.builds(
    lambda model, prices_of, request: ModelRates(model, _expand(prices_of), None, _pools(prices_of), request),
    patterns,
    written,
    requests,
) | st.builds(
    lambda model, price, prices_of, request: ModelRates(model, _expand(prices_of), price, {}, request),
    patterns,
    any_prices,
    beside,
    requests,
)
instants = st.integers(min_value=0, max_value=BUCKETS - 1).map(lambda number: number * BUCKET_US)
usages = st.builds(Usage, instants, names, st.sampled_from(WORDS), quantities)


def is_unambiguous(rates: Sequence[ModelRates]) -> bool:
    try:
        check_rates(rates, "rates")
    except InvalidInput:
        return False
    return True


rate_lists = st.lists(entries, min_size=1, max_size=5).map(tuple).filter(is_unambiguous)
amounts = st.none() | prices.filter(bool)
contents = st.builds(Content, st.just(""), rate_lists, amounts, amounts)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan with one to four versions at different instants of the period."""
    effective = sorted(draw(st.sets(instants, min_size=1, max_size=4)))
    versions = tuple(Version(instant, draw(contents), number) for number, instant in enumerate(effective, 1))
    return Plan(UUID(int=1), "random", "USD", 0, versions)


terms = plans().map(lambda plan: [Term(0, None, plan)])


def total(usage: Sequence[Usage], priced_by: Sequence[Term]) -> Decimal:
    return money.total([line.amount for line in rate(usage, priced_by).lines])


@relaxed
@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.sampled_from(["JPY", "USD", "KWD"]),
    st.sampled_from(Rounding),
)
def test_i3_minor_units_round_trip(minor: int, currency: str, rounding: Rounding) -> None:
    assert money.to_minor(money.from_minor(minor, currency), currency, rounding) == minor


@relaxed
@given(any_prices, st.lists(quantities, max_size=20))
def test_i4_a_quantity_costs_the_same_however_it_is_split(price: Price, parts: list[int]) -> None:
    starts = [sum(parts[:index]) for index in range(len(parts))]
    split = [cost(price, start, part) for start, part in zip(starts, parts, strict=True)]
    assert money.total(split) == cost(price, 0, sum(parts))


def cost(price: Price, start: int, quantity: int) -> Decimal:
    return money.total([piece.price.amount(piece.quantity) for piece in pieces(price, start, quantity)])


@relaxed
@given(any_prices, quantities, quantities)
def test_i5_more_never_costs_less(price: Price, quantity: int, more: int) -> None:
    assert cost(price, 0, quantity) <= cost(price, 0, quantity + more)


@relaxed
@given(graduated_prices(), st.integers(-1, 1))
def test_i5_at_an_edge_one_token_more_costs_one_token_of_one_tier(price: GraduatedPrice, beside: int) -> None:
    for tier in price.tiers[:-1]:
        quantity = (tier.up_to or 0) + beside
        step = money.difference(price.amount(quantity + 1), price.amount(quantity))
        assert step == price.tiers[tier_of(price, quantity)].unit.amount(1)


def tier_of(price: GraduatedPrice, token: int) -> int:
    """The tier of the token that ``token`` others went before."""
    return sum(tier.up_to is not None and tier.up_to <= token for tier in price.tiers)


@relaxed
@given(st.lists(usages, max_size=30), terms, st.randoms(use_true_random=False))
def test_i4_order_and_batching_of_usage_change_no_line(
    usage: list[Usage], priced_by: list[Term], source: Random
) -> None:
    split = [
        msgspec.structs.replace(each, quantity=part)
        for each in usage
        for part in (each.quantity // 3, each.quantity - each.quantity // 3)
    ]
    source.shuffle(split)
    assert rate(split, priced_by) == rate(usage, priced_by)


@relaxed
@given(rate_lists, names, st.sampled_from(WORDS))
def test_i7_every_model_and_component_resolves_to_exactly_one_rate_or_none(
    rates: tuple[ModelRates, ...], model: str, component: Word
) -> None:
    found = resolve(rates, model, component)
    assert found == resolve(rates[::-1], model, component)
    candidates = [
        entry.model for entry in rates if matches(entry.model, model) and entry.candidate(component)
    ]
    assert (found is None) == (candidates == [])
    if found is not None:
        assert [found] == [entry.candidate(component) for entry in rates if entry.model == found.pattern]


@relaxed
@given(patterns, names)
def test_a_pattern_matches_as_shells_match(pattern: str, model: str) -> None:
    assert matches(pattern, model) == fnmatch.fnmatchcase(model, pattern)


@relaxed
@given(patterns, patterns, names)
def test_two_patterns_that_match_one_name_are_known_to(one: str, other: str, model: str) -> None:
    if matches(one, model) and matches(other, model):
        assert can_match_the_same(one, other)


@relaxed
@given(st.lists(usages, max_size=30), terms, instants)
def test_i8_splitting_a_period_at_any_instant_conserves_cost(
    usage: list[Usage], priced_by: list[Term], cut_us: int
) -> None:
    before = rate([each for each in usage if each.at_us < cut_us], priced_by)
    after = rate([each for each in usage if each.at_us >= cut_us], priced_by, before.positions)
    whole = rate(usage, priced_by)
    assert money.total([before.amount, after.amount]) == whole.amount
    assert after.positions == whole.positions


@relaxed
@given(st.lists(usages, max_size=30), terms, instants)
def test_i8_splitting_a_subscription_at_any_instant_conserves_cost(
    usage: list[Usage], priced_by: list[Term], cut_us: int
) -> None:
    (whole,) = priced_by
    parts = [Term(0, cut_us, whole.plan), Term(cut_us, None, whole.plan)]
    assert rate(usage, parts) == rate(usage, priced_by)


@relaxed
@given(st.lists(usages, max_size=30), plans(), instants)
def test_i9_a_version_equal_to_the_one_in_force_changes_no_cost(
    usage: list[Usage], plan: Plan, effective_us: int
) -> None:
    in_force = plan.version_at(effective_us)
    if in_force is None or in_force.effective_us == effective_us:
        return
    same = Version(effective_us, in_force.content, 99)
    versions = tuple(sorted([*plan.versions, same], key=lambda version: version.effective_us))
    more = msgspec.structs.replace(plan, versions=versions)
    assert total(usage, [Term(0, None, more)]) == total(usage, [Term(0, None, plan)])


@relaxed
@given(st.lists(usages, max_size=30), contents, st.sets(instants, max_size=3))
def test_i6_an_allowance_is_there_once_a_period_however_many_versions_it_has(
    usage: list[Usage], content: Content, cuts: set[int]
) -> None:
    versions = [Version(instant, content, number) for number, instant in enumerate(sorted({0, *cuts}), 1)]
    plan = Plan(UUID(int=1), "random", "USD", 0, tuple(versions))
    rating = rate(usage, [Term(0, None, plan)])
    allowed = {
        (entry.model, pool): price.allowance for entry in content.rates for pool, price in pools_of(entry)
    }
    included = sum(line.quantity for line in rating.lines if line.included)
    assert included == sum(
        min(count, allowed[pool.pattern, pool.word]) for pool, count in rating.positions.items()
    )


def pools_of(entry: ModelRates) -> list[tuple[str, Price]]:
    of_parts = [(entry.pools.get(part, part.value), price) for part, price in entry.prices.items()]
    return of_parts + [
        (word, price) for word, price in ((TOTAL, entry.total), (REQUEST, entry.request)) if price
    ]


@relaxed
@given(st.lists(usages, max_size=30), terms)
def test_shares_of_groups_add_up_to_the_lines(usage: list[Usage], priced_by: list[Term]) -> None:
    grouped = [
        msgspec.structs.replace(each, group=(str(number % 3), "")) for number, each in enumerate(usage)
    ]
    rating = rate(grouped, priced_by)
    assert rating.lines == rate(usage, priced_by).lines
    assert money.total([share.amount for share in rating.shares.values()]) == rating.amount
    without_rate = [share.unrated + sum(share.units_unrated.values()) for share in rating.shares.values()]
    assert sum(without_rate) == sum(each.quantity for each in rating.unrated)


@relaxed
@given(st.lists(usages, max_size=30), plans())
def test_every_quantity_is_in_exactly_one_line_or_unrated_and_costs_what_a_slow_oracle_says(
    usage: list[Usage], plan: Plan
) -> None:
    rating = rate(usage, [Term(0, None, plan)])
    placed = [line.quantity for line in [*rating.lines, *rating.unrated] if line.component != REQUEST]
    assert sum(placed) == sum(each.quantity for each in usage if each.component != REQUEST)
    assert sum((Fraction(line.amount) for line in rating.lines), Fraction(0)) == oracle(usage, plan)


def oracle(usage: list[Usage], plan: Plan) -> Fraction:
    """The cost of usage in fractions, by trying the rules one after the other, version by version and price by price."""
    cost, counted = Fraction(0), dict[tuple[str, str], int]()
    for version in sorted(plan.versions, key=lambda version: version.effective_us):
        used: dict[tuple[str, str], int] = {}
        priced: dict[tuple[str, str], Price] = {}
        for each in usage:
            in_force = [other.effective_us for other in plan.versions if other.effective_us <= each.at_us]
            found = rate_of(each, version) if in_force and max(in_force) == version.effective_us else None
            if found is not None:
                pool, priced[pool] = found
                used[pool] = used.get(pool, 0) + each.quantity
        for pool, quantity in used.items():
            price = priced[pool]
            start = counted.get(pool, 0) if price.is_cumulative else 0
            cost += cost_from_zero(price, start + quantity) - cost_from_zero(price, start)
            if price.is_cumulative:
                counted[pool] = start + quantity
    return cost


def rate_of(usage: Usage, version: Version) -> tuple[tuple[str, str], Price] | None:
    word = str(usage.component)
    wanted = [word]
    if word.endswith("_input") or word == "cache_write":
        wanted.append("uncached_input")
    if word.endswith("_output") or word == "reasoning":
        wanted.append("answer_output")
    rates = version.content.rates
    by_specificity = sorted(
        rates, key=lambda entry: (entry.model.count("*") == 0, len(entry.model.replace("*", "")))
    )
    for entry in reversed(by_specificity):
        if fnmatch.fnmatchcase(usage.model, entry.model):
            if entry.total is not None and len(wanted) > 1:
                return (entry.model, "total"), entry.total
            if word == REQUEST and entry.request is not None:
                return (entry.model, REQUEST), entry.request
            for part in map(Component, wanted if word != REQUEST else []):
                if part in entry.prices:
                    return (entry.model, entry.pools.get(part, part.value)), entry.prices[part]
    return None


def cost_from_zero(price: Price, quantity: int) -> Fraction:
    """What the first tokens of a period cost together: every tier up to where they reach."""
    left = max(0, quantity - price.allowance)
    if isinstance(price, UnitPrice):
        return Fraction(price.price) * left / price.per
    edges = [0, *(tier.up_to or 10**30 for tier in price.tiers)]
    return sum(
        (
            Fraction(tier.price) * max(0, min(left, end) - begin) / tier.per
            for tier, begin, end in zip(price.tiers, edges, edges[1:], strict=False)
        ),
        Fraction(0),
    )


rows = st.builds(
    lambda number, model, outcome, provenance, tokens: msgspec.structs.replace(
        rollup_row("1970-01-01T00:00:00Z", tokens, model=model, outcome=outcome, provenance=provenance),
        bucket_us=number * BUCKET_US,
    ),
    st.integers(min_value=0, max_value=BUCKETS + 2),
    names,
    st.sampled_from(["complete", "client_closed", "upstream_error", "truncated", "interrupted"]),
    st.sampled_from(["reported", "running", "counted", "estimated", "none"]),
    st.builds(Components, *([st.integers(min_value=0, max_value=10**9)] * len(Component))),
)


@relaxed
@given(st.lists(rows, max_size=12), terms, st.randoms(use_true_random=False))
def test_p9_the_same_rows_in_any_order_give_the_same_bytes(
    made: list[RollupRow], priced_by: list[Term], source: Random
) -> None:
    expected = msgspec.json.encode(draft(made, priced_by, PERIOD))
    source.shuffle(made)
    assert msgspec.json.encode(draft(made, priced_by, PERIOD)) == expected


@relaxed
@given(st.lists(rows, max_size=12), terms)
def test_i1_lines_add_up_to_the_subtotal_and_sections_to_the_usage(
    made: list[RollupRow], priced_by: list[Term]
) -> None:
    found = draft(made, priced_by, PERIOD)
    inside = [row for row in made if PERIOD.holds(row.bucket_us)]
    owed = [*found.billed.lines, *found.charges]
    assert sum((Fraction(line.amount) for line in owed), Fraction(0)) == Fraction(found.subtotal)
    assert found.total_minor == money.to_minor(found.subtotal, "USD", Rounding.HALF_EVEN)
    assert found.total_minor == sum(line.amount_minor or 0 for line in owed)
    assert sum(section.requests for section in found.sections) == sum(row.requests for row in inside)
    used = {part: sum(row.components.get(part) for row in inside) for part in Component}
    assert sum(section.tokens for section in found.sections) == sum(
        quantity for part, quantity in used.items() if part.is_tokens
    )
    for part in (part for part in Component if not part.is_tokens):
        assert sum(section.units.get(part, 0) for section in found.sections) == used[part]
    every = [line for section in found.sections for line in (*section.lines, *section.unrated)]
    assert sum(line.quantity for line in every if line.component != REQUEST) == sum(used.values())
    reconciled = reconcile(inside, found)
    assert reconciled.is_equal
    assert reconciled.tokens.used == sum(section.tokens for section in found.sections)
    for section in found.sections:
        assert money.total([reason.amount for reason in section.reasons]) == section.amount


@relaxed
@given(st.lists(rows, max_size=12), terms)
def test_i6_a_minimum_is_reached_and_not_passed(made: list[RollupRow], priced_by: list[Term]) -> None:
    found = draft(made, priced_by, PERIOD)
    [last] = [term.plan.version_at(PERIOD.end_us - 1) for term in priced_by]
    minimum = last.content.minimum if last else None
    true_up = [each.amount for each in found.charges if each.kind is ChargeKind.MINIMUM]
    first = min((version.effective_us for term in priced_by for version in term.plan.versions), default=0)
    covered = (PERIOD.end_us - max(first, 0)) // BUCKET_US
    due = Fraction(minimum or 0)
    if covered < BUCKETS:
        due = Fraction(round(due * covered / BUCKETS * 10**12), 10**12)
    lacking = max(Fraction(0), due - Fraction(found.billed.amount))
    assert sum(map(Fraction, true_up)) == lacking
    assert len(true_up) == (lacking > 0)
