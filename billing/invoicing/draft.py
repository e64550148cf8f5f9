"""The content of an invoice, from rollup rows and prices: the same rows in any order give the same draft (P9).

What is billed, waived and under review stands apart, and what has no rate is shown instead of costing 0. Every token and
unit of the period is in exactly one place, so the sections add up to the usage (P14).

Pools count what is billed. What is under review and what is waived would each have come on top of that, so each is worth
what it costs from where the billed usage ends, in pools of its own: an estimate, as a part of it may be billed yet.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from billing import money
from billing.errors import Conflict
from billing.invoicing.period import Period
from billing.invoicing.quantities import add_up, units_of, used, without
from billing.metering.rollup import NO_PROVENANCE
from billing.metering.stored import RollupRow
from billing.money import Rounding
from billing.pricing.billable import Billable, Disposition, disposition
from billing.pricing.charge import Charge, charges
from billing.pricing.coverage import Month
from billing.pricing.measure import REQUEST
from billing.pricing.rating import Group, Positions, Rated, Rating, Share, Unrated, Usage, rate
from billing.pricing.term import Held, Term, in_force
from billing.tokens.components import Component, Components

_Line = TypeVar("_Line", Rated, Charge)


class Reason(msgspec.Struct, frozen=True):
    """How much of a section ended in one way and is known in one way.

    ``tokens`` are those that are known, ``unrated`` those among them that no rate prices; ``units`` and ``units_unrated``
    are the same of what has no tokens, by component; ``amount`` is that of the rest.
    """

    outcome: str
    provenance: str
    requests: int
    tokens: int
    unrated: int
    amount: Decimal
    units: dict[Component, int] = {}
    units_unrated: dict[Component, int] = {}

    @property
    def requests_unknown(self) -> int:
        """Requests whose input or output is unknown, so that they used more than ``tokens`` says."""
        return self.requests if self.provenance == NO_PROVENANCE else 0

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of what was used: 0 tokens are not none then."""
        return self.tokens == 0 and not self.units and self.requests_unknown > 0

    @property
    def is_unrated(self) -> bool:
        """Whether something has no rate."""
        return self.unrated > 0 or bool(self.units_unrated)

    @property
    def worth(self) -> Decimal | None:
        """What it would have cost; None when nothing is known or nothing has a rate."""
        rated = self.tokens - self.unrated, without(self.units, self.units_unrated)
        return _worth(self.amount, rated, is_unknown=self.is_unknown, is_unrated=self.is_unrated)


class Section(msgspec.Struct, frozen=True):
    """Usage with one disposition. ``amount`` is the exact sum of its lines.

    ``tokens``, and ``units``, which have none, by component, count unrated ones too.
    """

    disposition: Disposition
    requests: int
    tokens: int
    lines: tuple[Rated, ...]
    unrated: tuple[Unrated, ...]
    amount: Decimal
    reasons: tuple[Reason, ...]
    units: dict[Component, int] = {}

    @property
    def tokens_unrated(self) -> int:
        """Tokens among ``tokens`` that no rate prices."""
        return sum(each.quantity for each in self.unrated if each.component.is_tokens)

    @property
    def units_unrated(self) -> dict[Component, int]:
        """Units among ``units`` that no rate prices, by component."""
        return _units_unrated(self.unrated)

    @property
    def requests_unknown(self) -> int:
        """Requests whose input or output is unknown."""
        return sum(each.requests_unknown for each in self.reasons)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of what was used."""
        return self.tokens == 0 and not self.units and self.requests_unknown > 0

    @property
    def worth(self) -> Decimal | None:
        """What it costs or would have cost; None when nothing is known or nothing has a rate."""
        rated = self.tokens - self.tokens_unrated, without(self.units, self.units_unrated)
        return _worth(self.amount, rated, is_unknown=self.is_unknown, is_unrated=bool(self.unrated))


def _units_unrated(unrated: Iterable[Unrated]) -> dict[Component, int]:
    quantities = [Components(**{each.component.value: each.quantity}) for each in unrated]
    return units_of(add_up(quantities))


class Draft(msgspec.Struct, frozen=True):
    """An invoice before it is issued. Only ``billed`` and ``charges`` are owed.

    ``subtotal`` is the exact sum of their lines, ``total_minor`` that sum rounded once to the currency's minor unit; the
    lines' ``amount_minor`` add up to it. ``currency`` is None while no plan prices the period, and then nothing is
    rounded.
    """

    period: Period
    currency: str | None
    label: str
    billed: Section
    charges: tuple[Charge, ...]
    """Fees and minimums, by plan in the order of time."""
    waived: Section
    review: Section
    subtotal: Decimal
    total_minor: int | None

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
    rows: Iterable[RollupRow],
    terms: Sequence[Term],
    period: Period,
    rounding: Rounding = Rounding.HALF_EVEN,
    *,
    month: Month | None = None,
    subscribed: Sequence[Term] | None = None,
) -> Draft:
    """What a period's usage costs. ``terms`` are what prices the tenant's usage in the period, by start.

    Fees and minimums are for the ``month``, of which the period is a part when it is closed early, and which it is unless
    said; ``subscribed`` is explained at ``charges``.

    Raises ``Conflict`` when the terms are in two currencies, which the subscriptions' own check keeps from happening.
    """
    currency = _currency(terms)
    by_disposition = _sorted_out(rows, terms, period)
    billed, positions = _section(Disposition.BILL, by_disposition, terms, {})
    waived, _ = _section(Disposition.WAIVE, by_disposition, terms, positions)
    review, _ = _section(Disposition.REVIEW, by_disposition, terms, positions)
    charged = charges(terms, period.start_us, period.end_us, billed.lines, month=month, subscribed=subscribed)
    exact = Draft(
        period=period,
        currency=currency,
        label=_label(terms, period),
        billed=billed,
        charges=charged,
        waived=waived,
        review=review,
        subtotal=money.total([billed.amount, *(each.amount for each in charged)]),
        total_minor=None,
    )
    return exact if currency is None else _rounded(exact, currency, rounding)


def billed_positions(rows: Iterable[RollupRow], terms: Sequence[Term], period: Period) -> Positions:
    """How far the period's billed usage has come in each pool: what the next token of it would cost follows."""
    return _section(Disposition.BILL, _sorted_out(rows, terms, period), terms, {})[1]


