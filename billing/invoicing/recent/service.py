"""The latest requests, each as a trace: names, keys, prices and positions are loaded once for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC
from typing import TypeVar
from uuid import UUID

from billing.clock import Clock
from billing.fleet import store as fleet_store
from billing.ids import instant_of
from billing.infra.postgres import Connection, Database
from billing.invoicing.draft import billed_positions
from billing.invoicing.period import Period, month_of
from billing.invoicing.service.loading import Zones
from billing.invoicing.trace import NOTHING_BILLED, Parties, Trace, trace
from billing.metering import store as metering_store
from billing.metering.stored import StoredRecord
from billing.pricing import store as pricing_store
from billing.pricing.price import Price
from billing.pricing.rating import Positions
from billing.pricing.term import Term
from billing.tenants import store as tenants_store
from billing.tenants.tenant import Tenant

REST_FACTOR = 20
"""Positions that took t to compute are used for 20 t: they read a tenant's whole month, and only estimates need them."""

ASIDE_MAX = 1
"""Months that are computed at once beside the event loop: more would only take the interpreter from each other."""

Aside = Callable[..., Awaitable[Positions]]
"""A collaborator that calls a function with arguments outside the event loop."""
Found = TypeVar("Found")
_Month = tuple[UUID, Period]


class RecentService:
    """What was asked lately and what it cost: an estimate, computed on reading and never stored.

    ``zone`` answers the time zone of a name; ``clock`` measures how long positions took. They are computed by ``aside``:
    a month of 15,000 rows takes a tenth of a second, in which the process would answer nobody else.
    """

    def __init__(
        self, database: Database, zone: Zones, clock: Clock, aside: Aside = asyncio.to_thread
    ) -> None:
        self._database = database
        self._zone = zone
        self._clock = clock
        self._aside = aside
        self._slots = asyncio.Semaphore(ASIDE_MAX)
        self._positions: dict[_Month, tuple[int, Positions]] = {}

    def __repr__(self) -> str:
        return f"<RecentService {len(self._positions)} positions, {self._database!r}>"

    async def recent(self, rows_max: int) -> list[Trace]:
        """The latest requests of all tenants by arrival, latest first."""
        async with self._database.transaction() as connection:
            records = await metering_store.records_recent(connection, None, rows_max)
            lookup = _Lookup(connection)
            months = [await self._month(lookup, record) for record in records]
            prices = {month: await self._prices(connection, *month) for month in set(months)}
            # Only what is shown now is remembered, so that the memory stays as small as the list.
            self._positions = {month: known for month, known in self._positions.items() if month in prices}
            return [
                trace(record, await lookup.parties(record), *prices[month])
                for record, month in zip(records, months, strict=True)
            ]

    async def _month(self, lookup: "_Lookup", record: StoredRecord) -> _Month:
        """A record's tenant, and the month of it that the record falls into."""
        tenant = await lookup.tenant(record.tenant_id)
        zone = self._zone(tenant.timezone) if tenant else UTC
        return record.tenant_id, month_of(instant_of(record.id), zone)

    async def _prices(
        self, connection: Connection, tenant_id: UUID, month: Period
    ) -> tuple[list[Term], Positions]:
        terms = await pricing_store.terms(connection, tenant_id, month.start_us, month.end_us)
        if not any(price.is_cumulative for price in _prices_of(terms)):
            return terms, NOTHING_BILLED
        until_us, positions = self._positions.get((tenant_id, month), (0, NOTHING_BILLED))
        began_us = self._clock()
        if began_us >= until_us:
            rows = await metering_store.rollup_totals(connection, tenant_id, month.start_us, month.end_us)
            async with self._slots:
                positions = await self._aside(billed_positions, rows, terms, month)
            ended_us = self._clock()
            self._positions[tenant_id, month] = (ended_us + REST_FACTOR * (ended_us - began_us), positions)
        return terms, positions


def _prices_of(terms: Sequence[Term]) -> Iterator[Price]:
    for term in terms:
        for version in term.plan.versions:
            for rates in version.content.rates:
                yield from rates.by_word.values()


class _Lookup:
    """Who asked and what answered; each tenant, project, key and backend is asked for once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[UUID, object] = {}

    async def tenant(self, tenant_id: UUID) -> Tenant | None:
        return await self._once(tenant_id, lambda: tenants_store.tenant_by_id(self._connection, tenant_id))

    async def parties(self, record: StoredRecord) -> Parties:
        connection, owner = self._connection, record.tenant_id
        tenant = await self.tenant(owner)
        key = backend = project = None
        if (key_id := record.key_id) is not None:
            key = await self._once(key_id, lambda: tenants_store.key_by_id(connection, owner, key_id))
        if (backend_id := record.backend_id) is not None:
            backend = await self._once(backend_id, lambda: fleet_store.backend_by_id(connection, backend_id))
        if (project_id := record.project_id) is not None:
            project = await self._once(
                project_id, lambda: tenants_store.project_by_id(connection, owner, project_id)
            )
        return Parties(
            tenant=tenant.slug if tenant else str(owner),
            tenant_name=tenant.name if tenant else "",
            project=project.slug if project else None,
            key_prefix=key.prefix if key else None,
            key_name=key.name if key else None,
            backend=backend.name if backend else None,
            backend_url=backend.url if backend else None,
        )

    async def _once(self, id_: UUID, load: Callable[[], Awaitable[Found | None]]) -> Found | None:
        if id_ not in self._known:
            self._known[id_] = await load()
        found: Found | None = self._known[id_]  # type: ignore[assignment]  # an id belongs to one kind of thing
        return found
