"""Previews, usage and traces of what is not closed; closing; and invoices as they were issued."""

from collections.abc import Sequence
from datetime import UTC
from uuid import UUID

import msgspec

from billing.clock import Clock, to_datetime
from billing.errors import InvalidInput, NotFound
from billing.fleet import store as fleet_store
from billing.ids import NewId, instant_of
from billing.infra.postgres import Connection, Database
from billing.invoicing import store
from billing.invoicing.close import CloseResult
from billing.invoicing.content import decode
from billing.invoicing.draft import Draft, billed_positions, draft
from billing.invoicing.inputs import unpin
from billing.invoicing.invoice import InvoiceDocument, InvoiceSummary, document_of
from billing.invoicing.late import LateUsage, is_late, late_subscribed, late_terms, late_usage
from billing.invoicing.period import (
    Period,
    charged_month,
    month_of,
    months_near,
    parse_period,
    parts_of_months,
)
from billing.invoicing.recompute import Issued, compute, differences, redraft
from billing.invoicing.reconcile import Reconciliation, reconcile
from billing.invoicing.service.closing import WAIT_DEFAULT_S, Closing, Progress
from billing.invoicing.service.loading import (
    Zones,
    issued,
    month_between,
    month_named,
    plans_of,
    tenant_named,
)
from billing.invoicing.trace import Parties, Trace, trace
from billing.invoicing.usage_summary import UsageSummary, summarise
from billing.ledger import store as ledger_store
from billing.metering import store as metering_store
from billing.metering.stored import RollupRow, StoredRecord
from billing.pricing import store as pricing_store
from billing.pricing.instant import check_years
from billing.tenants import store as tenants_store
from billing.tenants.tenant import Tenant


class Preview(msgspec.Struct, frozen=True):
    """A tenant's draft as of an instant; more usage may come until the period is closed.

    ``invoice`` is that of the month once it is closed: the draft says what stands on it then, and nothing changes it.
    """

    tenant: Tenant
    draft: Draft
    as_of_us: int
    invoice: InvoiceSummary | None = None


class UsageReport(msgspec.Struct, frozen=True):
    """A tenant's usage of a period as of an instant."""

    tenant: Tenant
    period: Period
    summary: UsageSummary
    as_of_us: int


