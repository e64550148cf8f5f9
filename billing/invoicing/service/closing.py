"""Closing a month, in two transactions for each tenant.

The first is the cut: under the exclusive lock that recorders take shared, the collection is read and raised and a draft
invoice inserted, so that what the invoice counts is settled for ever. The second computes it, takes the number, issues
it and posts it to the ledger. A process that dies in between leaves a draft, and whoever closes next finishes it.
What goes wrong with one tenant parks that tenant's month, with the reason, and nobody else's (billing-rules.md §1).
"""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.errors import BillingError, Conflict, Misconfigured, Unavailable
from billing.ids import NewId
from billing.infra.postgres import Connection, Database
from billing.invoicing import store
from billing.invoicing.ceiling import check_total, may_exceed
from billing.invoicing.close import (
    Against,
    CloseResult,
    CloseState,
    NoInvoice,
    Waiting,
    failure,
    reason_against,
    waiting_for,
    waiting_in,
)
from billing.invoicing.content import decode, digest
from billing.invoicing.draft import Draft, draft
from billing.invoicing.inputs import Inputs, pin
from billing.invoicing.invoice import Invoice, InvoiceStatus
from billing.invoicing.period import Cut, Period, charged_month, cut, parse_period
from billing.invoicing.recompute import compute
from billing.invoicing.service.loading import Zones, month_between, months_taken, plans_of, tenant_named
from billing.invoicing.store import Issuer
from billing.ledger import store as ledger_store
from billing.ledger.posting import Receipt, invoice_issued
from billing.metering import store as metering_store
from billing.pricing import store as pricing_store
from billing.pricing.coverage import Month
from billing.pricing.term import Term, gaps
from billing.tenants import store as tenants_store
from billing.tenants.tenant import Tenant

WAIT_DEFAULT_S = 60.0
WAIT_POLL_S = 0.2
LOOKS_UNSAID = 10
SPOOLS_MAX = 1_000
"""Spools that are looked at while waiting."""
TENANTS_PAGE = 1_000

