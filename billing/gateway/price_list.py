"""What a caller pays for a model, as ``/v1/models`` tells it (pure)."""

from collections.abc import Sequence
from typing import Any

from billing import money
from billing.pricing.graduated import GraduatedPrice
from billing.pricing.measure import WORDS, unit_of
from billing.pricing.price import Price
from billing.pricing.rating import Priced, price_at
from billing.pricing.term import Term


def price_list(terms: Sequence[Term], model: str, at_us: int) -> dict[str, Any] | None:
    """Currency and rates in force at an instant; None where nothing of the model has a price.

    Components of one price stand together. A price is decimal text for ``per`` of the unit; ``allowance`` is free in each
    period; tiers are climbed over a period, each up to and without the quantity it names.
    """
    groups: dict[tuple[str, Price], list[str]] = {}
    currency = None
    for word in WORDS:
        priced = price_at(terms, at_us, model, word)
        if isinstance(priced, Priced):
            currency = priced.currency
            groups.setdefault((unit_of(word), priced.rate.price), []).append(str(word))
    if currency is None:
        return None
    rates = [{"components": words, "unit": unit} | _written(price) for (unit, price), words in groups.items()]
    return {"currency": currency, "rates": rates}


def _written(price: Price) -> dict[str, Any]:
    allowance = {"allowance": price.allowance} if price.allowance else {}
    if isinstance(price, GraduatedPrice):
        tiers = [
            {"up_to": tier.up_to, "price": money.plain(tier.price), "per": tier.per} for tier in price.tiers
        ]
        return {"tiers": tiers} | allowance
    return {"price": money.plain(price.price), "per": price.per} | allowance
