"""Any price that a rate may have, and how a quantity falls apart under it: the allowance first, then the shape."""

from collections.abc import Iterator
from decimal import Decimal
from typing import TypeAlias

from billing.pricing.graduated import GraduatedPrice
from billing.pricing.unit import Piece, UnitPrice

Price: TypeAlias = UnitPrice | GraduatedPrice
"""One of the shapes, told apart by ``shape`` where it is stored."""

NOTHING = UnitPrice(Decimal(0), 1)
"""What an included token costs."""


def pieces(price: Price, start: int, quantity: int) -> Iterator[Piece]:
    """The tokens ``[start, start + quantity)`` of a period: the included ones, then the others as the shape has them.

    The allowance is taken off before the shape counts (billing-rules.md §3, vector 8), so the amount of a quantity is
    that of any split of it, each part starting where the one before ends (I4).
    """
    included = min(quantity, max(0, price.allowance - start))
    if included:
        yield Piece(included, NOTHING, included=True)
    yield from price.pieces(max(0, start - price.allowance), quantity - included)
