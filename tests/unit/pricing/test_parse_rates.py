from decimal import Decimal

import pytest

from billing.errors import InvalidInput
from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.parse_rates import TIERS_MAX, model_rates
from billing.pricing.plan import ModelRates
from billing.pricing.unit import UnitPrice
from billing.pricing.yaml_text import load
from billing.tokens.components import Component

UNCACHED, CACHED, WRITE, ANSWER, REASONING, *_ = Component
TWO_TIERS = GraduatedPrice((Tier(Decimal("0.5"), 1_000, 1_000_000), Tier(Decimal("0.3"), 1_000)))


def entry(prices: str) -> ModelRates:
    return model_rates(load(f"{{model: a, per: 1000, {prices}}}"), "rates[0]", None)


def test_tiers_are_read_with_their_bounds_in_tokens() -> None:
    made = entry('output: {tiers: [{up_to: 1000000, price: "0.50"}, {price: "0.30"}]}')
    assert made.prices == {ANSWER: TWO_TIERS, REASONING: TWO_TIERS}


def test_an_allowance_goes_with_a_price_or_with_tiers() -> None:
    assert entry('answer_output: {price: "0.50", allowance: 100000}').prices == {
        ANSWER: UnitPrice(Decimal("0.5"), 1_000, 100_000)
    }
    made = entry('answer_output: {tiers: [{price: "0.50"}], allowance: 7}')
    assert made.prices[ANSWER] == GraduatedPrice((Tier(Decimal("0.5"), 1_000),), 7)


def test_what_one_written_price_prices_is_one_pool() -> None:
    made = entry("input: {price: 1, allowance: 5}, cached_input: {price: 2, allowance: 6}, output: 3")
    assert made.pools == {UNCACHED: "input", WRITE: "input"}
    pools = {part: found.pool for part in Component if (found := made.candidate(part)) is not None}
    assert pools == {
        UNCACHED: "input",
        CACHED: "cached_input",
        WRITE: "input",
        ANSWER: "answer_output",
        REASONING: "reasoning",
        # Kinds without a price of their own climb the same tiers and use the same allowance.
        Component.AUDIO_INPUT: "input",
        Component.IMAGE_INPUT: "input",
        Component.VIDEO_INPUT: "input",
        Component.AUDIO_OUTPUT: "answer_output",
        Component.IMAGE_OUTPUT: "answer_output",
    }


def test_what_falls_back_to_a_written_price_is_in_its_pool() -> None:
    found = entry("uncached_input: {price: 1, allowance: 5}").candidate(CACHED)
    assert found is not None
    assert (found.priced_as, found.pool) == ("uncached_input", "uncached_input")


def test_total_is_one_price_for_all_tokens() -> None:
    made = entry("total: 2")
    assert (made.prices, made.total) == ({}, UnitPrice(Decimal(2), 1_000))


def test_a_price_of_a_unit_is_for_one_unless_the_entry_says_otherwise() -> None:
    tree = load('{model: a, second: "0.0001", image: 0.04, request: 1, output: 2, training: 3}')
    made = model_rates(tree, "rates[0]", 1_000_000)
    assert {word: price.dearest.per for word, price in made.by_word.items()} == {
        "answer_output": 1_000_000, "reasoning": 1_000_000, "training": 1_000_000,
        "image": 1, "second": 1, "request": 1,
    }  # fmt: skip
    thousands = entry("character: 0.015, output: 2")
    assert {price.dearest.per for price in thousands.by_word.values()} == {1_000}


def test_prices_of_units_alone_need_no_number_of_tokens() -> None:
    made = model_rates(load("{model: a, second: 2, gpu_second: free, search: 1}"), "rates[0]", None)
    assert made.prices == {
        Component.SECOND: UnitPrice(Decimal(2), 1),
        Component.GPU_SECOND: UnitPrice(Decimal(0), 1),
        Component.SEARCH: UnitPrice(Decimal(1), 1),
    }


def test_units_training_and_requests_may_stand_beside_the_total() -> None:
    made = entry("total: 2, search: 1, training: 3, request: 4")
    assert list(made.by_word) == ["training", "search", "total", "request"]
    found = [made.candidate(part) for part in (UNCACHED, Component.AUDIO_OUTPUT)]
    assert [each.priced_as for each in found if each is not None] == ["total", "total"]
    assert made.candidate(Component.IMAGE) is None