_log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""A collaborator that is told in a sentence what a close waits for, whenever that changes."""


class Closing:
    """Closes months; see :meth:`close`."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId, zone: Zones) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._zone = zone

    def __repr__(self) -> str:
        return f"<Closing {self._database!r}>"

    async def close(
        self,
        month: str,
        tenant_slug: str | None,
        *,
        early: bool,
        wait_s: float | None,
        progress: Progress,
    ) -> list[CloseResult]:
        """Issue the invoices of a month, of one tenant or of all by slug; see ``InvoicingService.close``."""
        parse_period(month)
        began_us = self._clock()
        tenants, cuts = await self._look(month, tenant_slug, began_us, early=early)
        ends = [found.period.end_us for found in cuts.values() if isinstance(found, Cut)]
        if ends and wait_s is not None:
            await self._wait(min(began_us, max(ends)), wait_s, progress)
        alone = tenant_slug is not None
        return [
            await self._close_or_park(tenant, month, began_us, cuts.get(tenant.id), early=early, alone=alone)
            for tenant in tenants
        ]

    async def _close_or_park(
        self,
        tenant: Tenant,
        month: str,
        began_us: int,
        found: Cut | BillingError | None,
        *,
        early: bool,
        alone: bool,
    ) -> CloseResult:
        """A tenant's result, also when its month cannot be closed: then the others are. ``alone`` raises the reason."""
        try:
            return await self._close_one(tenant, month, began_us, found, early=early)
        except (Unavailable, Misconfigured):
            # The database is gone or is another one: that stops everybody, and is said once.
            raise
        except BillingError as fault:
            if alone:
                raise
            reason = (
                NoInvoice.NOT_ENDED if fault is found and isinstance(fault, Conflict) else NoInvoice.REFUSED
            )
            return _none(tenant, month, Against(reason, str(fault)))
        except Exception as fault:
            # Whatever it is, it is of this tenant: its transaction is rolled back, it is logged, and its month is parked.
            if alone:
                raise
            _log.exception(
                "the close of %s for %s failed; it is parked, the others go on", month, tenant.slug
            )
            return _none(tenant, month, Against(NoInvoice.FAILED, failure(fault)))

    async def _look(
        self, month: str, tenant_slug: str | None, began_us: int, *, early: bool
    ) -> tuple[list[Tenant], dict[UUID, Cut | BillingError]]:
        """The tenants that are asked for, and what would be cut of each without an invoice of the month, or why not."""
        async with self._database.transaction() as connection:
            tenants = await _tenants(connection, tenant_slug)
            taken = await months_taken(connection, month, tenants[0].id if tenant_slug else None)
        cuts: dict[UUID, Cut | BillingError] = {}
        for tenant in tenants:
            if (tenant.id, month) in taken:
                continue
            try:
                zone = self._zone(tenant.timezone)
                cuts[tenant.id] = cut(month_between(tenant, month, zone, taken), began_us, zone, early=early)
            except BillingError as fault:
                cuts[tenant.id] = fault
        return tenants, cuts

    async def _wait(self, through_us: int, wait_s: float, progress: Progress) -> None:
        """Wait until every request from before an instant has its record; raises ``Conflict`` naming what has not."""
        said = says = ""
        for look in range(int(wait_s / WAIT_POLL_S) + 1):
            async with self._database.transaction() as connection:
                behind = await metering_store.spools_behind(connection, through_us, SPOOLS_MAX)
            if not behind:
                return
            says = waiting_for(behind, through_us)
            # A recorder that works is through within a second or two: that is no news.
            if says != said and look >= LOOKS_UNSAID:
                progress(says)
                said = says
            await asyncio.sleep(WAIT_POLL_S)
        raise Conflict(
            f"{says}. Waited {wait_s:g} s and closed nothing: start the recorder on that host, or close with --no-wait "
            "what is recorded; the rest is late usage then"
        )

    async def _close_one(
        self, tenant: Tenant, month: str, began_us: int, found: Cut | BillingError | None, *, early: bool
    ) -> CloseResult:
        if isinstance(found, BillingError):
            raise found
        async with self._database.transaction() as connection:
            against = await self._cut(connection, tenant.id, month, began_us, early=early)
        if against is not None:
            return _none(tenant, month, against)
        async with self._database.transaction() as connection:
            issued, is_new = await self._issue(connection, tenant.id, month)
        state = CloseState.ISSUED if is_new else CloseState.ALREADY_ISSUED
        return CloseResult(tenant.slug, month, state, invoice=issued.summary)

    async def _cut(
        self, connection: Connection, tenant_id: UUID, month: str, began_us: int, *, early: bool
    ) -> Against | None:
        """The first transaction: the draft is there afterwards, unless there is a reason against an invoice."""
        await metering_store.collection_lock(connection, tenant_id)
        # A subscription that is taken back meanwhile would be on the invoice and never have applied.
        await pricing_store.lock_subscriptions(connection, tenant_id)
        # Read under the locks, by statements of their own: they see what others committed while this waited for them.
        tenant = await _tenant(connection, tenant_id)
        taken = await months_taken(connection, month, tenant_id)
        if (tenant_id, month) in taken:
            return None
        zone = self._zone(tenant.timezone)
        whole = month_between(tenant, month, zone, taken)
        wanted = cut(whole, began_us, zone, early=early)
        period, charged = wanted.period, charged_month(whole, zone)
        terms = await pricing_store.terms(connection, tenant_id, period.start_us, period.end_us)
        issuer = await store.first_issuer(connection)
        empty = draft([], terms, period, issuer.rounding, month=charged)
        has_usage = await metering_store.rollup_exists(connection, tenant_id, period.start_us, period.end_us)
        waiting = await _waiting(connection, tenant_id, terms, period) if has_usage else None
        against = reason_against(empty, tenant.slug, has_usage=has_usage, waiting=waiting)
        if against is None:
            await _check_total(connection, tenant, terms, empty, issuer, charged)
            inputs = _inputs(tenant, issuer, wanted, charged, terms)
            await self._insert(connection, tenant_id, issuer, inputs, empty.currency or "")
        return against

    async def _insert(
        self, connection: Connection, tenant_id: UUID, issuer: Issuer, inputs: Inputs, currency: str
    ) -> None:
        new = Invoice(
            tenant_id=tenant_id,
            id=self._new_id(),
            issuer_id=issuer.id,
            status=InvoiceStatus.DRAFT,
            collection=await tenants_store.raise_collection(connection, tenant_id),
            currency=currency,
            inputs=inputs,
            created_us=self._clock(),
        )
        if not await store.insert_draft(connection, new):
            # Whoever inserts holds the lock, so nobody can; if somebody did, the collection is not raised either.
            raise Conflict(f"{inputs.tenant} has an invoice of {inputs.month} already")

    async def _issue(self, connection: Connection, tenant_id: UUID, month: str) -> tuple[Invoice, bool]:
        """The second transaction: the issued invoice, and whether this issued it."""
        found = await store.invoice_locked(connection, tenant_id, month)
        if found is None:
            raise Conflict(f"the draft of {month} was removed a moment ago; close again")
        if found.status is InvoiceStatus.ISSUED:
            return found, False
        inputs = found.inputs
        plans = await plans_of(connection, inputs)
        rows = await metering_store.rollup_totals(
            connection, tenant_id, inputs.start_us, inputs.end_us, collection_max=found.collection
        )
        # In a thread: a large month takes seconds, and others are served by this loop.
        content = await asyncio.to_thread(compute, inputs, plans, rows, found.collection)
        # The number comes last: everybody who issues waits for it.
        issued = msgspec.structs.replace(
            found,
            status=InvoiceStatus.ISSUED,
            content=content,
            content_hash=digest(content),
            total_minor=decode(content).total_minor,
            number=await store.take_number(connection, found.issuer_id),
            issued_us=self._clock(),
        )
        await store.issue(connection, issued)
        await self._post(connection, issued)
        return issued, True

    async def _post(self, connection: Connection, issued: Invoice) -> None:
        receipt = Receipt(
            tenant_id=issued.tenant_id,
            invoice_id=issued.id,
            currency=issued.currency,
            total_minor=issued.total_minor or 0,
            issued_us=issued.issued_us or 0,
        )
        transaction = invoice_issued(receipt, self._new_id())
        if transaction is not None:
            await ledger_store.insert_transaction(connection, transaction)