def _rounded(exact: Draft, currency: str, rounding: Rounding) -> Draft:
    """The total rounded once, and shared out over the lines by the largest remainder (billing-rules.md §3, vector 2)."""
    lines: list[Rated | Charge] = [*exact.billed.lines, *exact.charges]
    total_minor = money.to_minor(exact.subtotal, currency, rounding)
    minors = iter(money.allocate(total_minor, [line.amount for line in lines], currency))
    billed_lines = tuple(_printed(line, next(minors)) for line in exact.billed.lines)
    return msgspec.structs.replace(
        exact,
        billed=msgspec.structs.replace(exact.billed, lines=billed_lines),
        charges=tuple(_printed(each, next(minors)) for each in exact.charges),
        total_minor=total_minor,
    )


def _printed(line: _Line, amount_minor: int) -> _Line:
    return msgspec.structs.replace(line, amount_minor=amount_minor)


def _sorted_out(
    rows: Iterable[RollupRow], terms: Sequence[Term], period: Period
) -> dict[Disposition, list[RollupRow]]:
    """The rows of the period by what becomes of them, each judged by the version in force at its bucket."""
    said: dict[int, Billable] = {}
    found: dict[Disposition, list[RollupRow]] = {each: [] for each in Disposition}
    for row in rows:
        if not period.holds(row.bucket_us):
            continue
        if row.bucket_us not in said:
            held = in_force(terms, row.bucket_us)
            said[row.bucket_us] = held.version.content.billable if isinstance(held, Held) else {}
        found[disposition(row.outcome, row.provenance, said[row.bucket_us])].append(row)
    return found


def _section(
    each: Disposition,
    by_disposition: dict[Disposition, list[RollupRow]],
    terms: Sequence[Term],
    start: Positions,
) -> tuple[Section, Positions]:
    """A section, and where its pools stand after it."""
    rows = by_disposition[each]
    with_requests = _prices_requests(terms)
    usage = (used for row in rows for used in _usage(row, with_requests=with_requests))
    rating = rate(usage, terms, start)
    reasons, quantities = _reasons(rows, rating)
    made = Section(
        disposition=each,
        requests=sum(reason.requests for reason in reasons),
        tokens=quantities.total,
        lines=rating.lines,
        unrated=rating.unrated,
        amount=rating.amount,
        reasons=reasons,
        units=units_of(quantities),
    )
    return made, rating.positions


def _prices_requests(terms: Sequence[Term]) -> bool:
    """Whether some version prices requests: hardly any does, and then nobody counts them."""
    contents = (version.content for term in terms for version in term.plan.versions)
    return any(entry.request is not None for content in contents for entry in content.rates)


def _usage(row: RollupRow, *, with_requests: bool) -> Iterator[Usage]:
    """The row's quantities at its bucket's start: prices change on the 15-minute grid only."""
    group = (row.outcome, row.provenance)
    for part, quantity in used(row.components):
        yield Usage(row.bucket_us, row.model, part, quantity, group)
    if with_requests:
        yield Usage(row.bucket_us, row.model, REQUEST, row.requests, group)


def _reasons(rows: Sequence[RollupRow], rating: Rating) -> tuple[tuple[Reason, ...], Components]:
    """What a section is made of, and the sum of all."""
    grouped: dict[Group, list[RollupRow]] = {}
    for row in rows:
        grouped.setdefault((row.outcome, row.provenance), []).append(row)
    sums = {group: add_up(row.components for row in grouped[group]) for group in sorted(grouped)}
    reasons = [
        _reason(
            group, sum(row.requests for row in grouped[group]), quantities, rating.shares.get(group, Share())
        )
        for group, quantities in sums.items()
    ]
    return tuple(reasons), add_up(sums.values())


def _reason(group: Group, requests: int, quantities: Components, share: Share) -> Reason:
    outcome, provenance = group
    return Reason(
        outcome=outcome,
        provenance=provenance,
        requests=requests,
        tokens=quantities.total,
        unrated=share.unrated,
        amount=share.amount,
        units=units_of(quantities),
        units_unrated=share.units_unrated,
    )


def _worth(
    amount: Decimal, rated: tuple[int, Mapping[Component, int]], *, is_unknown: bool, is_unrated: bool
) -> Decimal | None:
    """An amount, unless nobody can say: of what is rated there is nothing, nor a price of requests that came to something."""
    is_nothing = is_unrated and not any(rated) and amount == 0
    return None if is_unknown or is_nothing else amount


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
