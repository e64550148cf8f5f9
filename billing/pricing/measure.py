"""What a plan's words count, for people: tokens, or a unit that has no tokens (billing-rules.md §5).

Components are the words of rollups and invoices; a plan may price each request beside them.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from billing.tokens.components import Component

REQUEST: Final = "request"
"""The word of a price for each request. It is no component: requests are priced where a plan says so, and never unrated."""

Word: TypeAlias = Component | Literal["request"]
"""Whatever has a quantity that a plan may price."""

WORDS: tuple[Word, ...] = (*Component, REQUEST)
TOKENS = "tokens"

_UNITS: dict[str, tuple[str, str]] = {
    Component.IMAGE: ("image", "images"),
    Component.SECOND: ("second", "seconds"),
    Component.GPU_SECOND: ("GPU second", "GPU seconds"),
    Component.CHARACTER: ("character", "characters"),
    Component.SEARCH: ("search", "searches"),
    REQUEST: ("request", "requests"),
}
"""One and many of each word that counts no tokens."""
_TOKEN = ("token", TOKENS)


def unit_of(word: str) -> str:
    """What a word's quantities are counted in: ``tokens`` of every component that is tokens and of ``total``."""
    return _UNITS[word][1] if word in _UNITS else TOKENS


def one_of(word: str) -> str:
    """One of what a word counts: ``token``, ``image``."""
    return _UNITS.get(word, _TOKEN)[0]


def counted(quantity: int, word: str) -> str:
    """A quantity with its unit: ``1 image``, ``1,000 tokens``."""
    one, many = _UNITS.get(word, _TOKEN)
    return f"{quantity:,} {one if quantity == 1 else many}"


def listed(quantities: Mapping[Component, int] | Mapping[str, int]) -> str:
    """Quantities by word, one after the other: ``12 seconds, 3 images``; empty for none."""
    return ", ".join(counted(quantity, word) for word, quantity in quantities.items())


def in_all(tokens: int, units: Mapping[Component, int] | Mapping[str, int]) -> str:
    """Tokens and what has none: ``1,000 tokens, 12 seconds``; the units alone where there are no tokens beside them."""
    of_tokens = [f"{tokens:,} {_TOKEN[tokens != 1]}"] if tokens or not units else []
    return ", ".join([*of_tokens, *filter(None, [listed(units)])])
