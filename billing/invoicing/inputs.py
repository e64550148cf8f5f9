"""What an invoice was computed from, beside records and plan versions, which never change (billing-rules.md §1).

It is kept with the invoice, so that this can be computed again, byte for byte, whatever was renamed, subscribed or priced
since.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from billing.invoicing.period import Period
from billing.money import Rounding
from billing.pricing.coverage import Month
from billing.pricing.plan import Plan
from billing.pricing.term import Term

FORMAT = 2
"""Raised when the same inputs would give another content; whoever raises it keeps the older one computable.

Format 1 charged fees and minimums in full for a part of a month; its inputs have no ``quarters``.
"""


class PinnedTerm(msgspec.Struct, frozen=True):
    """A subscription's span as it was, and the versions that its plan had: a version added later does not count."""

    starts_us: int
    ends_us: int | None
    plan_id: UUID
    plan: str
    currency: str
    versions: tuple[int, ...]


class Inputs(msgspec.Struct, frozen=True):
    """Everything else that a content depends on. ``month_end_us`` is where the next month begins, also when early.

    ``quarters`` are the quarters of an hour of the calendar month in the tenant's zone, which fees are prorated by.
    """

    issuer: str
    tenant: str
    tenant_name: str
    time_zone: str
    month: str
    start_us: int
    end_us: int
    month_end_us: int
    is_early: bool
    rounding: Rounding
    terms: tuple[PinnedTerm, ...]
    format: int = FORMAT
    quarters: int | None = None

    @property
    def period(self) -> Period:
        """What the invoice covers."""
        return Period(self.start_us, self.end_us, self.month)

    @property
    def whole_month(self) -> Period:
        """The month that it is of: what comes after an early end is late usage of this invoice."""
        return Period(self.start_us, self.month_end_us, self.month)

    @property
    def charged_month(self) -> Month:
        """What fees and minimums are for."""
        return Month(self.start_us, self.month_end_us, self.quarters)

    @property
    def plans(self) -> set[str]:
        """The names of the plans it needs."""
        return {term.plan for term in self.terms}


def pin(terms: Iterable[Term]) -> tuple[PinnedTerm, ...]:
    """Terms as they are kept."""
    return tuple(
        PinnedTerm(
            starts_us=term.starts_us,
            ends_us=term.ends_us,
            plan_id=term.plan.id,
            plan=term.plan.name,
            currency=term.plan.currency,
            versions=tuple(sorted(version.number for version in term.plan.versions)),
        )
        for term in terms
    )


def unpin(pinned: Sequence[PinnedTerm], plans: Mapping[str, Plan]) -> list[Term]:
    """The terms as they were, from plans as they are. Raises ``ValueError`` when a version is gone, which cannot be."""
    return [Term(term.starts_us, term.ends_us, _as_it_was(term, plans)) for term in pinned]


def _as_it_was(term: PinnedTerm, plans: Mapping[str, Plan]) -> Plan:
    plan = plans.get(term.plan)
    versions = () if plan is None else tuple(each for each in plan.versions if each.number in term.versions)
    if plan is None or len(versions) != len(term.versions):
        raise ValueError(f"plan {term.plan} lacks versions that an invoice was computed with")
    return msgspec.structs.replace(plan, versions=versions)
