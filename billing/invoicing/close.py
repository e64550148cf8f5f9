"""Closing a period: what comes of it for each tenant, and why there is no invoice when there is none."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from billing.invoicing.draft import Draft
from billing.invoicing.invoice import InvoiceSummary
from billing.invoicing.period import instant
from billing.metering.stored import RollupRow, SpoolRow
from billing.pricing.billable import Disposition, disposition
from billing.pricing.term import Gap, Unpriced

SPOOLS_SHOWN_MAX = 5
FAILURE_LENGTH_MAX = 200


class CloseState(StrEnum):
    """What a close did for a tenant."""

    ISSUED = "issued"
    ALREADY_ISSUED = "already_issued"
    """By an earlier close, or by another at the same time."""
    NO_INVOICE = "no_invoice"


class NoInvoice(StrEnum):
    """Why a tenant gets no invoice."""

    NO_PLAN = "no_plan"
    """Something was used while no plan prices it. It waits: a close after the tenant got one bills it."""
    NO_PRICES = "no_prices"
    """Something was used before the first version of its plan. It waits: a close after that got one bills it."""
    NOTHING_TO_BILL = "nothing_to_bill"
    """Nothing was used, and there is no plan, or one with neither fee nor minimum."""
    NOT_ENDED = "not_ended"
    """The period has not ended in the tenant's time zone, or has not begun."""
    REFUSED = "refused"
    """What the tenant has contradicts itself; ``detail`` says how. Nothing is billed before someone looked."""
    FAILED = "failed"
    """An error that nobody expected, of this tenant alone; ``detail`` is its first line, and the log has all of it."""


class CloseResult(msgspec.Struct, frozen=True):
    """What a close did for a tenant: ``invoice`` unless there is none, and then ``reason`` and a sentence."""

    tenant: str
    month: str
    state: CloseState
    invoice: InvoiceSummary | None = None
    reason: NoInvoice | None = None
    detail: str = ""


class Against(msgspec.Struct, frozen=True):
    """Why there is no invoice, and what to do about it in a sentence."""

    reason: NoInvoice
    detail: str


class Waiting(msgspec.Struct, frozen=True):
    """Usage that would be lost if the month was invoiced: no version was in force for it. ``requests`` of the gap."""

    gap: Gap
    requests: int


def waiting_in(gap: Gap, rows: Iterable[RollupRow]) -> Waiting | None:
    """The usage of a gap that may be billed once it has a price; None when all of it is waived."""
    kept = [row for row in rows if disposition(row.outcome, row.provenance) is not Disposition.WAIVE]
    return Waiting(gap, sum(row.requests for row in kept)) if kept else None


def reason_against(
    without_usage: Draft, tenant: str, *, has_usage: bool, waiting: Waiting | None = None
) -> Against | None:
    """Why there would be no invoice; ``without_usage`` is the draft of a period in which nothing was used."""
    month = without_usage.period.month
    if not has_usage and without_usage.currency is None:
        return Against(NoInvoice.NOTHING_TO_BILL, f"nothing was used in {month} and there is no plan")
    if without_usage.currency is None:
        advice = f"billing subscriptions create --tenant {tenant} --plan PLAN, then close again"
        return Against(NoInvoice.NO_PLAN, f"no plan prices {month}: {advice}")
    if waiting is not None:
        return _until_priced(waiting, tenant)
    if not has_usage and without_usage.total_minor == 0:
        return Against(NoInvoice.NOTHING_TO_BILL, f"nothing was used in {month} and there is no fee")
    return None


def _until_priced(waiting: Waiting, tenant: str) -> Against:
    gap = waiting.gap
    start, end = instant(gap.start_us), instant(gap.end_us)
    requests = "1 request was" if waiting.requests == 1 else f"{waiting.requests:,} requests were"
    if gap.reason is Unpriced.NO_VERSION:
        return Against(
            NoInvoice.NO_PRICES,
            f"plan {gap.plan} has no prices before {end}, and {requests} made since {start}: add a version that is effective "
            f"from {start} or earlier (billing plans apply FILE), then close again",
        )
    return Against(
        NoInvoice.NO_PLAN,
        f"no plan prices {start} to {end}, and {requests} made then: give it one, or one whose rates are free (billing "
        f"subscriptions create --tenant {tenant} --plan PLAN --starts-at {start} --ends-at {end}), then close again",
    )


def failure(fault: BaseException) -> str:
    """What an unexpected error is, in one line: what the database said, without the statement and its values."""
    said = getattr(fault, "orig", None) or fault
    first, *_ = str(said).strip().splitlines() or [""]
    return f"unexpected: {type(fault).__name__}: {first[:FAILURE_LENGTH_MAX]}; nothing is billed, and the log has all of it"


def waiting_for(behind: Sequence[SpoolRow], through_us: int) -> str:
    """Which spools a close waits for, on which host, and how far each is."""
    shown = "; ".join(_spool(each) for each in behind[:SPOOLS_SHOWN_MAX])
    more = f"; and {len(behind) - SPOOLS_SHOWN_MAX} more" if len(behind) > SPOOLS_SHOWN_MAX else ""
    return f"not every request from before {instant(through_us)} has its record yet: {shown}{more}"


def _spool(row: SpoolRow) -> str:
    through = (
        "by nobody yet" if row.recorded_through_us is None else f"through {instant(row.recorded_through_us)}"
    )
    return f"spool {row.id} on {row.host} is recorded {through}"
