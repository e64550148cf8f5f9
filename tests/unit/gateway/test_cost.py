"""What a client is told that its request costs: exact text, never a float, and honest about what is not known."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from billing.gateway.cost import Cost, cost_of, holds_usage, is_asked, with_cost
from billing.pricing.term import Term
from billing.tokens.usage import Count, Part, Provenance, TokenUsage
from tests.gateway.fake_client import NOW_US
from tests.gateway.fakes import TENANT_ID, snapshot


def terms(rates: str) -> tuple[Term, ...]:
    return snapshot(rates=rates).prices.terms(TENANT_ID)


def usage(
    tokens_in: int | None = 1000,
    tokens_out: int | None = 100,
    how: Provenance = Provenance.REPORTED,
    **counts: int,
) -> TokenUsage:
    """``counts`` are those of parts, or of fields by their name."""

    def count(value: int | None) -> Count:
        return Count() if value is None else Count(value, how, "")

    made = TokenUsage(input=count(tokens_in), output=count(tokens_out))
    fields = {name: count(value) for name, value in counts.items() if name in made.__struct_fields__}
    parts = {Part(name): count(value) for name, value in counts.items() if name not in fields}
    return msgspec.structs.replace(made, parts=parts, **fields)


PLAIN = '{model: "*", input: "0.5", cached_input: "0.05", output: 2}'
TIERS = '{model: "*", input: 1, output: {tiers: [{up_to: 10, price: 3}, {price: 2}]}}'
USD: dict[str, Any] = {"currency": "USD", "is_estimate": False, "is_unrated": False}
CASES = {
    "each component at its rate": (PLAIN, usage(cached_input=200), Cost(Decimal("0.61"), **USD)),
    "nothing used costs nothing": (PLAIN, usage(0, 0), Cost(Decimal(0), **USD)),
    "the price of a request": ('{model: "*", input: 1, output: 2, request: 5}', usage(), Cost(Decimal("6.2"), **USD)),
    "one price for all tokens": ('{model: "*", total: 1}', usage(), Cost(Decimal("1.1"), **USD)),
    "tiers are estimated by the first": (TIERS, usage(), Cost(Decimal("1.3"), **USD | {"is_estimate": True})),
    "so is an allowance, which may be used up": (
        '{model: "*", input: {allowance: 5, price: 1}, output: 2}', usage(), Cost(Decimal("0.2"), **USD | {"is_estimate": True}),
    ),
    "an estimated count": (PLAIN, usage(how=Provenance.ESTIMATED), Cost(Decimal("0.7"), **USD | {"is_estimate": True})),
    "an unknown output": (PLAIN, usage(1000, None), Cost(Decimal("0.5"), **USD | {"is_estimate": True})),
    "nothing known": (PLAIN, usage(None, None), Cost(None, **USD | {"is_estimate": True})),
    "a component without a rate": ('{model: "*", input: 1}', usage(), Cost(Decimal(1), **USD | {"is_unrated": True})),
    "no rate for the model": ("{model: other, input: 1}", usage(), Cost(None, **USD | {"is_unrated": True})),
    "units": ('{model: "*", character: 2}', usage(None, None, character=50), Cost(Decimal(100), **USD)),
    "no plan": ("", usage(), Cost(None, None, is_estimate=False, is_unrated=True)),
}  # fmt: skip


@pytest.mark.parametrize(("rates", "used", "expected"), CASES.values(), ids=CASES)
def test_the_cost_of_a_request(rates: str, used: TokenUsage, expected: Cost) -> None:
    assert cost_of(used, terms(rates) if rates else (), "tiny", NOW_US) == expected


def test_an_amount_is_plain_text_in_the_member_and_in_the_headers() -> None:
    cost = cost_of(usage(1, 0), terms('{model: "*", input: "0.0001", output: 1}'), "tiny", NOW_US)
    assert cost.document() == b'{"amount":"0.0000001","currency":"USD","estimate":false}'
    assert cost.headers() == [(b"x-billing-cost", b"0.0000001"), (b"x-billing-currency", b"USD")]


def test_what_is_not_known_is_said_and_no_amount_made_up() -> None:
    cost = Cost(None, None, is_estimate=True, is_unrated=True)
    assert msgspec.json.decode(cost.document()) == {
        "amount": None, "currency": None, "estimate": True, "unrated": True,
    }  # fmt: skip
    assert cost.headers() == [(b"x-billing-cost-estimate", b"true"), (b"x-billing-cost-unrated", b"true")]


@pytest.mark.parametrize(
    ("value", "asked"), [(b"true", True), (b" True ", True), (None, False), (b"false", False), (b"", False), (b"1", False)]
)  # fmt: skip
def test_only_true_asks(value: bytes | None, *, asked: bool) -> None:
    assert is_asked(value) is asked


COST = b'{"amount":"1"}'
EVENTS = {
    "chat": (b'{"choices":[],"usage":{"prompt_tokens":4}}', b'{"choices":[],"usage":{"prompt_tokens":4,"cost":{"amount":"1"}}}'),
    "messages": (
        b'{"type":"message_delta","usage":{"output_tokens":4}}', b'{"type":"message_delta","usage":{"output_tokens":4,"cost":{"amount":"1"}}}',
    ),
    "a response": (
        b'{"type":"response.completed","response":{"id":"r","usage":{"output_tokens":4}}}',
        b'{"type":"response.completed","response":{"id":"r","usage":{"output_tokens":4,"cost":{"amount":"1"}}}}',
    ),
    "a line of Ollama's": (b'{"done":true,"eval_count":4}', b'{"done":true,"eval_count":4,"cost":{"amount":"1"}}'),
    "no object": (b"[DONE]", b"[DONE]"),
    "no JSON": (b"{", b"{"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "told"), EVENTS.values(), ids=EVENTS)
def test_the_cost_stands_in_the_usage_or_beside_the_counts(data: bytes, told: bytes) -> None:
    assert with_cost(data, COST) == told


@pytest.mark.parametrize(
    ("data", "finished", "holds"),
    [
        (EVENTS["chat"][0], False, True), (EVENTS["messages"][0], True, True), (EVENTS["messages"][0], False, False),
        (b'{"choices":[{}],"usage":{"prompt_tokens":4}}', False, False), (b'{"choices":[],"usage":null}', True, False),
        (b'{"choices":[],"usage":{}}', True, False), (EVENTS["a response"][0], True, True), (b"[DONE]", True, False),
        (b'{"response":{"usage":null}}', True, False), (b'{"usage":[1],"response":7}', True, False),
    ],
)  # fmt: skip
def test_which_event_tells_the_usage_of_the_whole(data: bytes, *, finished: bool, holds: bool) -> None:
    assert holds_usage(data, finished=finished) is holds
