"""Sums of what was used: tokens of every kind, and units that have no tokens."""

from collections.abc import Iterable, Iterator, Mapping
from operator import add

import msgspec

from billing.tokens.components import Component, Components

_PARTS = tuple(Component)
_UNITS = tuple(part for part in Component if not part.is_tokens)


def used(quantities: Components) -> Iterator[tuple[Component, int]]:
    """What is not 0, by component as they are listed."""
    return (
        (part, quantity)
        for part, quantity in zip(_PARTS, msgspec.structs.astuple(quantities), strict=True)
        if quantity
    )


def units_of(quantities: Components) -> dict[Component, int]:
    """What has no tokens and is not 0, by component as they are listed."""
    return {part: quantities.get(part) for part in _UNITS if quantities.get(part)}


def plus(one: Components, other: Components) -> Components:
    """The sum of each component."""
    return Components(*map(add, msgspec.structs.astuple(one), msgspec.structs.astuple(other)))


def add_up(many: Iterable[Components]) -> Components:
    """The sum of each component over any number of them."""
    return Components(*map(sum, zip(*map(msgspec.structs.astuple, many), strict=True)))


def without(quantities: Mapping[Component, int], less: Mapping[Component, int]) -> dict[Component, int]:
    """What is left of units, by component; what is 0 is left out."""
    rest = {part: quantity - less.get(part, 0) for part, quantity in quantities.items()}
    return {part: quantity for part, quantity in rest.items() if quantity}
