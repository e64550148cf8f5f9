"""Tenants, projects and keys: load, decide, save, in one transaction each."""

from collections.abc import Callable
from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.errors import Conflict, InvalidInput, NotFound
from billing.ids import NewId
from billing.infra.postgres import Connection, Database
from billing.infra.zones import zone_of
from billing.tenants import api_key, store
from billing.tenants.api_key import ApiKey
from billing.tenants.project import Project
from billing.tenants.tenant import DEFAULT_TIMEZONE, Tenant, TenantStatus, check_name, check_slug, shown

RandomBytes = Callable[[int], bytes]
"""A collaborator that answers so many random bytes, fit for secrets."""


class CreatedKey(msgspec.Struct, frozen=True):
    """A key and its text, which is shown once: nothing can bring it back."""

    key: ApiKey
    secret: api_key.NewKeyText


class TenantService:
    """Who is calling. Raises ``NotFound`` naming what does not exist, ``Conflict`` on what exists already."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId, random_bytes: RandomBytes) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"<TenantService {self._database!r}>"

    async def create_tenant(
        self,
        slug: str,
        name: str | None = None,
        timezone: str = DEFAULT_TIMEZONE,
        *,
        synthetic: bool = False,
    ) -> Tenant:
        """A new tenant; its name is its slug unless given, and its months are those of UTC unless it has a time zone."""
        zone_of(timezone)
        new = Tenant(
            id=self._new_id(),
            slug=check_slug(slug),
            name=check_name(slug if name is None else name),
            created_at_us=self._clock(),
            timezone=timezone,
            synthetic=synthetic,
        )
        async with self._database.transaction() as connection:
            if not await store.insert_tenant(connection, new):
                raise Conflict(f"tenant {slug} exists already")
        return new

    async def tenant(self, slug: str) -> Tenant:
        """The tenant of a slug."""
        async with self._database.transaction() as connection:
            return await _tenant(connection, slug)

    async def change_tenant(
        self,
        slug: str,
        *,
        name: str | None = None,
        timezone: str | None = None,
        status: TenantStatus | None = None,
    ) -> Tenant:
        """The tenant with another name, time zone or status; what is not given stays.

        A new time zone holds for the months that are not invoiced yet; those that are keep theirs (P8).
        """
        changes: dict[str, str | TenantStatus] = {}
        if name is not None:
            changes["name"] = check_name(name)
        if timezone is not None:
            zone_of(timezone)
            changes["timezone"] = timezone
        if status is not None:
            changes["status"] = status
        async with self._database.transaction() as connection:
            found = await _tenant(connection, slug)
            changed = msgspec.structs.replace(found, **changes)
            if changed != found:
                await store.update_tenant(connection, found.id, changes)
        return changed

    async def list_tenants(self, rows_max: int, after: str = "") -> list[Tenant]:
        """Tenants by slug, those after a slug."""
        async with self._database.transaction() as connection:
            return await store.tenants(connection, rows_max, after)

    async def create_project(self, tenant_slug: str, slug: str, name: str | None = None) -> Project:
        """A new project of a tenant; its name is its slug unless given."""
        check_slug(slug)
        name = check_name(slug if name is None else name)
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            new = Project(self._new_id(), owner.id, slug, name, self._clock())
            if not await store.insert_project(connection, new):
                raise Conflict(f"tenant {tenant_slug} has a project {slug} already")
        return new

    async def list_projects(self, tenant_slug: str, rows_max: int, after: str = "") -> list[Project]:
        """A tenant's projects by slug, those after a slug."""
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            return await store.projects(connection, owner.id, rows_max, after)

    async def archive_project(self, tenant_slug: str, slug: str) -> Project:
        """Close the door to every key of a project; its usage and its slug stay.

        A project that is archived stays so since the first time. Gateways obey within a second (design.md §6).
        """
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            found = await _project(connection, owner, slug)
            if found.archived_at_us is not None:
                return found
            now_us = self._clock()
            await store.archive_project(connection, owner.id, found.id, now_us)
        return msgspec.structs.replace(found, archived_at_us=now_us)

    async def create_key(
        self,
        tenant_slug: str,
        name: str,
        *,
        project_slug: str | None = None,
        expires_at_us: int | None = None,
        tags: dict[str, str] | None = None,
    ) -> CreatedKey:
        """A new key of a tenant, or of one of its projects; its text is in the answer and nowhere else."""
        now_us = self._clock()
        name, tags = check_name(name), api_key.check_tags(tags or {})
        expires_at_us = api_key.check_expiry(expires_at_us, now_us)
        secret = api_key.make(self._random_bytes(api_key.RANDOM_BYTES))
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            project = await _project(connection, owner, project_slug) if project_slug else None
            key = ApiKey(
                id=self._new_id(),
                tenant_id=owner.id,
                project_id=project.id if project else None,
                name=name,
                prefix=secret.prefix,
                created_at_us=now_us,
                expires_at_us=expires_at_us,
                tags=tags,
            )
            await store.insert_key(connection, key, secret.hash)
        return CreatedKey(key, secret)

    async def list_keys(
        self, tenant_slug: str, rows_max: int, before: tuple[int, UUID] | None = None
    ) -> list[ApiKey]:
        """A tenant's keys, newest first, those before the instant and id of a key."""
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            return await store.keys(connection, owner.id, rows_max, before)

    async def revoke_key(self, tenant_slug: str, reference: str) -> ApiKey:
        """Close the door to a key, named by its visible prefix or its id.

        A revoked key stays revoked since the first time. Gateways obey within a second (design.md §6).
        """
        key_id, prefix = _reference(reference)
        async with self._database.transaction() as connection:
            owner = await _tenant(connection, tenant_slug)
            key = _only(await store.keys_named(connection, owner.id, key_id, prefix), reference, tenant_slug)
            if key.revoked_at_us is not None:
                return key
            now_us = self._clock()
            await store.revoke_key(connection, owner.id, key.id, now_us)
        return msgspec.structs.replace(key, revoked_at_us=now_us)


def _reference(text: str) -> tuple[UUID | None, str | None]:
    """The id or the visible prefix that a text is; a key's own text is refused without repeating it."""
    if text.startswith(api_key.MARK):
        if len(text) != api_key.PREFIX_LENGTH:
            raise InvalidInput(
                f"key: name it by its first {api_key.PREFIX_LENGTH} characters (sk-…) or its id, never by its text",
                "key",
            )
        return None, text
    try:
        return UUID(text), None
    except ValueError:
        raise InvalidInput(
            f"key: {shown(text)} is neither a key's visible part (sk-…) nor its id", "key"
        ) from None


def _only(found: list[ApiKey], reference: str, tenant_slug: str) -> ApiKey:
    if not found:
        raise NotFound(f"tenant {tenant_slug} has no key {shown(reference)}")
    if len(found) > 1:
        raise Conflict(f"{shown(reference)} names several keys of tenant {tenant_slug}; give the whole id")
    return found[0]


async def _tenant(connection: Connection, slug: str) -> Tenant:
    found = await store.tenant_by_slug(connection, slug)
    if found is None:
        raise NotFound(f"there is no tenant {shown(slug)}")
    return found


async def _project(connection: Connection, owner: Tenant, slug: str) -> Project:
    found = await store.project_by_slug(connection, owner.id, slug)
    if found is None:
        raise NotFound(f"tenant {owner.slug} has no project {shown(slug)}")
    return found