async def _waiting(
    connection: Connection, tenant_id: UUID, terms: list[Term], period: Period
) -> Waiting | None:
    """The first usage that no version is in force for, so that an invoice would lose it."""
    for gap in gaps(terms, period.start_us, period.end_us):
        rows = await metering_store.rollup_totals(connection, tenant_id, gap.start_us, gap.end_us)
        if (found := waiting_in(gap, rows)) is not None:
            return found
    return None


async def _check_total(
    connection: Connection, tenant: Tenant, terms: list[Term], empty: Draft, issuer: Issuer, charged: Month
) -> None:
    """That the total can be booked, before a draft is there that nobody could issue; computed only where it may not be."""
    period = empty.period
    quantity = await store.quantity_used(connection, tenant.id, period.start_us, period.end_us)
    if may_exceed(quantity, terms, empty):
        rows = await metering_store.rollup_totals(connection, tenant.id, period.start_us, period.end_us)
        made = await asyncio.to_thread(draft, rows, terms, period, issuer.rounding, month=charged)
        check_total(made, tenant.slug)


def _inputs(tenant: Tenant, issuer: Issuer, wanted: Cut, charged: Month, terms: list[Term]) -> Inputs:
    return Inputs(
        issuer=issuer.name,
        tenant=tenant.slug,
        tenant_name=tenant.name,
        time_zone=tenant.timezone,
        month=wanted.period.month,
        start_us=wanted.period.start_us,
        end_us=wanted.period.end_us,
        month_end_us=charged.end_us,
        is_early=wanted.is_early,
        rounding=issuer.rounding,
        terms=pin(terms),
        quarters=charged.quarters,
    )


def _none(tenant: Tenant, month: str, against: Against) -> CloseResult:
    return CloseResult(
        tenant.slug, month, CloseState.NO_INVOICE, reason=against.reason, detail=against.detail
    )


async def _tenants(connection: Connection, slug: str | None) -> list[Tenant]:
    """The tenant of a slug, or all of them by slug."""
    if slug is not None:
        return [await tenant_named(connection, slug)]
    found: list[Tenant] = []
    while True:
        page = await tenants_store.tenants(connection, TENANTS_PAGE, found[-1].slug if found else "")
        found += page
        if len(page) < TENANTS_PAGE:
            return found


async def _tenant(connection: Connection, tenant_id: UUID) -> Tenant:
    found = await tenants_store.tenant_by_id(connection, tenant_id)
    if found is None:
        raise Conflict(f"tenant {tenant_id} was removed a moment ago")
    return found
