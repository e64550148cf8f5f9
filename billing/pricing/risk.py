"""Revenue at risk: what usage without a rate might have cost, an estimate that is never billed."""

from decimal import Decimal

from billing.pricing.plan import Content
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component


def at_risk(content: Content, component: Component, quantity: int) -> Decimal | None:
    """What a quantity would cost at the dearest price that a version has for the component of any model.

    Prices of all tokens count too; of tiers the dearest counts, and nothing is included. None when there is no such
    price: then nobody can say.
    """
    unit = dearest(content, component)
    return None if unit is None else unit.amount(quantity)


def dearest(content: Content, component: Component) -> UnitPrice | None:
    """The dearest price of one token of a component in a version, whatever the model."""
    candidates = [entry.candidate(component) for entry in content.rates]
    units = [found.price.dearest for found in candidates if found is not None]
    return max(units, key=lambda unit: (unit.amount(1), unit.per), default=None)
