from decimal import Decimal

import pytest

from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.plan import Content, ModelRates
from billing.pricing.risk import at_risk
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component

CHEAP = ModelRates("a", {Component.UNCACHED_INPUT: UnitPrice(Decimal(900), 1_000)})
DEAR = ModelRates("b", {Component.UNCACHED_INPUT: UnitPrice(Decimal(1), 1, allowance=10)})
TIERS = ModelRates(
    "c", {Component.CACHED_INPUT: GraduatedPrice((Tier(Decimal(3), 1, 5), Tier(Decimal(4), 1)))}
)
SECONDS = ModelRates("e", {Component.SECOND: UnitPrice(Decimal(2), 1)})
TOTAL = ModelRates("d", {}, UnitPrice(Decimal(7), 1))


@pytest.mark.parametrize(
    ("rates", "component", "expected"),
    [
        pytest.param([CHEAP, DEAR], Component.UNCACHED_INPUT, "100", id="the dearest, whatever it is for, with nothing included"),
        pytest.param([CHEAP, DEAR], Component.CACHED_INPUT, "100", id="as what it falls back to"),
        pytest.param([CHEAP, TIERS], Component.CACHED_INPUT, "400", id="the dearest tier"),
        pytest.param([DEAR, TOTAL], Component.REASONING, "700", id="a price of all tokens is one of each"),
        pytest.param([CHEAP, DEAR], Component.REASONING, None, id="nobody can say"),
        pytest.param([CHEAP, DEAR], Component.VIDEO_INPUT, "100", id="a kind is what it falls back to"),
        pytest.param([CHEAP, TOTAL], Component.SECOND, None, id="a price of tokens is none of a unit"),
        pytest.param([SECONDS, TOTAL], Component.SECOND, "200", id="a unit at its own price"),
    ],
)  # fmt: skip
def test_what_100_tokens_might_have_cost(
    rates: list[ModelRates], component: Component, expected: str | None
) -> None:
    found = at_risk(Content("", tuple(rates)), component, 100)
    assert found == (None if expected is None else Decimal(expected))
