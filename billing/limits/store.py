"""Every statement on limits, and on the names of whom they belong to."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, TextClause, select, text, update
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.infra.postgres import Connection
from billing.limits.limit import Enforce, Limit, Meter, NamedLimit, OnFailure
from billing.limits.tables import usage_limit

_TENANT = text("SELECT id FROM tenant WHERE slug = :slug")
_PROJECT = text("SELECT id FROM project WHERE tenant_id = :tenant_id AND slug = :slug")
_KEYS = text(
    "SELECT id, prefix FROM api_key"
    " WHERE tenant_id = :tenant_id AND (prefix = :name OR id = CAST(:id AS uuid)) LIMIT 2"
)
_MODEL = text("SELECT EXISTS (SELECT FROM model WHERE name = :name AND archived_at IS NULL)")
# Newest first would shift pages while somebody adds limits; ids are made in the order of time, so a page goes on after one.
_LIMITS = text("""
SELECT usage_limit.*, tenant.slug AS tenant, project.slug AS project, api_key.prefix AS key_prefix
FROM usage_limit
JOIN tenant ON tenant.id = usage_limit.tenant_id
LEFT JOIN project ON project.tenant_id = usage_limit.tenant_id AND project.id = usage_limit.project_id
LEFT JOIN api_key ON api_key.tenant_id = usage_limit.tenant_id AND api_key.id = usage_limit.key_id
WHERE usage_limit.archived_at IS NULL
  AND (CAST(:tenant_id AS uuid) IS NULL OR usage_limit.tenant_id = CAST(:tenant_id AS uuid))
  AND (CAST(:after AS uuid) IS NULL OR usage_limit.id > CAST(:after AS uuid))
  AND (CAST(:id AS uuid) IS NULL OR usage_limit.id = CAST(:id AS uuid))
ORDER BY usage_limit.id
LIMIT :rows_max
""")


async def tenant_id(connection: Connection, slug: str) -> UUID | None:
    """The id of the tenant of a slug."""
    return await _id(connection, _TENANT, slug=slug)


async def project_id(connection: Connection, owner_id: UUID, slug: str) -> UUID | None:
    """The id of a tenant's project of a slug."""
    return await _id(connection, _PROJECT, tenant_id=owner_id, slug=slug)


async def keys_named(connection: Connection, owner_id: UUID, name: str, key_id: UUID | None) -> list[UUID]:
    """Ids of a tenant's keys of a visible prefix or an id. Two are enough to be ambiguous."""
    rows = await connection.execute(_KEYS, {"tenant_id": owner_id, "name": name, "id": key_id})
    return [row.id for row in rows]


async def is_model(connection: Connection, name: str) -> bool:
    """Whether a model has this public name; an alias is not one."""
    return bool((await connection.execute(_MODEL, {"name": name})).scalar_one())


async def insert_limit(connection: Connection, new: Limit) -> bool:
    """Whether the limit was added; False when there is one like it (:func:`same_limit`)."""
    statement = insert(usage_limit).values(
        tenant_id=new.tenant_id,
        id=new.id,
        project_id=new.project_id,
        key_id=new.key_id,
        model=new.model,
        meter=new.meter.value,
        amount=new.amount,
        window_s=new.window_s,
        burst=new.burst,
        enforce=new.enforce.value,
        on_failure=new.on_failure.value,
        per_end_user=new.per_end_user,
        strict=new.is_strict,
        created_at=to_datetime(new.created_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def same_limit(connection: Connection, wanted: Limit) -> Limit | None:
    """The limit in force of the same owner, model, meter and window, for all or each end user, locked for a change."""
    same = (
        getattr(usage_limit.c, name).is_not_distinct_from(getattr(wanted, name))
        for name in ("project_id", "key_id", "model", "window_s", "per_end_user")
    )
    statement = _in_force(wanted.tenant_id).where(usage_limit.c.meter == wanted.meter.value, *same)
    row = (await connection.execute(statement.with_for_update())).one_or_none()
    return _limit_of(row) if row else None


async def update_limit(connection: Connection, present: Limit) -> None:
    """Change what may change of a limit; its id, and so what was used of it, stays."""
    of_limit = (usage_limit.c.tenant_id == present.tenant_id, usage_limit.c.id == present.id)
    values = {
        "amount": present.amount,
        "burst": present.burst,
        "enforce": present.enforce.value,
        "on_failure": present.on_failure.value,
        "strict": present.is_strict,
    }
    await connection.execute(update(usage_limit).where(*of_limit).values(values))


async def boost_limit(
    connection: Connection, owner_id: UUID, limit_id: UUID, amount: int | None, until_us: int | None
) -> None:
    """Put another amount in place of a limit's own until an instant; None ends it."""
    of_limit = (usage_limit.c.tenant_id == owner_id, usage_limit.c.id == limit_id)
    until = None if until_us is None else to_datetime(until_us)
    await connection.execute(update(usage_limit).where(*of_limit).values(boost=amount, boost_until=until))


async def archive_limit(connection: Connection, owner_id: UUID, limit_id: UUID, at_us: int) -> None:
    """Put a limit out of force."""
    of_limit = (usage_limit.c.tenant_id == owner_id, usage_limit.c.id == limit_id)
    await connection.execute(update(usage_limit).where(*of_limit).values(archived_at=to_datetime(at_us)))


async def limits(
    connection: Connection,
    owner_id: UUID | None,
    rows_max: int,
    *,
    after: UUID | None = None,
    only: UUID | None = None,
) -> list[NamedLimit]:
    """Limits in force by id, of one tenant or of all, at most ``rows_max`` from ``after`` on; ``only`` one of them."""
    names = {"tenant_id": owner_id, "after": after, "id": only, "rows_max": rows_max}
    rows = await connection.execute(_LIMITS, names)
    return [NamedLimit(_limit_of(row), row.tenant, row.project, row.key_prefix) for row in rows]


async def _id(connection: Connection, statement: TextClause, **names: object) -> UUID | None:
    found: UUID | None = (await connection.execute(statement, names)).scalar_one_or_none()
    return found


def _in_force(owner_id: UUID) -> Select[Any]:
    return select(usage_limit).where(usage_limit.c.tenant_id == owner_id, usage_limit.c.archived_at.is_(None))


def _limit_of(row: Row[Any]) -> Limit:
    return Limit(
        id=row.id,
        tenant_id=row.tenant_id,
        project_id=row.project_id,
        key_id=row.key_id,
        model=row.model,
        meter=Meter(row.meter),
        amount=row.amount,
        window_s=row.window_s,
        burst=row.burst,
        enforce=Enforce(row.enforce),
        on_failure=OnFailure(row.on_failure),
        created_us=from_datetime(row.created_at),
        archived=row.archived_at is not None,
        version=row.version,
        per_end_user=row.per_end_user,
        is_strict=row.strict,
        boost=row.boost,
        boost_until_us=None if row.boost_until is None else from_datetime(row.boost_until),
    )
