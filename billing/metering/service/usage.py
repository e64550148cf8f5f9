"""Looking up what was used."""

from uuid import UUID

from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.stored import RollupRow, SpoolRow, StoredRecord


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

    async def recent(self, tenant_id: UUID | None, limit: int) -> list[StoredRecord]:
        """The latest records by arrival, of one tenant or of all; at most 1,000."""
        async with self._database.transaction() as connection:
            return await store.records_recent(connection, tenant_id, limit)

    async def rollup(self, tenant_id: UUID, start_us: int, end_us: int) -> list[RollupRow]:
        """A tenant's rollup rows of the buckets in ``[start, end)``, in key order."""
        async with self._database.transaction() as connection:
            return await store.rollup_totals(connection, tenant_id, start_us, end_us)

    async def spools_open(self) -> list[SpoolRow]:
        """The spools of every host that may still bring records, oldest first."""
        async with self._database.transaction() as connection:
            return await store.spools_open(connection)
