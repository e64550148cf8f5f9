"""What to bill: load rows and prices, let pure code decide. Nothing is saved before periods can be closed."""

from uuid import UUID

import msgspec

from billing.clock import BUCKET_US, Clock, bucket_start, to_datetime
from billing.errors import InvalidInput, NotFound
from billing.fleet import store as fleet_store
from billing.ids import instant_of
from billing.infra.postgres import Connection, Database
from billing.invoicing.draft import Draft, draft
from billing.invoicing.period import Period, month_of, parse_period
from billing.invoicing.trace import Parties, Trace, trace
from billing.invoicing.usage_summary import UsageSummary, summarise
from billing.metering import store as metering_store
from billing.metering.stored import StoredRecord
from billing.pricing import store as pricing_store
from billing.pricing.instant import check_years
from billing.tenants import store as tenants_store
from billing.tenants.tenant import Tenant


class Preview(msgspec.Struct, frozen=True):
    """A tenant's draft as of an instant; more usage may come until the period is closed."""

    tenant: Tenant
    draft: Draft
    as_of_us: int


class UsageReport(msgspec.Struct, frozen=True):
    """A tenant's usage of a period as of an instant."""

    tenant: Tenant
    period: Period
    summary: UsageSummary
    as_of_us: int


class InvoicingService:
    """What a tenant used and owes. Raises ``NotFound`` and ``InvalidInput`` with what to do."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def __repr__(self) -> str:
        return f"<InvoicingService {self._database!r}>"

    async def preview(self, tenant_slug: str, period_text: str | None = None) -> Preview:
        """What a tenant owes for a month (``2026-11``), the present one unless said, from the rollups."""
        period = self._period(period_text)
        async with self._database.transaction() as connection:
            tenant = await _tenant(connection, tenant_slug)
            rows = await metering_store.rollup_totals(connection, tenant.id, period.start_us, period.end_us)
            terms = await pricing_store.terms(connection, tenant.id, period.start_us, period.end_us)
        return Preview(tenant, draft(rows, terms, period), self._clock())

    async def usage(self, tenant_slug: str, period_text: str | None = None) -> UsageReport:
        """What a tenant used in a month, the present one unless said, from the rollups."""
        period = self._period(period_text)
        async with self._database.transaction() as connection:
            tenant = await _tenant(connection, tenant_slug)
            rows = await metering_store.rollup_totals(connection, tenant.id, period.start_us, period.end_us)
        return UsageReport(tenant, period, summarise(rows), self._clock())

    async def trace(self, usage_id_text: str) -> Trace:
        """One request, by the usage id that the client was sent as ``x-request-id``."""
        usage_id = _usage_id(usage_id_text)
        async with self._database.transaction() as connection:
            record = await metering_store.record_by_id(connection, usage_id)
            if record is None:
                raise NotFound(_absent(usage_id))
            bucket_us = bucket_start(instant_of(usage_id))
            terms = await pricing_store.terms(connection, record.tenant_id, bucket_us, bucket_us + BUCKET_US)
            return trace(record, await _parties(connection, record), terms)

    def _period(self, text: str | None) -> Period:
        return month_of(self._clock()) if text is None else parse_period(text)


async def _tenant(connection: Connection, slug: str) -> Tenant:
    found = await tenants_store.tenant_by_slug(connection, slug)
    if found is None:
        raise NotFound(f"there is no tenant {slug[:80]!r}")
    return found


async def _parties(connection: Connection, record: StoredRecord) -> Parties:
    tenant = await tenants_store.tenant_by_id(connection, record.tenant_id)
    key = await tenants_store.key_by_id(connection, record.tenant_id, record.key_id)
    backend = await fleet_store.backend_by_id(connection, record.backend_id)
    project = None
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
