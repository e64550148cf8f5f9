"""What one request costs by itself: each quantity at the price of a first token, by the rates in force at an instant.

What an invoice says is computed from all usage of its period, and rounded once. Where a rate has tiers or an allowance, a
request's place in the period is not known here: then the cost is that of a first token, and an estimate.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.pricing.measure import REQUEST, Word
from billing.pricing.price import pieces
from billing.pricing.rating import Priced, price_at
from billing.pricing.term import Term
from billing.pricing.unit import UnitPrice


class MarginalLine(msgspec.Struct, frozen=True):
    """One quantity at its price; both None where it has no rate."""

    word: Word
    quantity: int
    price: UnitPrice | None
    amount: Decimal | None
    is_cumulative: bool = False
    """Whether the price depends on how much of the period was used before."""


class Marginal(msgspec.Struct, frozen=True):
    """What quantities cost together: exact, in the currency of the plan in force (None without a plan)."""

    currency: str | None
    lines: tuple[MarginalLine, ...]

    @property
    def amount(self) -> Decimal | None:
        """What the lines that have a rate come to; None where none has."""
        amounts = [line.amount for line in self.lines if line.amount is not None]
        return money.total(amounts) if amounts else None

    @property
    def is_cumulative(self) -> bool:
        """Whether a price has tiers or an allowance, so that the amount is that of a period's first tokens."""
        return any(line.is_cumulative for line in self.lines)

    @property
    def unrated(self) -> tuple[Word, ...]:
        """What has no rate, and is not in the amount. Requests are never unrated."""
        return tuple(line.word for line in self.lines if line.price is None)


def marginal(
    terms: Sequence[Term], at_us: int, model: str, quantities: Iterable[tuple[Word, int]]
) -> Marginal:
    """What quantities of a request that arrives at an instant cost by its tenant's terms."""
    lines = [_line(terms, at_us, model, word, quantity) for word, quantity in quantities]
    currency = next((term.plan.currency for term in terms if term.holds_at(at_us)), None)
    return Marginal(currency, tuple(line for line in lines if line.price is not None or line.word != REQUEST))


def _line(terms: Sequence[Term], at_us: int, model: str, word: Word, quantity: int) -> MarginalLine:
    priced = price_at(terms, at_us, model, word)
    if not isinstance(priced, Priced):
        return MarginalLine(word, quantity, None, None)
    first = next(iter(pieces(priced.rate.price, 0, 1)))
    return MarginalLine(
        word, quantity, first.price, first.price.amount(quantity), priced.rate.price.is_cumulative
    )
