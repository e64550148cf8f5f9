"""Quantities times the rates in force at their time: exact amounts, and what has no rate (billing-rules.md §1, §5).

From usage to what a period comes to, the steps and why they stand in this order:

1. **Pools**: what one written price prices is counted together, so that no model, component or bucket starts anew.
2. **Allowance**: what is included is taken off before the shape counts, or it would be the dearest tokens of some and
   the cheapest of others.
3. **Shape**: unit or graduated, on what is left. An amount is exact; nothing is rounded before the invoice's total.
4. **Fee** (``charge.py``): owed whether or not anything was used, so it neither uses an allowance nor fills a minimum.
5. **Minimum** (``charge.py``): last, because it is what the amounts of steps 1 to 3 lack.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeAlias

import msgspec

from billing import money
from billing.pricing.measure import REQUEST, TOKENS, Word, unit_of
from billing.pricing.plan import TOTAL, Resolved, Version, resolve
from billing.pricing.price import pieces
from billing.pricing.risk import at_risk
from billing.pricing.term import Held, Term, Unpriced, in_force, nearest
from billing.pricing.unit import Piece, UnitPrice
from billing.tokens.components import Component

Group: TypeAlias = tuple[str, str]
"""What usage is told apart by beside its price: how it ended and how it is known."""

UNGROUPED: Group = ("", "")


class Usage(msgspec.Struct, frozen=True):
    """A quantity of one component of one model at an instant: a record's time, or the start of its 15-minute bucket.

    Or its number of requests, which cost something only where a plan prices them and are never unrated.
    """

    at_us: int
    model: str
    component: Word
    quantity: int
    group: Group = UNGROUPED


class Pool(NamedTuple):
    """What climbs the tiers and uses the allowance of one written price together, over a period."""

    plan: str
    pattern: str
    word: str


Positions: TypeAlias = Mapping[Pool, int]
"""How much of a period each pool has counted, what is included in it too."""


class Priced(msgspec.Struct, frozen=True):
    """Which rate applies: the identity of an invoice line, and its price."""

    plan: str
    version: Version
    currency: str
    rate: Resolved

    @property
    def pool(self) -> Pool:
        """What a cumulative price counts together."""
        return Pool(self.plan, self.rate.pattern, self.rate.pool)


class Rated(msgspec.Struct, frozen=True):
    """A line: its identity is (plan, version, model, component, tier, included) within a period.

    ``component`` is a component's word, ``total`` or ``request``; ``price`` is that of each of its tokens or units, whatever
    the shape it is from, so that quantity × price = ``amount``, exact. ``tier`` counts from 0 in a graduated price; what is ``included``
    is within an allowance and costs 0. ``amount_minor`` is what an invoice prints; None where nothing is rounded.
    """

    plan: str
    version: int
    model: str
    component: str
    quantity: int
    price: UnitPrice
    amount: Decimal
    tier: int | None = None
    included: bool = False
    amount_minor: int | None = None


class Unrated(msgspec.Struct, frozen=True):
    """Usage without a rate. ``at_risk`` estimates what it might have cost (``risk.py``); None where nobody can say."""

    model: str
    component: Component
    quantity: int
    reason: Unpriced
    at_risk: Decimal | None = None


class Share(msgspec.Struct, frozen=True):
    """What a group of usage costs, and how many of its tokens and units have no rate."""

    amount: Decimal = Decimal(0)
    unrated: int = 0
    units_unrated: dict[Component, int] = {}


class Rating(msgspec.Struct, frozen=True):
    """Everything that was used, once: with an amount, or with the reason why not.

    ``shares`` add up to the lines, by group; ``positions`` are where the pools stand after it.
    """

    lines: tuple[Rated, ...]
    unrated: tuple[Unrated, ...]
    shares: dict[Group, Share]
    positions: dict[Pool, int]

    @property
    def amount(self) -> Decimal:
        """The exact sum of the lines."""
        return money.total([line.amount for line in self.lines])


def price_at(terms: Sequence[Term], instant_us: int, model: str, component: Word) -> Priced | Unpriced:
    """The rate in force at an instant (I8), or why there is none."""
    held = in_force(terms, instant_us)
    if isinstance(held, Unpriced):
        return held
    rate = resolve(held.version.content.rates, model, component)
    return (
        Unpriced.NO_RATE if rate is None else Priced(held.plan.name, held.version, held.plan.currency, rate)
    )


_WORDS = (
    *(component.value for component in Component if component.is_served),
    TOTAL,
    *(component.value for component in Component if not component.is_served),
    REQUEST,
)
"""In the order of an invoice: tokens of prompts and answers, then all of them in one, then what stands beside them."""
_PLACE = {word: place for place, word in enumerate(_WORDS)}


class _Heap(NamedTuple):
    """A quantity that goes into its pool at once. Sorted, heaps are in the order of filling.

    Only time decides between versions; within one the order is a convention, the same for every order of the usage:
    components as they are listed, then models by name, then groups.
    """

    plan: str
    effective_us: int
    place: int
    model: str
    group: Group


class _Left(NamedTuple):
    """Usage without a rate, and the version by which it is estimated."""

    model: str
    component: Component
    reason: Unpriced
    group: Group
    guide: tuple[str, int] | None


class _Totals:
    """Quantities by heap, in whatever order they come (P9)."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        self.quantities: dict[_Heap, int] = {}
        self.priced: dict[tuple[str, int, int, str], Priced] = {}
        self.left: dict[_Left, int] = {}
        self.guides: dict[tuple[str, int], Version] = {}
        self._held: dict[int, Held | Unpriced] = {}
        self._nearest: dict[int, Held | None] = {}
        self._resolved: dict[tuple[str, int, str, Word], Resolved | None] = {}

    def add(self, usage: Usage) -> None:
        held = self._held_at(usage.at_us)
        if isinstance(held, Unpriced):
            self._leave(usage, held, self._nearest_at(usage.at_us))
            return
        rate = self._resolve(held, usage)
        if rate is None:
            self._leave(usage, Unpriced.NO_RATE, held)
            return
        word = TOTAL if rate.priced_as == TOTAL else str(usage.component)
        heap = _Heap(held.plan.name, held.version.effective_us, _PLACE[word], usage.model, usage.group)
        self.quantities[heap] = self.quantities.get(heap, 0) + usage.quantity
        if heap[:4] not in self.priced:
            self.priced[heap[:4]] = Priced(held.plan.name, held.version, held.plan.currency, rate)

    def _held_at(self, instant_us: int) -> Held | Unpriced:
        """Remembered per bucket, as the rates are per component: a month has many rows and few of either."""
        if instant_us not in self._held:
            self._held[instant_us] = in_force(self._terms, instant_us)
        return self._held[instant_us]

    def _nearest_at(self, instant_us: int) -> Held | None:
        if instant_us not in self._nearest:
            self._nearest[instant_us] = nearest(self._terms, instant_us)
        return self._nearest[instant_us]

    def _resolve(self, held: Held, usage: Usage) -> Resolved | None:
        key = (held.plan.name, held.version.effective_us, usage.model, usage.component)
        if key not in self._resolved:
            self._resolved[key] = resolve(held.version.content.rates, usage.model, usage.component)
        return self._resolved[key]

    def _leave(self, usage: Usage, reason: Unpriced, guide: Held | None) -> None:
        if not isinstance(usage.component, Component):
            return
        named = None if guide is None else (guide.plan.name, guide.version.effective_us)
        if guide is not None and named is not None:
            self.guides[named] = guide.version
        key = _Left(usage.model, usage.component, reason, usage.group, named)
        self.left[key] = self.left.get(key, 0) + usage.quantity


