"""Every statement on the audit log. It is only read here: the triggers of migration 0002 write it."""

from typing import Any

from sqlalchemy import Row, select

from billing.access.audit import Action, AuditEntry, AuditFilter
from billing.access.tables import audit_entry
from billing.clock import from_datetime
from billing.infra.postgres import Connection


async def entries(
    connection: Connection, wanted: AuditFilter, rows_max: int, before_id: int | None
) -> list[AuditEntry]:
    """Entries of a filter, newest first, at most ``rows_max``, those before ``before_id`` when it is given."""
    statement = select(audit_entry).order_by(audit_entry.c.id.desc()).limit(rows_max)
    for name in ("tenant_id", "subject", "actor"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(audit_entry.c[name] == value)
    if before_id is not None:
        statement = statement.where(audit_entry.c.id < before_id)
    return [_entry_of(row) for row in await connection.execute(statement)]


def _entry_of(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at_us=from_datetime(row.at),
        actor=row.actor,
        action=Action(row.action),
        subject=row.subject,
        subject_id=row.subject_id,
        tenant_id=row.tenant_id,
        before=row.before,
        after=row.after,
    )
