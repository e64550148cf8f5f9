"""Quantities times the rates in force at their time: exact amounts, and what has no rate (billing-rules.md §1, §5)."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from billing.pricing.plan import Plan, Resolved, Version, resolve
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component


class Term(msgspec.Struct, frozen=True):
    """A span of time ``[starts_us, ends_us)`` in which a tenant's usage is priced by a plan; None is open."""

    starts_us: int
    ends_us: int | None
    plan: Plan

    def holds_at(self, instant_us: int) -> bool:
        """Whether an instant falls into the term."""
        return self.starts_us <= instant_us and (self.ends_us is None or instant_us < self.ends_us)


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one component of one model at an instant: a record's time, or the start of its 15-minute bucket."""

    at_us: int
    model: str
    component: Component
    quantity: int


class Unpriced(StrEnum):
    """Why usage has no rate. It is shown and rated when the rate arrives, never billed at 0."""

    NO_PLAN = "no plan"
    """The tenant had no subscription then."""
    NO_VERSION = "no prices yet"
    """The plan's first version began later."""
    NO_RATE = "no rate"
    """The version in force says nothing about this component of this model."""


class Priced(msgspec.Struct, frozen=True):
    """Which rate applies: the identity of an invoice line, and its price."""

    plan: str
    version: Version
    currency: str
    rate: Resolved


class Rated(msgspec.Struct, frozen=True):
    """A line: its identity is (plan, version, model, component) within a period."""

    plan: str
    version: int
    model: str
    component: Component
    quantity: int
    price: UnitPrice
    amount: Decimal


class Unrated(msgspec.Struct, frozen=True):
    """Usage without a rate."""

    model: str
    component: Component
    quantity: int
    reason: Unpriced


class Rating(msgspec.Struct, frozen=True):
    """Everything that was used, once: with an amount, or with the reason why not."""

    lines: tuple[Rated, ...]
    unrated: tuple[Unrated, ...]


def price_at(terms: Sequence[Term], instant_us: int, model: str, component: Component) -> Priced | Unpriced:
    """The rate in force at an instant (I8), or why there is none."""
    held = _in_force(terms, instant_us)
    if isinstance(held, Unpriced):
        return held
    plan, version = held
    rate = resolve(version.content.rates, model, component)
    return Unpriced.NO_RATE if rate is None else Priced(plan.name, version, plan.currency, rate)


def _in_force(terms: Sequence[Term], instant_us: int) -> tuple[Plan, Version] | Unpriced:
    term = next((term for term in terms if term.holds_at(instant_us)), None)
    if term is None:
        return Unpriced.NO_PLAN
    version = term.plan.version_at(instant_us)
    return Unpriced.NO_VERSION if version is None else (term.plan, version)


_LineKey = tuple[str, int, str, Component]


class _Totals:
    """Quantities by line, in whatever order they come (P9)."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        self.quantities: dict[_LineKey, int] = {}
        self.prices: dict[_LineKey, UnitPrice] = {}
        self.unrated: dict[tuple[str, Component, Unpriced], int] = {}
        self._held: dict[int, tuple[Plan, Version] | Unpriced] = {}
        self._resolved: dict[_LineKey, Resolved | None] = {}

    def add(self, usage: Usage) -> None:
        held = self._held_at(usage.at_us)
        if isinstance(held, Unpriced):
            self._leave(usage, held)
            return
        plan, version = held
        line = (plan.name, version.number, usage.model, usage.component)
        if line not in self._resolved:
            self._resolved[line] = resolve(version.content.rates, usage.model, usage.component)
        rate = self._resolved[line]
        if rate is None:
            self._leave(usage, Unpriced.NO_RATE)
            return
        self.quantities[line] = self.quantities.get(line, 0) + usage.quantity
        self.prices[line] = rate.price

    def _held_at(self, instant_us: int) -> tuple[Plan, Version] | Unpriced:
        """Remembered per bucket, as the rates are per line: a month has many rows and few of either."""
        if instant_us not in self._held:
            self._held[instant_us] = _in_force(self._terms, instant_us)
        return self._held[instant_us]

    def _leave(self, usage: Usage, reason: Unpriced) -> None:
        key = (usage.model, usage.component, reason)
        self.unrated[key] = self.unrated.get(key, 0) + usage.quantity


def rate(usage: Iterable[Usage], terms: Sequence[Term]) -> Rating:
    """Price every quantity at its time. Zero quantities make no line; the order of ``usage`` does not matter (P9).

    Terms may not overlap (a constraint of the database). Lines are sorted by model, component, plan and version.
    """
    totals = _Totals(terms)
    for entry in usage:
        if entry.quantity:
            totals.add(entry)
    lines = [
        Rated(*key, quantity=quantity, price=totals.prices[key], amount=totals.prices[key].amount(quantity))
        for key, quantity in totals.quantities.items()
    ]
    unrated = [Unrated(model, part, quantity, why) for (model, part, why), quantity in totals.unrated.items()]
    return Rating(tuple(sorted(lines, key=_line_order)), tuple(sorted(unrated, key=_unrated_order)))


_PLACE = {component: place for place, component in enumerate(Component)}


def _line_order(line: Rated) -> tuple[str, int, str, int]:
    return line.model, _PLACE[line.component], line.plan, line.version


def _unrated_order(line: Unrated) -> tuple[str, int, str]:
    return line.model, _PLACE[line.component], line.reason
