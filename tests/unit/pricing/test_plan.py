import hashlib
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.pricing.parse import parse
from billing.pricing.plan import Content, ModelRates, Plan, Version, check_rates, resolve
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import at

EXAMPLES = Path(__file__).parents[3] / "examples/plans"
UNCACHED, CACHED, WRITE, ANSWER, REASONING, *_ = Component


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


def test_total_prices_all_tokens_of_prompts_and_answers_and_nothing_beside_them() -> None:
    for component in Component:
        expected = ("golden", "total", "9") if component.is_served else None
        assert found([*RATES, BLENDED], "golden", component) == expected


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


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        pytest.param(Component.AUDIO_INPUT, "1", id="audio in is input"),
        pytest.param(Component.VIDEO_INPUT, "1", id="video in is input"),
        pytest.param(Component.IMAGE_INPUT, "7", id="images in have a price of their own"),
        pytest.param(Component.AUDIO_OUTPUT, "2", id="audio out is output, not reasoning"),
        pytest.param(Component.IMAGE_OUTPUT, "2", id="images out are output"),
        pytest.param(Component.TRAINING, None, id="what is trained on is neither"),
        pytest.param(Component.SECOND, None, id="a unit is neither"),
        pytest.param(Component.SEARCH, "8", id="a unit has the price of its own word"),
    ],
)
def test_kinds_of_tokens_fall_back_and_units_do_not(component: Component, expected: str | None) -> None:
    rates = [entry("*", uncached_input="1", answer_output="2", reasoning="3", image_input="7", search="8")]
    priced = found(rates, "golden", component)
    assert (priced and priced[2]) == expected


def request_entry(model: str, price: int) -> ModelRates:
    return ModelRates(model, {}, request=UnitPrice(Decimal(price), 1))


def test_a_request_has_the_price_of_the_most_specific_entry_that_has_one() -> None:
    rates = [request_entry("*", 1), request_entry("llama-*", 2), entry("llama-3", uncached_input="4")]
    prices = [resolve(rates, model, "request") for model in ("mistral", "llama-3")]
    assert [(each.pattern, each.priced_as, each.price) for each in prices if each] == [
        ("*", "request", UnitPrice(Decimal(1), 1)),
        ("llama-*", "request", UnitPrice(Decimal(2), 1)),
    ]
    assert resolve(rates[2:], "llama-3", "request") is None


def test_two_prices_of_a_request_must_not_tie() -> None:
    with pytest.raises(InvalidInput, match="equally specific and both price request"):
        check_rates([request_entry("a*", 1), request_entry("*b", 1)], "rates")


@pytest.mark.parametrize(
    ("name", "hashes"),
    [
        ("demo", ["43be68e4a72f7d6a75789fb1fec2e49ce260868d843e739d83fd6f959577123a"]),
        ("graduated", ["1cd1ca71742b09c42620b29a9512a8bb16b56d62ce731a9fff8c42ab48a44e5d"]),
        (
            "open-models",
            [
                "67fd9748918ed2496cd4a763f697cb17bfc0695a4323d5a521d05acc5a0d6b79",
                "9c7d21475cac8c305fcfadb579397e6e210ebed8a564eb26fbc6460e483cfb43",
            ],
        ),
    ],
)
def test_versions_have_the_bytes_that_they_had_before_there_were_units(name: str, hashes: list[str]) -> None:
    wanted = parse((EXAMPLES / f"{name}.yaml").read_text("utf-8"))
    encode = msgspec.json.Encoder(order="sorted").encode
    assert [hashlib.sha256(encode(each.content)).hexdigest() for each in wanted.versions] == hashes
    stored = [msgspec.to_builtins(each.content) for each in wanted.versions]
    assert [msgspec.convert(each, Content) for each in stored] == [each.content for each in wanted.versions]
