"""Every statement on tenants, projects and keys. Inserts answer whether the row was new, instead of raising."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.infra.postgres import Connection
from billing.tenants.api_key import ApiKey
from billing.tenants.project import Project
from billing.tenants.tables import api_key, project, tenant
from billing.tenants.tenant import Tenant, TenantStatus


async def insert_tenant(connection: Connection, new: Tenant) -> bool:
    """Whether the tenant was added; False when its slug is taken."""
    statement = insert(tenant).values(
        id=new.id,
        slug=new.slug,
        name=new.name,
        timezone=new.timezone,
        status=new.status.value,
        collection=new.collection,
        synthetic=new.synthetic,
        created_at=to_datetime(new.created_at_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def update_tenant(connection: Connection, tenant_id: UUID, changes: Mapping[str, str]) -> None:
    """Set the name, the time zone or the status of a tenant; the directory's version rises with it."""
    await connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(dict(changes)))


async def raise_collection(connection: Connection, tenant_id: UUID) -> int:
    """Raise a tenant's collection by one and return what it was; the caller holds the exclusive lock of its stripe."""
    statement = update(tenant).where(tenant.c.id == tenant_id).values(collection=tenant.c.collection + 1)
    after: int = (await connection.execute(statement.returning(tenant.c.collection))).scalar_one()
    return after - 1


async def tenant_by_slug(connection: Connection, slug: str) -> Tenant | None:
    """The tenant of a slug."""
    return _tenant((await connection.execute(select(tenant).where(tenant.c.slug == slug))).one_or_none())


async def tenant_by_id(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """The tenant of an id."""
    return _tenant((await connection.execute(select(tenant).where(tenant.c.id == tenant_id))).one_or_none())


async def tenants(connection: Connection, rows_max: int, after: str = "") -> list[Tenant]:
    """Tenants by slug, at most ``rows_max``, those after a slug."""
    statement = select(tenant).where(tenant.c.slug > after).order_by(tenant.c.slug).limit(rows_max)
    return [_tenant_of(row) for row in await connection.execute(statement)]


async def insert_project(connection: Connection, new: Project) -> bool:
    """Whether the project was added; False when the tenant has its slug already."""
    statement = insert(project).values(
        tenant_id=new.tenant_id,
        id=new.id,
        slug=new.slug,
        name=new.name,
        created_at=to_datetime(new.created_at_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def project_by_slug(connection: Connection, tenant_id: UUID, slug: str) -> Project | None:
    """A tenant's project of a slug."""
    statement = select(project).where(project.c.tenant_id == tenant_id, project.c.slug == slug)
    row = (await connection.execute(statement)).one_or_none()
    return _project_of(row) if row else None


async def project_by_id(connection: Connection, tenant_id: UUID, project_id: UUID) -> Project | None:
    """A tenant's project of an id."""
    statement = select(project).where(project.c.tenant_id == tenant_id, project.c.id == project_id)
    row = (await connection.execute(statement)).one_or_none()
    return _project_of(row) if row else None


async def projects(connection: Connection, tenant_id: UUID, rows_max: int, after: str = "") -> list[Project]:
    """A tenant's projects by slug, at most ``rows_max``, those after a slug."""
    of_tenant = select(project).where(project.c.tenant_id == tenant_id, project.c.slug > after)
    rows = await connection.execute(of_tenant.order_by(project.c.slug).limit(rows_max))
    return [_project_of(row) for row in rows]


async def archive_project(connection: Connection, tenant_id: UUID, project_id: UUID, at_us: int) -> None:
    """Set the instant from which a project's keys open no door; the directory's version rises with it."""
    of_project = (project.c.tenant_id == tenant_id, project.c.id == project_id)
    await connection.execute(update(project).where(*of_project).values(archived_at=to_datetime(at_us)))


async def insert_key(connection: Connection, new: ApiKey, key_hash: bytes) -> None:
    """Add a key by its hash; its text is not here to be stored."""
    await connection.execute(
        insert(api_key).values(
            tenant_id=new.tenant_id,
            id=new.id,
            project_id=new.project_id,
            name=new.name,
            prefix=new.prefix,
            hash=key_hash,
            tags=new.tags,
            expires_at=_moment(new.expires_at_us),
            created_at=to_datetime(new.created_at_us),
        )
    )


async def key_by_id(connection: Connection, tenant_id: UUID, key_id: UUID) -> ApiKey | None:
    """A tenant's key of an id."""
    statement = _keys().where(api_key.c.tenant_id == tenant_id, api_key.c.id == key_id)
    row = (await connection.execute(statement)).one_or_none()
    return _key_of(row) if row else None


async def keys_named(
    connection: Connection, tenant_id: UUID, key_id: UUID | None, prefix: str | None
) -> list[ApiKey]:
    """A tenant's keys of an id or of a visible prefix, locked for a change. Two are enough to be ambiguous."""
    name = api_key.c.id == key_id if key_id is not None else api_key.c.prefix == prefix
    statement = _keys().where(api_key.c.tenant_id == tenant_id, name).limit(2).with_for_update()
    return [_key_of(row) for row in await connection.execute(statement)]


async def keys(
    connection: Connection, tenant_id: UUID, rows_max: int, before: tuple[int, UUID] | None = None
) -> list[ApiKey]:
    """A tenant's keys, newest first, at most ``rows_max``, those before an instant and id."""
    statement = _keys().where(api_key.c.tenant_id == tenant_id)
    if before is not None:
        mark = tuple_(literal(to_datetime(before[0])), literal(before[1]))
        statement = statement.where(tuple_(api_key.c.created_at, api_key.c.id) < mark)
    newest_first = statement.order_by(api_key.c.created_at.desc(), api_key.c.id.desc()).limit(rows_max)
    return [_key_of(row) for row in await connection.execute(newest_first)]


async def revoke_key(connection: Connection, tenant_id: UUID, key_id: UUID, at_us: int) -> None:
    """Set the instant from which a key opens no door; the directory's version rises with it."""
    of_key = (api_key.c.tenant_id == tenant_id, api_key.c.id == key_id)
    await connection.execute(update(api_key).where(*of_key).values(revoked_at=to_datetime(at_us)))


def _keys() -> Select[Any]:
    """Every column but the hash, which only the directory reads."""
    return select(*(column for column in api_key.c if column.name not in {"hash", "version"}))


def _moment(instant_us: int | None) -> datetime | None:
    return None if instant_us is None else to_datetime(instant_us)


def _instant(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)


def _tenant(row: Row[Any] | None) -> Tenant | None:
    return _tenant_of(row) if row else None


def _tenant_of(row: Row[Any]) -> Tenant:
    return Tenant(
        id=row.id,
        slug=row.slug,
        name=row.name,
        created_at_us=from_datetime(row.created_at),
        timezone=row.timezone,
        status=TenantStatus(row.status),
        collection=row.collection,
        synthetic=row.synthetic,
    )


def _project_of(row: Row[Any]) -> Project:
    return Project(
        id=row.id,
        tenant_id=row.tenant_id,
        slug=row.slug,
        name=row.name,
        created_at_us=from_datetime(row.created_at),
        archived_at_us=_instant(row.archived_at),
    )


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        project_id=row.project_id,
        name=row.name,
        prefix=row.prefix,
        created_at_us=from_datetime(row.created_at),
        expires_at_us=_instant(row.expires_at),
        revoked_at_us=_instant(row.revoked_at),
        last_used_at_us=_instant(row.last_used_at),
        tags=row.tags,
    )
