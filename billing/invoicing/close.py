"""Closing a period: what comes of it for each tenant, and why there is no invoice when there is none."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from billing.invoicing.draft import Draft
from billing.invoicing.invoice import InvoiceSummary
from billing.invoicing.period import instant
from billing.metering.stored import SpoolRow

SPOOLS_SHOWN_MAX = 5


class CloseState(StrEnum):
    """What a close did for a tenant."""

    ISSUED = "issued"
    ALREADY_ISSUED = "already_issued"
    """By an earlier close, or by another at the same time."""
    NO_INVOICE = "no_invoice"


class NoInvoice(StrEnum):
    """Why a tenant gets no invoice."""

    NO_PLAN = "no_plan"
    """No plan prices the period. What was used waits: a close after the tenant got one bills it."""
    NOTHING_TO_BILL = "nothing_to_bill"
    """Nothing was used, and the plan has neither fee nor minimum."""
    NOT_ENDED = "not_ended"
    """The period has not ended in the tenant's time zone, or has not begun."""
    REFUSED = "refused"
    """What the tenant has contradicts itself; ``detail`` says how. Nothing is billed before someone looked."""


class CloseResult(msgspec.Struct, frozen=True):
    """What a close did for a tenant: ``invoice`` unless there is none, and then ``reason`` and a sentence."""

    tenant: str
    month: str
    state: CloseState
    invoice: InvoiceSummary | None = None
    reason: NoInvoice | None = None
    detail: str = ""


def reason_against(without_usage: Draft, *, has_usage: bool) -> NoInvoice | None:
    """Why there would be no invoice; ``without_usage`` is the draft of a period in which nothing was used."""
    if without_usage.currency is None:
        return NoInvoice.NO_PLAN
    if not has_usage and without_usage.total_minor == 0:
        return NoInvoice.NOTHING_TO_BILL
    return None


def sentence(reason: NoInvoice, tenant: str, month: str) -> str:
    """What a reason means, and what to do about it."""
    if reason is NoInvoice.NO_PLAN:
        return f"no plan prices {month}: billing subscriptions create --tenant {tenant} --plan PLAN, then close again"
    return f"nothing was used in {month} and there is no fee"


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
