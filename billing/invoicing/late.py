"""Usage of an invoice's month that came too late for it: shown beside it, and billed by a later invoice (P8).

The invoice never changes. What the late usage costs is the difference between what full knowledge would have billed and
what was billed, both rounded: so fees are not counted twice and tiers go on where the invoice left them. After an early close
the fee of a plan that began since is in it too, used or not.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.invoicing.draft import Draft, draft
from billing.invoicing.inputs import Inputs
from billing.invoicing.quantities import add_up, units_of
from billing.metering.stored import RollupRow
from billing.pricing.term import Term
from billing.tokens.components import Component


class LateUsage(msgspec.Struct, frozen=True):
    """What came too late. ``amount_minor`` is what it would add, in the invoice's currency, also without a request: fees.

    ``requests_billed`` are those among the requests that would be billed; the others are waived or under review. ``units``
    are what came beside tokens, by component.
    """

    requests: int
    tokens: int
    requests_billed: int
    currency: str
    amount_minor: int
    units: dict[Component, int] = {}

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was used too late and nothing is owed beside the invoice."""
        return not self.requests and not self.amount_minor

    @property
    def amount(self) -> Decimal:
        """The same with the currency's decimals."""
        return money.from_minor(self.amount_minor, self.currency)


def is_late(row: RollupRow, inputs: Inputs, collection: int) -> bool:
    """Whether a row of the invoice's month is none of the invoice's."""
    return inputs.whole_month.holds(row.bucket_us) and (
        row.bucket_us >= inputs.end_us or row.collection > collection
    )


def late_usage(
    rows: Iterable[RollupRow],
    terms: Sequence[Term],
    inputs: Inputs,
    collection: int,
    issued: Draft,
    *,
    subscribed: Sequence[Term] | None = None,
) -> LateUsage:
    """What came too late; ``rows`` are all of the month, ``terms`` what prices it (``late_terms``).

    ``subscribed`` are what fees are prorated by (``late_subscribed``); the terms unless said.
    """
    everything = [row for row in rows if inputs.whole_month.holds(row.bucket_us)]
    late = [row for row in everything if is_late(row, inputs, collection)]
    quantities = add_up(row.components for row in late)
    currency = issued.currency or inputs.terms[0].currency
    whole = draft(
        everything,
        terms,
        inputs.whole_month,
        inputs.rounding,
        month=inputs.charged_month,
        subscribed=subscribed,
    )
    return LateUsage(
        requests=sum(row.requests for row in late),
        tokens=quantities.total,
        requests_billed=whole.billed.requests - issued.billed.requests,
        currency=currency,
        amount_minor=(whole.total_minor or 0) - (issued.total_minor or 0) if late or inputs.is_early else 0,
        units=units_of(quantities),
    )


def late_terms(pinned: Sequence[Term], present: Sequence[Term], inputs: Inputs) -> list[Term]:
    """What prices the whole month: the invoice's own terms, and after its early end the present ones.

    A price that was added to the past since does not count before that end, or it would look like late usage.
    """
    if not inputs.is_early:
        return list(pinned)
    before = [_until(term, inputs.end_us) for term in pinned if term.starts_us < inputs.end_us]
    return [*before, *(_since(term, inputs.end_us) for term in present if _goes_on(term, inputs.end_us))]


def late_subscribed(pinned: Sequence[Term], present: Sequence[Term], inputs: Inputs) -> list[Term]:
    """What fees of the whole month are prorated by: what the invoice charged stays charged when a plan is ended since."""
    later = [_since(term, inputs.end_us) for term in present if _goes_on(term, inputs.end_us)]
    return [*pinned, *(later if inputs.is_early else [])]


def _until(term: Term, end_us: int) -> Term:
    ends_us = end_us if term.ends_us is None else min(term.ends_us, end_us)
    return msgspec.structs.replace(term, ends_us=ends_us)


def _since(term: Term, end_us: int) -> Term:
    return msgspec.structs.replace(term, starts_us=max(term.starts_us, end_us))


def _goes_on(term: Term, end_us: int) -> bool:
    return term.ends_us is None or term.ends_us > end_us
