"""The graduated shape: each token, or unit of what has none, costs what its tier says, counted over the period.

Tiers are half-open, ``[begin, up_to)``, and cover ``[0, ∞)`` without a gap: nothing between two of them costs 0
(billing-rules.md §2).
"""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from billing import money
from billing.pricing.unit import Piece, UnitPrice


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """``price`` for each ``per`` of the tokens before the one numbered ``up_to``; None goes on without an end."""

    price: Decimal
    per: int
    up_to: int | None = None

    @property
    def unit(self) -> UnitPrice:
        """What each token in the tier costs."""
        return UnitPrice(self.price, self.per)


class GraduatedPrice(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="shape", tag="graduated"):
    """Tiers that are climbed over a period. ``allowance`` tokens are included before the first; tiers count after them.

    Raises ``ValueError`` when the tiers do not cover ``[0, ∞)``, each beginning where the one before ends.
    """

    tiers: tuple[Tier, ...]
    allowance: int = 0

    def __post_init__(self) -> None:
        *bounds, last = [tier.up_to for tier in self.tiers] or [0]
        begin = 0
        for bound in bounds:
            if bound is None or bound <= begin:
                raise ValueError(f"a tier to {bound} does not follow {begin}")
            begin = bound
        if last is not None:
            raise ValueError(f"the last tier ends at {last}; it has no end")

    def pieces(self, start: int, quantity: int) -> Iterator[Piece]:
        """The tokens ``[start, start + quantity)`` by tier; ``start`` is how many went before, the included ones apart."""
        begin = 0
        for number, tier in enumerate(self.tiers):
            end = start + quantity if tier.up_to is None else min(tier.up_to, start + quantity)
            inside = end - max(begin, start)
            if inside > 0:
                yield Piece(inside, tier.unit, number)
            begin = tier.up_to or 0

    def amount(self, quantity: int) -> Decimal:
        """What a whole period's quantity costs, exact, the included tokens apart."""
        return money.total([piece.price.amount(piece.quantity) for piece in self.pieces(0, quantity)])

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing."""
        return all(tier.price == 0 for tier in self.tiers)

    @property
    def is_cumulative(self) -> bool:
        """Whether what a token costs depends on how many went before it in the period: always."""
        return True

    @property
    def dearest(self) -> UnitPrice:
        """The price of a token in the dearest tier."""
        return max((tier.unit for tier in self.tiers), key=lambda unit: unit.amount(1))

    def __str__(self) -> str:
        parts = [
            f"{tier.unit} to {tier.up_to:,}" if tier.up_to is not None else str(tier.unit)
            for tier in self.tiers
        ]
        text = ", then ".join(parts)
        return f"{text}, {self.allowance:,} included" if self.allowance else text
