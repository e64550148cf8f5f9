"""Looking up what was used."""

from uuid import UUID

from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.stored import RollupRow, SpoolRow, StoredRecord
from billing.metering.totals import store as totals_store
from billing.metering.totals.total import BackendTotal, Pace, UsageTotal


class UsageService:
    """What was used, looked up again. One call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"<UsageService {self._database!r}>"

    async def record(self, usage_id: UUID) -> StoredRecord | None:
        """The record of a usage id; None when there is none (yet)."""
        async with self._database.transaction() as connection:
            return await store.record_by_id(connection, usage_id)

    async def recent(
        self,
        tenant_id: UUID | None,
        limit: int,
        *,
        model: str | None = None,
        before: UUID | None = None,
    ) -> list[StoredRecord]:
        """The latest records by arrival, of one tenant or of all, of a model, before an id; at most 1,000."""
        async with self._database.transaction() as connection:
            return await store.records_recent(connection, tenant_id, limit, model=model, before=before)

    async def rollup(self, tenant_id: UUID, start_us: int, end_us: int) -> list[RollupRow]:
        """A tenant's rollup rows of the buckets in ``[start, end)``, in key order."""
        async with self._database.transaction() as connection:
            return await store.rollup_totals(connection, tenant_id, start_us, end_us)

    async def spools_open(self) -> list[SpoolRow]:
        """The spools of every host that may still bring records, oldest first."""
        async with self._database.transaction() as connection:
            return await store.spools_open(connection)

    async def totals(self, tenant_id: UUID | None, start_us: int, end_us: int) -> list[UsageTotal]:
        """The rollup's sums of the buckets in ``[start, end)`` by outcome and provenance, of one tenant or of all."""
        async with self._database.transaction() as connection:
            return await totals_store.usage_totals(connection, tenant_id, start_us, end_us)

    async def pace(self, since_us: int, first_tokens_max: int) -> Pace:
        """What arrived since an instant, and the waits of the latest streamed requests for their first token."""
        async with self._database.transaction() as connection:
            return await totals_store.pace(connection, since_us, first_tokens_max)

    async def backend_totals(self, since_us: int) -> list[BackendTotal]:
        """What is on record of each model server, of requests that arrived since an instant."""
        async with self._database.transaction() as connection:
            return await totals_store.backend_totals(connection, since_us)

    async def recorded_tokens(self, tenant_id: UUID, start_us: int, end_us: int) -> int:
        """Tokens on a tenant's records themselves, of requests that arrived in ``[start, end)``."""
        async with self._database.transaction() as connection:
            return await totals_store.recorded_tokens(connection, tenant_id, start_us, end_us)
