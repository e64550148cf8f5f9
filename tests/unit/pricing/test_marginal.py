"""What one request costs by itself, and what says that it may cost something else."""

from decimal import Decimal

from billing.pricing.marginal import marginal
from billing.pricing.measure import REQUEST
from billing.tokens.components import Component
from tests.gateway.fakes import NOW_US, TENANT_ID, snapshot

IN, OUT = Component.UNCACHED_INPUT, Component.ANSWER_OUTPUT


def test_each_quantity_at_its_price() -> None:
    terms = snapshot(rates='{model: "*", input: 0.60, output: 2}').prices.terms(TENANT_ID)
    found = marginal(terms, NOW_US, "tiny", [(IN, 1_000), (OUT, 50), (REQUEST, 1)])
    assert [(line.word, line.amount) for line in found.lines] == [
        (IN, Decimal("0.6")),
        (OUT, Decimal("0.1")),
    ]
    assert (found.amount, found.currency, found.is_cumulative, found.unrated) == (
        Decimal("0.7"), "USD", False, (),
    )  # fmt: skip


def test_what_has_no_rate_is_named_and_not_in_the_amount() -> None:
    terms = snapshot(rates='{model: "*", input: 1}').prices.terms(TENANT_ID)
    found = marginal(terms, NOW_US, "tiny", [(IN, 1_000), (OUT, 50)])
    assert (found.amount, found.unrated) == (Decimal(1), (OUT,))
    assert marginal((), NOW_US, "tiny", [(IN, 1)]).amount is None


def test_tiers_make_it_depend_on_the_period() -> None:
    rates = '{model: "*", input: {tiers: [{up_to: 10, price: 3}, {price: 2}]}}'
    found = marginal(snapshot(rates=rates).prices.terms(TENANT_ID), NOW_US, "tiny", [(IN, 1_000)])
    assert (found.amount, found.is_cumulative) == (Decimal(3), True)