class _LineKey(NamedTuple):
    plan: str
    version: int
    model: str
    component: str
    tier: int | None
    included: bool


class _Filling:
    """Pools as heap after heap goes into them, and the lines and shares that come out."""

    def __init__(self, start: Positions) -> None:
        self.positions = dict(start)
        self.quantities: dict[_LineKey, int] = {}
        self.prices: dict[_LineKey, UnitPrice] = {}
        self.amounts: dict[Group, Decimal] = {}

    def fill(self, heap: _Heap, quantity: int, priced: Priced) -> None:
        price, begin = priced.rate.price, 0
        if price.is_cumulative:
            begin = self.positions.get(priced.pool, 0)
            self.positions[priced.pool] = begin + quantity
        for piece in pieces(price, begin, quantity):
            self._put(heap, piece, priced.version.number)

    def _put(self, heap: _Heap, piece: Piece, version: int) -> None:
        key = _LineKey(heap.plan, version, heap.model, _WORDS[heap.place], piece.tier, piece.included)
        self.quantities[key] = self.quantities.get(key, 0) + piece.quantity
        self.prices[key] = piece.price
        before = self.amounts.get(heap.group, Decimal(0))
        self.amounts[heap.group] = money.total([before, piece.price.amount(piece.quantity)])


def rate(usage: Iterable[Usage], terms: Sequence[Term], start: Positions | None = None) -> Rating:
    """Price every quantity at its time. Zero quantities make no line; the order of ``usage`` does not matter (P9).

    Terms may not overlap (a constraint of the database). Pools begin where ``start`` says, at 0 unless given, and go on
    from one version of a plan to the next, whatever lies between: an allowance is there once a period (I6), and a period
    cut at any instant costs the same (I8). A price that is not cumulative counts in no pool. Lines are sorted by model,
    component, plan and version, what is included before the tiers.
    """
    totals = _Totals(terms)
    for entry in usage:
        if entry.quantity:
            totals.add(entry)
    filling = _Filling(start or {})
    for heap in sorted(totals.quantities):
        filling.fill(heap, totals.quantities[heap], totals.priced[heap[:4]])
    return Rating(_lines(filling), _unrated(totals), _shares(filling, totals), filling.positions)


