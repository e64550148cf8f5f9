"""Reading the audit log, in one transaction a call."""

from billing.access import store
from billing.access.audit import AuditEntry, AuditFilter, check_filter
from billing.infra.postgres import Database

ROWS_MAX = 1_000
"""Most entries that one call returns."""


class AuditService:
    """Who operated the service, and how. Raises ``InvalidInput`` on a filter that cannot be."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"<AuditService {self._database!r}>"

    async def entries(
        self, wanted: AuditFilter, rows_max: int, *, before_id: int | None = None
    ) -> list[AuditEntry]:
        """Entries of a filter, newest first; the next page is asked for with the last one's id as ``before_id``.

        Entries get their numbers before they commit: one that committed late may be missing from a page already read,
        and is there when the log is read again.
        """
        check_filter(wanted)
        async with self._database.transaction() as connection:
            return await store.entries(connection, wanted, min(rows_max, ROWS_MAX), before_id)
