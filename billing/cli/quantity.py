"""Quantities in tables: a column of tokens, and where something else is counted too, its unit beside it."""

from collections.abc import Iterable, Mapping, Sequence

from billing.cli import output
from billing.pricing.measure import TOKENS, counted, unit_of
from billing.tokens.components import Component

TITLES_OF_TOKENS = ("Tokens>",)
TITLES = ("Quantity>", "Unit")


def titles(words: Iterable[str]) -> tuple[str, ...]:
    """The titles of the columns for quantities of these words, which are components, ``total`` or ``request``."""
    return TITLES_OF_TOKENS if all(unit_of(word) == TOKENS for word in words) else TITLES


def cells(number: int, word: str, columns: Sequence[str]) -> tuple[str, ...]:
    """A quantity in columns with these titles."""
    return (output.count(number), unit_of(word))[: len(columns)]


def cell(number: int, word: str, columns: Sequence[str]) -> str:
    """A quantity in one column, with its unit where :func:`titles` has a column for that; for tables that are wide already."""
    return output.count(number) if len(columns) == 1 else counted(number, word)


def sum_cells(quantities: Iterable[tuple[str, int]], columns: Sequence[str]) -> tuple[str, ...]:
    """The sum of the tokens among quantities by word: units add up to nothing. Empty where there are only units."""
    of_tokens = [number for word, number in quantities if unit_of(word) == TOKENS]
    if not of_tokens and len(columns) > 1:
        return ("",) * len(columns)
    return (output.count(sum(of_tokens)), TOKENS)[: len(columns)]


def documented(units: Mapping[Component, int]) -> dict[str, int]:
    """Units by their component's word, as JSON has them."""
    return {part.value: number for part, number in units.items()}