class Verification(msgspec.Struct, frozen=True):
    """An issued invoice computed again: what differs, one sentence each; nothing when it is what it was."""

    number: str
    differences: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether the content is the same to the byte, and hash and ledger say so too."""
        return not self.differences


def _say_nothing(_text: str) -> None:
    """Nobody watches."""


class InvoicingService:
    """What a tenant used and owes. Raises ``NotFound`` and ``InvalidInput`` with what to do.

    ``zone`` answers the time zone of a name; months are those of the tenant's.
    """

    def __init__(self, database: Database, clock: Clock, new_id: NewId, zone: Zones) -> None:
        self._database = database
        self._clock = clock
        self._zone = zone
        self._closing = Closing(database, clock, new_id, zone)

    def __repr__(self) -> str:
        return f"<InvoicingService {self._database!r}>"

    async def preview(self, tenant_slug: str, month: str | None = None) -> Preview:
        """What a tenant owes for a month (``2026-11``), the present one unless said, from the rollups.

        Of a month that is closed, what its invoice says, whatever was priced, subscribed or used since.
        """
        async with self._database.transaction() as connection:
            tenant, period = await self._month(connection, tenant_slug, month)
            found = await store.invoice_of_month(connection, tenant.id, period.month)
            if found is not None:
                plans = await plans_of(connection, found.inputs)
                rows = await _rows(connection, tenant.id, found.inputs.period)
                made = redraft(found.inputs, plans, rows, found.collection)
                return Preview(tenant, made, self._clock(), found.summary)
            rows = await _rows(connection, tenant.id, period)
            terms = await pricing_store.terms(connection, tenant.id, period.start_us, period.end_us)
            issuer = await store.first_issuer(connection)
        charged = charged_month(period, self._zone(tenant.timezone))
        made = draft(rows, terms, period, issuer.rounding, month=charged)
        return Preview(tenant, made, self._clock())

    async def tenants_not_invoiced(self, start_us: int, end_us: int, rows_max: int) -> list[str]:
        """Slugs of the tenants with usage in ``[start, end)`` whose present month has no invoice, most requests first."""
        async with self._database.transaction() as connection:
            return await store.tenants_not_invoiced(connection, start_us, end_us, self._clock(), rows_max)

    async def usage(self, tenant_slug: str, month: str | None = None) -> UsageReport:
        """What a tenant used in a month, the present one unless said, from the rollups."""
        async with self._database.transaction() as connection:
            tenant, period = await self._month(connection, tenant_slug, month)
            rows = await metering_store.rollup_totals(connection, tenant.id, period.start_us, period.end_us)
        return UsageReport(tenant, period, summarise(rows), self._clock())

    async def month_start(self, tenant_slug: str) -> int:
        """The first instant of the month that goes on for a tenant, where its first subscription begins unless said."""
        async with self._database.transaction() as connection:
            _, period = await self._month(connection, tenant_slug, None)
        return period.start_us

    async def parts_of_months(
        self, tenant_slug: str, spans: Sequence[tuple[int, int | None]]
    ) -> list[tuple[str, ...]]:
        """Of each span of a subscription, what follows when it starts or ends within a month of the tenant's: warnings."""
        async with self._database.transaction() as connection:
            tenant = await tenant_named(connection, tenant_slug)
            zone = self._zone(tenant.timezone)
            instants = [instant_us for span in spans for instant_us in span if instant_us is not None]
            months = {month_of(instant_us, zone).month for instant_us in instants}
            taken = await store.taken(connection, months_near(months), tenant.id)
        periods = {month: month_between(tenant, month, zone, taken) for month in months}
        return [parts_of_months(span, periods, zone) for span in spans]

    async def trace(self, usage_id_text: str) -> Trace:
        """One request, by the usage id that the client was sent as ``x-request-id``."""
        usage_id = _usage_id(usage_id_text)
        async with self._database.transaction() as connection:
            record = await metering_store.record_by_id(connection, usage_id)
            if record is None:
                raise NotFound(_absent(usage_id))
            tenant = await tenants_store.tenant_by_id(connection, record.tenant_id)
            parties = await _parties(connection, record, tenant)
            month = month_of(instant_of(usage_id), self._zone(tenant.timezone) if tenant else UTC)
            rows = await _rows(connection, record.tenant_id, month)
            terms = await pricing_store.terms(connection, record.tenant_id, month.start_us, month.end_us)
        return trace(record, parties, terms, billed_positions(rows, terms, month))

    async def close(
        self,
        month: str,
        tenant_slug: str | None = None,
        *,
        early: bool = False,
        wait_s: float | None = WAIT_DEFAULT_S,
        progress: Progress = _say_nothing,
    ) -> list[CloseResult]:
        """Issue the invoices of a month, of one tenant or of all by slug. Doing it again changes nothing.

        Waits at most ``wait_s`` until every request of the period has its record, None not at all; ``progress`` is told
        what for. ``early`` closes a month that goes on, up to the next quarter of an hour.

        Raises ``Conflict`` when spools are still behind, and for one tenant when its month has not ended; of all tenants
        those are in the answer with their reason, and the others are closed.
        """
        return await self._closing.close(month, tenant_slug, early=early, wait_s=wait_s, progress=progress)

    async def invoices(
        self,
        tenant_slug: str | None = None,
        month: str | None = None,
        *,
        after: UUID | None = None,
        rows_max: int,
    ) -> list[InvoiceSummary]:
        """Invoices, newest first, of a tenant or of all, of a month or of all; ``after`` is the id of the last one seen."""
        if month is not None:
            parse_period(month)
        async with self._database.transaction() as connection:
            tenant_id = None if tenant_slug is None else (await tenant_named(connection, tenant_slug)).id
            found = await store.invoices(connection, tenant_id, month, after, rows_max)
        return [each.summary for each in found]

    async def invoice(self, number: str) -> InvoiceDocument:
        """The issued invoice of a number."""
        async with self._database.transaction() as connection:
            found = await issued(connection, number)
        return document_of(found, decode(found.content or b""))

    async def late(self, number: str) -> LateUsage:
        """Usage of an invoice's month that came too late for it, and what it would cost; a later invoice bills it."""
        async with self._database.transaction() as connection:
            found = await issued(connection, number)
            inputs, month = found.inputs, found.inputs.whole_month
            plans = await plans_of(connection, inputs)
            rows = await _rows(connection, found.tenant_id, month)
            present = await pricing_store.terms(connection, found.tenant_id, month.start_us, month.end_us)
        before = redraft(inputs, plans, rows, found.collection)
        terms = late_terms(unpin(inputs.terms, plans), present, inputs)
        subscribed = late_subscribed(unpin(inputs.terms, plans), present, inputs)
        return late_usage(rows, terms, inputs, found.collection, before, subscribed=subscribed)

    async def verify(self, number: str) -> Verification:
        """Compute an issued invoice again from what never changes, and compare it with what was stored."""
        async with self._database.transaction() as connection:
            found = await issued(connection, number)
            plans = await plans_of(connection, found.inputs)
            rows = await _rows(connection, found.tenant_id, found.inputs.period)
            posted = await ledger_store.of_invoice(connection, found.tenant_id, found.id)
        stored = Issued(found.content or b"", found.content_hash or b"", found.total_minor or 0, posted)
        computed = compute(found.inputs, plans, rows, found.collection)
        return Verification(number, differences(stored, computed))

    async def reconciliation(self, number: str) -> Reconciliation:
        """Everything used in an invoice's month against where it stands: billed, waived, under review or late (P14)."""
        async with self._database.transaction() as connection:
            found = await issued(connection, number)
            plans = await plans_of(connection, found.inputs)
            rows = await _rows(connection, found.tenant_id, found.inputs.whole_month)
        late = [row for row in rows if is_late(row, found.inputs, found.collection)]
        return reconcile(rows, redraft(found.inputs, plans, rows, found.collection), late)

    async def _month(
        self, connection: Connection, tenant_slug: str, month: str | None
    ) -> tuple[Tenant, Period]:
        if month is not None:
            parse_period(month)
        tenant = await tenant_named(connection, tenant_slug)
        zone = self._zone(tenant.timezone)
        name = month_of(self._clock(), zone).month if month is None else month
        return tenant, await month_named(connection, tenant, name, zone)


