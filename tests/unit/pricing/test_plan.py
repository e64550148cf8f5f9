from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.pricing.plan import Content, ModelRates, Plan, Version, check_rates, resolve
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import at

UNCACHED, CACHED, WRITE, ANSWER, REASONING = Component


def entry(model: str, **prices: str) -> ModelRates:
    return ModelRates(
        model, {Component(part): UnitPrice(Decimal(price), 1) for part, price in prices.items()}
    )


def found(rates: list[ModelRates], model: str, component: Component) -> tuple[str, str, str] | None:
    resolved = resolve(rates, model, component)
    return (resolved.pattern, resolved.priced_as, str(resolved.price.price)) if resolved else None


RATES = [
    entry("*", uncached_input="1", answer_output="2", reasoning="3"),
    entry("llama-*", uncached_input="4", answer_output="5"),
    entry("llama-3.1-8b", uncached_input="6"),
    entry("*-embed", uncached_input="7", answer_output="0"),
]


@pytest.mark.parametrize(
    ("model", "component", "expected"),
    [
        pytest.param("mistral", UNCACHED, ("*", UNCACHED, "1"), id="any model has the price of *"),
        pytest.param("llama-2", UNCACHED, ("llama-*", UNCACHED, "4"), id="a longer pattern wins over *"),
        pytest.param("llama-3.1-8b", UNCACHED, ("llama-3.1-8b", UNCACHED, "6"), id="an exact name wins over a pattern"),
        pytest.param("llama-3.1-8b", ANSWER, ("llama-*", ANSWER, "5"), id="what the exact name does not price comes from the pattern"),
        pytest.param("llama-2", REASONING, ("llama-*", ANSWER, "5"), id="the model's output price wins over a reasoning price for all"),
        pytest.param("mistral", REASONING, ("*", REASONING, "3"), id="reasoning has its own price where it is given"),
        pytest.param("llama-2", CACHED, ("llama-*", UNCACHED, "4"), id="cached input falls back to uncached input"),
        pytest.param("llama-2", WRITE, ("llama-*", UNCACHED, "4"), id="cache writes fall back to uncached input"),
        pytest.param("my-embed", ANSWER, ("*-embed", ANSWER, "0"), id="free is a rate"),
    ],
)  # fmt: skip
def test_the_most_specific_rate_prices_a_component(
    model: str, component: Component, expected: tuple[str, str, str]
) -> None:
    assert found(RATES, model, component) == expected
    assert found(RATES[::-1], model, component) == expected


def test_only_an_absent_rate_leaves_usage_unrated() -> None:
    output_only = [entry("golden", answer_output="1")]
    assert found(output_only, "golden", UNCACHED) is None
    assert found(output_only, "silver", ANSWER) is None
    assert found([], "golden", ANSWER) is None


BLENDED = ModelRates("golden", {}, UnitPrice(Decimal(9), 1))


def test_total_prices_every_component() -> None:
    for component in Component:
        assert found([*RATES, BLENDED], "golden", component) == ("golden", "total", "9")


def test_what_a_model_s_own_entry_prices_wins_over_the_total_of_all() -> None:
    rates = [entry("golden", answer_output="1"), ModelRates("*", {}, UnitPrice(Decimal(9), 1))]
    assert found(rates, "golden", ANSWER) == ("golden", ANSWER, "1")
    assert found(rates, "golden", UNCACHED) == ("*", "total", "9")


def test_reasoning_alone_prices_no_answer() -> None:
    assert found([entry("*", reasoning="1")], "golden", ANSWER) is None


@pytest.mark.parametrize(
    ("rates", "fault"),
    [
        pytest.param(
            [entry("a", reasoning="1"), entry("a", answer_output="1")],
            "rates[1].model: a has its rates at rates[0] already",
            id="one model twice",
        ),
        pytest.param(
            [entry("a*", uncached_input="1"), entry("x"), entry("*b", uncached_input="1")],
            "rates[2].model: *b and a* (rates[0]) can match the same model, are equally specific and both price "
            "uncached_input: make one of them longer",
            id="two patterns that tie",
        ),
        pytest.param(
            [entry("a*", answer_output="1"), entry("*b", reasoning="1")],
            "rates[1].model: *b and a* (rates[0]) can match the same model, are equally specific and both price "
            "reasoning: make one of them longer",
            id="a tie through a fallback",
        ),
        pytest.param(
            [entry("a*", reasoning="1"), ModelRates("*b", {}, UnitPrice(Decimal(9), 1))],
            "rates[1].model: *b and a* (rates[0]) can match the same model, are equally specific and both price "
            "reasoning: make one of them longer",
            id="a tie of a part with a total",
        ),
    ],
)
def test_ambiguity_is_an_error(rates: list[ModelRates], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_rates(rates, "rates")
    assert str(refused.value) == fault


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param(
            [entry("ab*", uncached_input="1"), entry("ac*", uncached_input="1")], id="they never meet"
        ),
        pytest.param(
            [entry("a*", uncached_input="1"), entry("*b", answer_output="1")], id="they price different parts"
        ),
        pytest.param([entry("a*", uncached_input="1"), entry("*bc", uncached_input="1")], id="one is longer"),
        pytest.param([entry("ab", uncached_input="1"), entry("a*", uncached_input="1")], id="one is a name"),
    ],
)
def test_what_cannot_tie_is_no_ambiguity(rates: list[ModelRates]) -> None:
    check_rates(rates, "rates")


def test_the_version_in_force_begins_at_its_instant() -> None:
    first, second = (
        Version(at("2026-01-01T00:00:00Z"), Content("", ()), 1),
        Version(at("2026-03-01T00:00:00Z"), Content("", ()), 2),
    )
    plan = Plan(UUID(int=1), "demo", "USD", 0, (first, second))
    assert plan.version_at(first.effective_us - 1) is None
    assert plan.version_at(first.effective_us) == first
    assert plan.version_at(second.effective_us - 1) == first
    assert plan.version_at(second.effective_us) == second


def test_a_content_stored_before_there_were_tiers_and_fees_reads_and_hashes_as_ever() -> None:
    stored = b'{"label":"list","rates":[{"model":"*","prices":{"uncached_input":{"per":1,"price":"2","shape":"unit"}}}]}'
    content = msgspec.json.decode(stored, type=Content)
    assert content == Content("list", (entry("*", uncached_input="2"),))
    assert msgspec.json.encode(content, order="sorted") == stored
