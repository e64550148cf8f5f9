"""The unit shape: every token costs the same, or every one of what is counted in units."""

from decimal import Decimal

import msgspec

from billing import money

PER_CHOICES = (1, 1_000, 1_000_000)
"""How many tokens, or units of what has none, a price may be for."""


class UnitPrice(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="shape", tag="unit"):
    """``price`` for each ``per`` tokens, exact. A price of 0 is ``free``: a rate, unlike an absent one.

    ``allowance`` are the tokens that are included in each period; ``amount`` is what the others cost. A field that is not
    there is left out where a price is stored, so that what was stored before it existed reads and hashes as ever.
    """

    price: Decimal
    per: int
    allowance: int = 0

    def amount(self, quantity: int) -> Decimal:
        """What a quantity costs, exact; the sum over any split of the quantity is the same (billing-rules.md I4)."""
        return money.cost(quantity, self.price, self.per)

    def pieces(self, _start: int, quantity: int) -> "tuple[Piece, ...]":
        """The quantity at its price, however many tokens of the period went before."""
        return (Piece(quantity, self.dearest),) if quantity else ()

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing."""
        return self.price == 0

    @property
    def is_cumulative(self) -> bool:
        """Whether what a token costs depends on how many went before it in the period."""
        return self.allowance > 0

    @property
    def dearest(self) -> "UnitPrice":
        """The price of a token that is not included."""
        return UnitPrice(self.price, self.per)

    def __str__(self) -> str:
        text = "free" if self.is_free else f"{money.plain(self.price)} per {self.per:,}"
        return f"{text}, {self.allowance:,} included" if self.allowance else text


class Piece(msgspec.Struct, frozen=True):
    """A part of a quantity whose tokens all cost the same.

    ``tier`` counts from 0 in a graduated price and is None elsewhere. What is ``included`` is within the allowance: its
    price is 0.
    """

    quantity: int
    price: UnitPrice
    tier: int | None = None
    included: bool = False
