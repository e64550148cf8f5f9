"""The content of an invoice, from rollup rows and prices: the same rows in any order give the same draft (P9).

What is billed, waived and under review stands apart, and what has no rate is shown instead of costing 0. Every token of
the period is in exactly one place, so the sections add up to the usage (P14).
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.errors import Conflict
from billing.invoicing.period import Period
from billing.metering.rollup import NO_PROVENANCE
from billing.metering.stored import RollupRow
from billing.money import Rounding
from billing.pricing.billable import Disposition, disposition
from billing.pricing.rating import Rated, Rating, Term, Unrated, Usage, rate
from billing.tokens.components import Component, Components


class Reason(msgspec.Struct, frozen=True):
    """How much of a section ended in one way and is known in one way.

    ``tokens`` are those that are known, ``unrated`` those among them that no rate prices; ``amount`` is that of the rest.
    """

    outcome: str
    provenance: str
    requests: int
    tokens: int
    unrated: int
    amount: Decimal

    @property
    def requests_unknown(self) -> int:
        """Requests whose input or output is unknown, so that they used more than ``tokens`` says."""
        return self.requests if self.provenance == NO_PROVENANCE else 0

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of what was used: 0 tokens are not none then."""
        return self.tokens == 0 and self.requests_unknown > 0

    @property
    def worth(self) -> Decimal | None:
        """What the tokens would have cost; None when nothing is known or nothing has a rate."""
        return _worth(self.tokens, self.unrated, self.amount, is_unknown=self.is_unknown)


class Section(msgspec.Struct, frozen=True):
    """Usage with one disposition. ``amount`` is the exact sum of its lines; ``tokens`` counts unrated ones too."""

    disposition: Disposition
    requests: int
    tokens: int
    lines: tuple[Rated, ...]
    unrated: tuple[Unrated, ...]
    amount: Decimal
    reasons: tuple[Reason, ...]

    @property
    def tokens_unrated(self) -> int:
        """Tokens among ``tokens`` that no rate prices."""
        return sum(each.quantity for each in self.unrated)

    @property
    def requests_unknown(self) -> int:
        """Requests whose input or output is unknown."""
        return sum(each.requests_unknown for each in self.reasons)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of what was used."""
        return self.tokens == 0 and self.requests_unknown > 0

    @property
    def worth(self) -> Decimal | None:
        """What the tokens cost or would have cost; None when nothing is known or nothing has a rate."""
        return _worth(self.tokens, self.tokens_unrated, self.amount, is_unknown=self.is_unknown)


class Draft(msgspec.Struct, frozen=True):
    """An invoice before it is issued. Only ``billed`` is owed; ``currency`` is None while no plan prices the period."""

    period: Period
    currency: str | None
    label: str
    billed: Section
    waived: Section
    review: Section
    total_minor: int | None

    @property
    def subtotal(self) -> Decimal:
        """What is owed, exact."""
        return self.billed.amount

    @property
    def total(self) -> Decimal | None:
        """What is owed, rounded once to the currency's minor unit."""
        if self.currency is None or self.total_minor is None:
            return None
        return money.from_minor(self.total_minor, self.currency)

    @property
    def sections(self) -> tuple[Section, Section, Section]:
        """Billed, waived, under review."""
        return self.billed, self.waived, self.review


def draft(
    rows: Iterable[RollupRow], terms: Sequence[Term], period: Period, rounding: Rounding = Rounding.HALF_EVEN
) -> Draft:
    """What a period's usage costs. ``terms`` are what prices the tenant's usage in the period, by start.

    Raises ``Conflict`` when the terms are in two currencies, which the subscriptions' own check keeps from happening.
    """
    by_disposition: dict[Disposition, list[RollupRow]] = {each: [] for each in Disposition}
    for row in rows:
        if period.holds(row.bucket_us):
            by_disposition[disposition(row.outcome, row.provenance)].append(row)
    billed, waived, review = (_section(each, by_disposition[each], terms) for each in Disposition)
    currency = _currency(terms)
    return Draft(
        period=period,
        currency=currency,
        label=_label(terms, period),
        billed=billed,
        waived=waived,
        review=review,
        total_minor=None if currency is None else money.to_minor(billed.amount, currency, rounding),
    )


def _section(each: Disposition, rows: Sequence[RollupRow], terms: Sequence[Term]) -> Section:
    rating = _rate(rows, terms)
    return Section(
        disposition=each,
        requests=sum(row.requests for row in rows),
        tokens=sum(tokens_of(row).total for row in rows),
        lines=rating.lines,
        unrated=rating.unrated,
        amount=_amount(rating),
        reasons=_reasons(rows, terms),
    )


def tokens_of(row: RollupRow) -> Components:
    """What a rollup row holds of each component."""
    return Components(row.uncached_input, row.cached_input, row.cache_write, row.answer_output, row.reasoning)


def _usage(row: RollupRow) -> Iterable[Usage]:
    """The row's quantities at its bucket's start: prices change on the 15-minute grid only."""
    tokens = tokens_of(row)
    return (Usage(row.bucket_us, row.model, part, tokens.get(part)) for part in Component)


def _reasons(rows: Sequence[RollupRow], terms: Sequence[Term]) -> tuple[Reason, ...]:
    grouped: dict[tuple[str, str], list[RollupRow]] = {}
    for row in rows:
        grouped.setdefault((row.outcome, row.provenance), []).append(row)
    return tuple(_reason(*key, grouped[key], terms) for key in sorted(grouped))


def _reason(outcome: str, provenance: str, rows: Sequence[RollupRow], terms: Sequence[Term]) -> Reason:
    rating = _rate(rows, terms)
    return Reason(
        outcome=outcome,
        provenance=provenance,
        requests=sum(row.requests for row in rows),
        tokens=sum(tokens_of(row).total for row in rows),
        unrated=sum(each.quantity for each in rating.unrated),
        amount=_amount(rating),
    )


def _rate(rows: Sequence[RollupRow], terms: Sequence[Term]) -> Rating:
    return rate((usage for row in rows for usage in _usage(row)), terms)


def _amount(rating: Rating) -> Decimal:
    return money.total([line.amount for line in rating.lines])


def _worth(tokens: int, unrated: int, amount: Decimal, *, is_unknown: bool) -> Decimal | None:
    return None if is_unknown or (unrated and unrated == tokens) else amount


def _currency(terms: Sequence[Term]) -> str | None:
    currencies = sorted({term.plan.currency for term in terms})
    if len(currencies) > 1:
        raise Conflict(f"the period has plans in {' and '.join(currencies)}; one invoice is in one currency")
    return currencies[0] if currencies else None


def _label(terms: Sequence[Term], period: Period) -> str:
    """The label of the prices in force at the end of the period."""
    for term in reversed(terms):
        last_us = min(period.end_us, term.ends_us or period.end_us) - 1
        version = term.plan.version_at(last_us)
        if version is not None:
            return version.content.label
    return ""
