"""Price plans: immutable, dated versions of rates, and which rate prices what (billing-rules.md §5)."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from billing.errors import InvalidInput
from billing.pricing.billable import Disposition
from billing.pricing.measure import REQUEST, WORDS, Word
from billing.pricing.pattern import ANY, Specificity, can_match_the_same, matches, specificity
from billing.pricing.price import Price
from billing.tokens.components import Component

SHORTHANDS: dict[str, tuple[Component, ...]] = {
    "input": (Component.UNCACHED_INPUT, Component.CACHED_INPUT, Component.CACHE_WRITE),
    "output": (Component.ANSWER_OUTPUT, Component.REASONING),
}
"""Words of a plan that stand for their parts; a part that is named beside its shorthand keeps its own price.

Parts by kind (audio, images, video) are not listed: they fall back to ``uncached_input`` and ``answer_output``, so that
contents that were stored before they existed price them, with the same bytes.
"""

FALLBACKS: dict[Component, Component] = {
    Component.CACHED_INPUT: Component.UNCACHED_INPUT,
    Component.CACHE_WRITE: Component.UNCACHED_INPUT,
    Component.REASONING: Component.ANSWER_OUTPUT,
    Component.AUDIO_INPUT: Component.UNCACHED_INPUT,
    Component.IMAGE_INPUT: Component.UNCACHED_INPUT,
    Component.VIDEO_INPUT: Component.UNCACHED_INPUT,
    Component.AUDIO_OUTPUT: Component.ANSWER_OUTPUT,
    Component.IMAGE_OUTPUT: Component.ANSWER_OUTPUT,
}
"""What a component without a rate of its own is priced as, within the same model pattern. Training and units, which have
no whole that contains them, are priced by their own word or not at all."""


TOTAL = "total"
"""The word of one price for all tokens of prompts and answers; it stands where a component's word would."""


class ModelRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """The prices of the models that a pattern matches: of components, ``total``, one for all tokens, and of a ``request``.

    ``pools`` are the words under which cumulative prices were written, where that is not the component's own: what one
    written price prices climbs its tiers and uses its allowance together. A price that is not cumulative needs none, so
    that the same prices are the same content however they were written.
    """

    model: str
    prices: dict[Component, Price]
    total: Price | None = None
    pools: dict[Component, str] = {}
    request: Price | None = None

    @property
    def by_word(self) -> dict[str, Price]:
        """Every price by its word: components as they are listed, then ``total`` and ``request``."""
        priced: dict[str, Price] = {
            part.value: self.prices[part] for part in Component if part in self.prices
        }
        beside = ((TOTAL, self.total), (REQUEST, self.request))
        return priced | {word: price for word, price in beside if price is not None}

    @property
    def by_pool(self) -> dict[str, Price]:
        """Every price once, by its word as written where it is cumulative."""
        return {self.pool(word): price for word, price in self.by_word.items()}

    def pool(self, word: str) -> str:
        """The word under which the price of a word was written."""
        return {part.value: pool for part, pool in self.pools.items()}.get(word, word)

    def candidate(self, word: Word) -> "Resolved | None":
        """The price that this pattern has for a word: its own, that of what it falls back to, or that of all tokens."""
        if not isinstance(word, Component):
            return None if self.request is None else Resolved(self.model, REQUEST, self.request, REQUEST)
        if self.total is not None and word.is_served:
            return Resolved(self.model, TOTAL, self.total, TOTAL)
        for wanted in (word, FALLBACKS.get(word)):
            if wanted is not None and wanted in self.prices:
                pool = self.pools.get(wanted, wanted.value)
                return Resolved(self.model, wanted.value, self.prices[wanted], pool)
        return None


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a version says; stored as it stands and never changed."""

    label: str
    rates: tuple[ModelRates, ...]
    monthly_fee: Decimal | None = None
    """Charged once a month; for a part of one, that part of it."""
    minimum: Decimal | None = None
    """What the usage of a month comes to at least, the fee apart; for a part of one, that part of it."""
    billable: dict[str, dict[str, Disposition]] = {}
    """Outcome to provenance to what becomes of such usage, over the defaults of ``billable.py``."""


class Version(msgspec.Struct, frozen=True):
    """The content that holds from an instant on the 15-minute grid until the next version's."""

    effective_us: int
    content: Content
    number: int = 0
    """Counted from 1 in the order in which versions were stored; 0 is not stored yet."""


class PlanFile(msgspec.Struct, frozen=True):
    """A plan as an operator wrote it, whole and checked; versions by their instant."""

    name: str
    currency: str
    versions: tuple[Version, ...]
    unused: tuple[str, ...] = ()
    """Paths of what was written and prices nothing."""


class Plan(msgspec.Struct, frozen=True):
    """A stored plan; versions by their instant."""

    id: UUID
    name: str
    currency: str
    created_at_us: int
    versions: tuple[Version, ...]

    def version_at(self, instant_us: int) -> Version | None:
        """The version in force at an instant; None before the first."""
        in_force = [version for version in self.versions if version.effective_us <= instant_us]
        return in_force[-1] if in_force else None


class Resolved(msgspec.Struct, frozen=True):
    """The one rate that prices a word for a model, and how it was found."""

    pattern: str
    priced_as: str
    """The component whose price it is, ``total`` or ``request``."""
    price: Price
    pool: str
    """The word as written: with the pattern, what climbs the tiers of a cumulative price together."""


def resolve(rates: Sequence[ModelRates], model: str, word: Word) -> Resolved | None:
    """The one rate that prices a word for a model; None leaves a component unrated (I7), and a request without a price.

    The most specific pattern that has a candidate wins: what is said of a model counts more than a price of the very
    component for all models. :func:`check_rates` refused ties, so there is one winner.
    """
    best: Resolved | None = None
    for entry in rates:
        candidate = entry.candidate(word) if matches(entry.model, model) else None
        if candidate is not None and (best is None or specificity(entry.model) > specificity(best.pattern)):
            best = candidate
    return best


def check_rates(rates: Sequence[ModelRates], where: str) -> None:
    """That no two entries can tie; raises ``InvalidInput`` naming both (billing-rules.md §5: ambiguity is an error)."""
    first_of: dict[str, int] = {}
    rivals: dict[Specificity, list[int]] = {}
    for index, entry in enumerate(rates):
        place = f"{where}[{index}].model"
        if entry.model in first_of:
            raise InvalidInput(
                f"{place}: {entry.model} has its rates at {where}[{first_of[entry.model]}] already", place
            )
        first_of[entry.model] = index
        if ANY not in entry.model:
            continue
        equals = rivals.setdefault(specificity(entry.model), [])
        for before in equals:
            shared = _tie(rates[before], entry)
            if shared is not None:
                raise InvalidInput(
                    f"{place}: {entry.model} and {rates[before].model} ({where}[{before}]) can match the same model, are "
                    f"equally specific and both price {shared}: make one of them longer",
                    place,
                )
        equals.append(index)


def _tie(one: ModelRates, other: ModelRates) -> Word | None:
    """A word for which two equally specific entries are both candidates for some model."""
    if not can_match_the_same(one.model, other.model):
        return None
    return next((word for word in WORDS if one.candidate(word) and other.candidate(word)), None)