def _lines(filling: _Filling) -> tuple[Rated, ...]:
    lines = [
        Rated(
            plan=key.plan,
            version=key.version,
            model=key.model,
            component=key.component,
            quantity=quantity,
            price=filling.prices[key],
            amount=filling.prices[key].amount(quantity),
            tier=key.tier,
            included=key.included,
        )
        for key, quantity in filling.quantities.items()
    ]
    return tuple(sorted(lines, key=_line_order))


def _line_order(line: Rated) -> tuple[str, int, str, int, bool, int]:
    return line.model, _PLACE[line.component], line.plan, line.version, not line.included, line.tier or 0


def _unrated(totals: _Totals) -> tuple[Unrated, ...]:
    quantities: dict[tuple[str, Component, Unpriced], int] = {}
    estimates: dict[tuple[str, Component, Unpriced], list[Decimal | None]] = {}
    for left, quantity in totals.left.items():
        key = (left.model, left.component, left.reason)
        quantities[key] = quantities.get(key, 0) + quantity
        guide = None if left.guide is None else totals.guides[left.guide].content
        estimate = None if guide is None else at_risk(guide, left.component, quantity)
        estimates.setdefault(key, []).append(estimate)
    made = [
        Unrated(model, part, quantities[model, part, why], why, _sum(estimates[model, part, why]))
        for model, part, why in quantities
    ]
    return tuple(sorted(made, key=lambda each: (each.model, _PLACE[each.component], each.reason)))


def _sum(estimates: Sequence[Decimal | None]) -> Decimal | None:
    """The sum of estimates; None when one of them is, for a sum without it would look like the whole."""
    known = [each for each in estimates if each is not None]
    return money.total(known) if len(known) == len(estimates) else None


def _shares(filling: _Filling, totals: _Totals) -> dict[Group, Share]:
    unrated: dict[Group, dict[Component, int]] = {}
    for left, quantity in totals.left.items():
        of_group = unrated.setdefault(left.group, {})
        of_group[left.component] = of_group.get(left.component, 0) + quantity
    groups = sorted(filling.amounts.keys() | unrated.keys())
    return {group: _share(filling.amounts.get(group, Decimal(0)), unrated.get(group, {})) for group in groups}


def _share(amount: Decimal, unrated: dict[Component, int]) -> Share:
    tokens = sum(quantity for part, quantity in unrated.items() if unit_of(part) == TOKENS)
    units = {part: unrated[part] for part in Component if part in unrated and unit_of(part) != TOKENS}
    return Share(amount, tokens, units)
