"""The unit shape: every token costs the same."""

from decimal import Decimal

import msgspec

from billing import money

PER_CHOICES = (1, 1_000, 1_000_000)
"""How many tokens a price may be for."""


class UnitPrice(msgspec.Struct, frozen=True, tag_field="shape", tag="unit"):
    """``price`` for each ``per`` tokens, exact. A price of 0 is ``free``: a rate, unlike an absent one."""

    price: Decimal
    per: int

    def amount(self, quantity: int) -> Decimal:
        """What a quantity costs, exact; the sum over any split of the quantity is the same (billing-rules.md I4)."""
        return money.cost(quantity, self.price, self.per)

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing."""
        return self.price == 0

    def __str__(self) -> str:
        return "free" if self.is_free else f"{money.plain(self.price)} per {self.per:,}"