async def _rows(connection: Connection, tenant_id: UUID, period: Period) -> list[RollupRow]:
    return await metering_store.rollup_totals(connection, tenant_id, period.start_us, period.end_us)


async def _parties(connection: Connection, record: StoredRecord, tenant: Tenant | None) -> Parties:
    key = backend = project = None
    if record.key_id is not None:
        key = await tenants_store.key_by_id(connection, record.tenant_id, record.key_id)
    if record.backend_id is not None:
        backend = await fleet_store.backend_by_id(connection, record.backend_id)
    if record.project_id is not None:
        project = await tenants_store.project_by_id(connection, record.tenant_id, record.project_id)
    return Parties(
        tenant=tenant.slug if tenant else str(record.tenant_id),
        tenant_name=tenant.name if tenant else "",
        project=project.slug if project else None,
        key_prefix=key.prefix if key else None,
        key_name=key.name if key else None,
        backend=backend.name if backend else None,
        backend_url=backend.url if backend else None,
    )


def _usage_id(text: str) -> UUID:
    try:
        usage_id = UUID(text)
        check_years(instant_of(usage_id))
    except ValueError:
        raise InvalidInput(
            f"{text[:80]!r} is not a usage id; it is what a reply carries as x-request-id, a UUID of version 7",
            "id",
        ) from None
    return usage_id


def _absent(usage_id: UUID) -> str:
    moment = to_datetime(instant_of(usage_id))
    return (
        f"no usage record {usage_id} (its time is {moment:%Y-%m-%d %H:%M:%S} UTC). A request that was refused has none; "
        "one that has just ended is recorded within seconds while the recorder runs"
    )
