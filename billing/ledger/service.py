"""Looking at the ledger; it is written where an invoice is issued, in that transaction."""

from uuid import UUID

from billing.infra.postgres import Database
from billing.ledger import store
from billing.ledger.balance import Balance, Entry


class LedgerService:
    """Who owes whom. One call is one transaction, and none of them writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"<LedgerService {self._database!r}>"

    async def balances(self, tenant_id: UUID | None = None, rows_max: int = store.ROWS_MAX) -> list[Balance]:
        """The sums by tenant, currency and account, of one tenant or of all by slug; those of a currency add up to 0."""
        async with self._database.transaction() as connection:
            return await store.balances(connection, tenant_id, rows_max)

    async def statement(self, tenant_id: UUID, rows_max: int = store.ROWS_MAX) -> list[Entry]:
        """A tenant's postings, the latest transaction first."""
        async with self._database.transaction() as connection:
            return await store.entries(connection, tenant_id, rows_max)
