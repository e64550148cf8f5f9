"""Prices as programs read them: exact text, what is one price together, tiers as they are climbed."""

from typing import Any

from billing.clock import MICROSECONDS_PER_SECOND
from billing.gateway.price_list import price_list
from tests.gateway.fakes import NOW_US, TENANT_ID, snapshot

HOUR_US = 3_600 * MICROSECONDS_PER_SECOND


def told(rates: str, at_us: int = NOW_US) -> dict[str, Any] | None:
    return price_list(snapshot(rates=rates).prices.terms(TENANT_ID), "tiny", at_us)


def test_components_of_one_price_stand_together() -> None:
    prices = told('{model: "*", input: 0.60, output: 2}')
    assert prices is not None
    assert prices["currency"] == "USD"
    first, second = prices["rates"]
    assert (first["price"], first["per"], first["unit"]) == ("0.6", 1_000, "tokens")
    assert {"uncached_input", "cached_input", "cache_write"} <= set(first["components"])
    assert {"answer_output", "reasoning"} <= set(second["components"])
    assert "training" not in first["components"] + second["components"]


def test_tiers_and_what_is_included_are_told() -> None:
    prices = told(
        '{model: "*", input: {price: 1, allowance: 500}, output: {tiers: [{up_to: 10, price: 3}, {price: 2}]}}'
    )
    assert prices is not None
    tiered = next(rate for rate in prices["rates"] if "tiers" in rate)
    assert [(tier["up_to"], tier["price"]) for tier in tiered["tiers"]] == [(10, "3"), (None, "2")]
    assert next(rate for rate in prices["rates"] if "allowance" in rate)["allowance"] == 500


def test_without_a_price_nothing_is_told() -> None:
    assert told('{model: "other", input: 1}') is None
    assert price_list((), "tiny", NOW_US) is None