def test_tiers_and_allowances_count_units_and_requests() -> None:
    made = entry(
        "second: {allowance: 60, tiers: [{up_to: 5, price: 2}, {price: 1}]}, request: {price: 1, allowance: 9}"
    )
    assert made.prices[Component.SECOND] == GraduatedPrice(
        (Tier(Decimal(2), 1_000, 5), Tier(Decimal(1), 1_000)), 60
    )
    assert made.request == UnitPrice(Decimal(1), 1_000, 9)
    assert made.by_pool == made.by_word


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("input: {price: 1}", "input: 1"),
        ("input: {price: 1, allowance: 0}", "input: 1"),
        ("input: {price: free}", "input: free"),
        ('input: {tiers: [{up_to: 5, price: "0.50"}, {price: free}]}', "input: {tiers: [{up_to: 05, price: 0.5}, {price: 0}]}"),
    ],
)  # fmt: skip
def test_the_same_prices_are_the_same_rates(one: str, other: str) -> None:
    assert entry(one) == entry(other)


MANY = ", ".join(f"{{up_to: {number}, price: 1}}" for number in range(1, TIERS_MAX + 2))
FAULTS = [
    ("rates[0].input: give one of price and tiers", "input: {allowance: 5}"),
    ("rates[0].input: give one of price and tiers", "input: {price: 1, tiers: [{price: 1}]}"),
    ("rates[0].input.prices: unknown key; did you mean price?", "input: {prices: 1}"),
    ("rates[0].input.price: a price cannot be negative, got -1", "input: {price: -1}"),
    ("rates[0].input.allowance: '1k' is not a number of tokens; write for example 1000000", "input: {price: 1, allowance: 1k}"),
    ("rates[0].input.allowance: what is free needs none", "input: {price: free, allowance: 5}"),
    ("rates[0].input.tiers: expected a list (lines that begin with -), got '1'", "input: {tiers: 1}"),
    ("rates[0].input.tiers: expected 1 to 50 entries, got 0", "input: {tiers: []}"),
    ("rates[0].input.tiers: expected 1 to 50 entries, got 51", f"input: {{tiers: [{MANY}]}}"),
    ("rates[0].input.tiers[0]: expected keys (up_to, price, …), got '1'", "input: {tiers: [1]}"),
    ("rates[0].input.tiers[0].price: missing", "input: {tiers: [{up_to: 5}, {price: 1}]}"),
    ("rates[0].input.tiers[1].price: 'x' is not a decimal number; write for example \"0.25\"", "input: {tiers: [{up_to: 5, price: 1}, {price: x}]}"),
    ("rates[0].input.tiers[0].up_to: missing; only the last tier goes on without an end", "input: {tiers: [{price: 1}, {price: 2}]}"),
    ("rates[0].input.tiers[1].up_to: the last tier goes on without an end; leave it out or add a tier", "input: {tiers: [{up_to: 5, price: 1}, {up_to: 9, price: 1}]}"),
    ("rates[0].input.tiers[1].up_to: 5 is not above 5, where the tier begins", "input: {tiers: [{up_to: 5, price: 1}, {up_to: 5, price: 1}, {price: 2}]}"),
    ("rates[0].input.tiers[0].up_to: 0 is not above 0, where the tier begins", "input: {tiers: [{up_to: 0, price: 1}, {price: 2}]}"),
    ("rates[0].total: one price for all tokens leaves nothing for output to price", "total: 1, output: 2"),
    ("rates[0].total: one price for all tokens leaves nothing for cached_input to price", "cached_input: 2, total: 1"),
    ("rates[0].total: one price for all tokens leaves nothing for audio_output to price", "second: 2, audio_output: 2, total: 1"),
    ("rates[0].second.allowance: '1h' is not a number of seconds; write for example 1000000", "second: {price: 1, allowance: 1h}"),
    ("rates[0].request.tiers[0].up_to: 'x' is not a number of requests; write for example 1000000", "request: {tiers: [{up_to: x, price: 1}, {price: 1}]}"),
    ("rates[0].seconds: unknown key; did you mean second?", "seconds: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "prices"), FAULTS, ids=[f"{prices[:60]}" for _, prices in FAULTS])
def test_what_is_wrong_is_said_with_its_path(fault: str, prices: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        entry(prices)
    assert str(refused.value) == fault


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("rates[0].per: say how many tokens a price is for: 1, 1000 or 1000000", "{model: a, second: 1, input: 2}"),
        ("rates[0].per: a price is for 1, 1000 or 1000000 tokens or units, got '60'", "{model: a, per: 60, second: 1}"),
        ("rates[0]: no price; give for example input and output, or say output: free", "{model: a, per: 1}"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_number_that_a_price_is_for_is_said(fault: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        model_rates(load(text), "rates[0]", None)
    assert str(refused.value) == fault
