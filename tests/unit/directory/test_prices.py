"""What prices a tenant's usage, in a worker's memory: terms by tenant, and whether reasoning costs something of its own."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from billing.clock import BUCKET_US
from billing.directory.prices import ASKED_MAX, PlanHead, PlanVersion, Prices, Subscribed
from billing.pricing.parse import parse
from billing.pricing.plan import Content
from billing.pricing.term import Held, in_force

TENANT, OTHER = UUID(int=1), UUID(int=2)
HEAD = PlanHead(UUID(int=5), "gold", "USD", 0, version=1)
START_US = 2_000_000 * BUCKET_US


def content(rates: str) -> Content:
    text = f"plan: p\ncurrency: USD\nversions:\n  - {{effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{rates}]}}\n"
    return parse(text).versions[0].content


def version(rates: str, number: int = 1, effective_us: int = 0, head: PlanHead = HEAD) -> PlanVersion:
    raw = msgspec.Raw(msgspec.json.encode(content(rates)))
    return PlanVersion(head.id, number, effective_us, raw, version=number)


def subscribed(**changes: Any) -> Subscribed:
    row = Subscribed(UUID(int=7), TENANT, HEAD.id, START_US, None, version=1)
    return msgspec.structs.replace(row, **changes)


PLAIN = '{model: "*", input: 1, output: 2}'
APART = '{model: "*", input: 1, output: 2, reasoning: "0.5"}'


def made(rates: str = PLAIN, *rows: Subscribed) -> Prices:
    prices = Prices()
    prices.apply([HEAD], [version(rates)], rows or [subscribed()])
    return prices


def test_a_tenant_is_priced_by_its_plan_in_its_span() -> None:
    [term] = made().terms(TENANT)
    assert (term.starts_us, term.ends_us, term.plan.name, term.plan.currency) == (
        START_US,
        None,
        "gold",
        "USD",
    )
    assert term.plan.versions[0].content == content(PLAIN)
    assert made().terms(OTHER) == ()
    assert repr(made()) == "<Prices 1 plans, 1 tenants>"


def test_terms_are_by_start_and_one_that_never_applied_is_none() -> None:
    later = subscribed(id=UUID(int=8), starts_us=START_US + 9 * BUCKET_US)
    first = subscribed(ends_us=START_US + BUCKET_US)
    void = subscribed(id=UUID(int=9), ends_us=START_US)
    prices = made(PLAIN, later, first, void)
    assert [term.starts_us for term in prices.terms(TENANT)] == [first.starts_us, later.starts_us]


def test_a_subscription_that_ends_and_one_that_is_taken_back_are_seen_at_once() -> None:
    prices = made()
    assert prices.terms(TENANT)[0].ends_us is None
    prices.apply([], [], [subscribed(ends_us=START_US + BUCKET_US)])
    assert prices.terms(TENANT)[0].ends_us == START_US + BUCKET_US
    prices.apply([], [], [subscribed(ends_us=START_US)])
    assert (prices.terms(TENANT), prices.rows()[2]) == ((), ())


def test_a_new_version_holds_from_its_instant() -> None:
    prices = made()
    assert prices.terms(TENANT)
    prices.apply([], [version(APART, 2, START_US + BUCKET_US)], [])
    held = [in_force(prices.terms(TENANT), START_US + at * BUCKET_US) for at in (0, 1)]
    assert [each.version.number for each in held if isinstance(each, Held)] == [1, 2]


def test_rows_survive_and_may_come_in_any_order() -> None:
    prices, again = made(APART), Prices()
    heads, versions, rows = prices.rows()
    again.apply([], [], rows)
    assert again.terms(TENANT) == ()
    again.apply([], versions, [])
    again.apply(heads, [], [])
    assert again.terms(TENANT) == prices.terms(TENANT)
    assert again.rows() == prices.rows()


@pytest.mark.parametrize(
    "broken", [b'{"label":"","rates":[{"model":"*","prices":{"input":{"shape":"new"}}}]}', b"[]"]
)
def test_a_plan_of_a_newer_program_prices_nothing_and_is_named(broken: bytes) -> None:
    silver = PlanHead(UUID(int=6), "silver", "USD", 0, version=1)
    prices = made(PLAIN, subscribed(), subscribed(id=UUID(int=8), tenant_id=OTHER, plan_id=silver.id))
    bad = PlanVersion(silver.id, 2, START_US, msgspec.Raw(broken), version=2)
    prices.apply([silver], [version(PLAIN, head=silver), bad], [])
    assert prices.unreadable == {"silver"}
    assert prices.terms(OTHER) == ()
    assert prices.terms(TENANT)
    assert prices.rows()[1][-1].content == bad.content


REASONING = {
    "no price of its own falls back to the answer's": ('{model: "*", uncached_input: 1, answer_output: 2}', False),
    "a word for both prices both": (PLAIN, False),
    "the same price in its own word": ('{model: "*", answer_output: 2, reasoning: 2}', False),
    "one price for all tokens": ('{model: "*", total: 2}', False),
    "tiers that both climb": ('{model: "*", output: {allowance: 5, price: 2}}', False),
    "another model's": ('{model: other, output: 2, reasoning: 1}, {model: "*", output: 2}', False),
    "an exact name without it before a pattern with it": ('{model: m, output: 2}, {model: "*", reasoning: 1}', False),
    "no price of answers at all": ('{model: "*", input: 1}', False),
    "its own price": (APART, True),
    "given away": ('{model: "*", output: 2, reasoning: free}', True),
    "the only price": ('{model: "*", reasoning: 1}', True),
    "the same tiers, but each its own": (
        '{model: "*", answer_output: {allowance: 5, price: 2}, reasoning: {allowance: 5, price: 2}}', True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rates", "is_apart"), REASONING.values(), ids=REASONING)
def test_reasoning_is_priced_apart_where_it_costs_something_else(rates: str, *, is_apart: bool) -> None:
    prices = made(rates)
    for _ in range(2):
        assert prices.prices_reasoning_apart(TENANT, "m", START_US) is is_apart
    assert not prices.prices_reasoning_apart(TENANT, "m", START_US - 1)
    assert not prices.prices_reasoning_apart(OTHER, "m", START_US)


def test_what_is_remembered_of_reasoning_follows_time_and_change() -> None:
    prices = made()
    prices.apply([], [version(APART, 2, START_US + BUCKET_US)], [])
    for at_us, is_apart in (
        (START_US, False),
        (START_US + BUCKET_US, True),
        (START_US + BUCKET_US - 1, False),
    ):
        assert prices.prices_reasoning_apart(TENANT, "m", at_us) is is_apart
    prices.apply([], [], [subscribed(ends_us=START_US)])
    assert not prices.prices_reasoning_apart(TENANT, "m", START_US + BUCKET_US)


def test_what_is_remembered_is_bounded() -> None:
    prices = made(APART)
    for number in range(ASKED_MAX + 1):
        assert prices.prices_reasoning_apart(TENANT, str(number), START_US)
    assert len(prices._apart) == 1


def test_prices_are_exact() -> None:
    [term] = made('{model: m, input: "0.123456789012345678"}').terms(TENANT)
    [price, *_] = term.plan.versions[0].content.rates[0].by_word.values()
    assert getattr(price, "price", None) == Decimal("0.123456789012345678")
