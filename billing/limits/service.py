"""Limits of tenants, projects and keys: load, decide, save, in one transaction each. Gateways obey within a second."""

from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.errors import Conflict, InvalidInput, NotFound
from billing.ids import NewId
from billing.infra.postgres import Connection, Database
from billing.limits import store
from billing.limits.limit import WINDOW_S, Enforce, Limit, Meter, NamedLimit, OnFailure, check, check_boost

NAME_SHOWN_MAX = 80
KEY_MARK = "sk-"
KEY_PREFIX_LENGTH = 11
"""Characters of a key that may be shown; a longer text that begins like a key is a secret and is not repeated."""


class SetLimit(msgspec.Struct, frozen=True):
    """What setting a limit did."""

    named: NamedLimit
    is_new: bool
    is_changed: bool

    @property
    def limit(self) -> Limit:
        """The limit as it is now."""
        return self.named.limit


class LimitService:
    """May they, now? Raises ``NotFound`` and ``InvalidInput`` with the parameter that is wrong."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def __repr__(self) -> str:
        return f"<LimitService {self._database!r}>"

    async def set(
        self,
        tenant_slug: str,
        meter: Meter,
        amount: int,
        *,
        project_slug: str | None = None,
        key: str | None = None,
        model: str | None = None,
        window_s: int | None = None,
        per_end_user: bool = False,
        strict: bool = False,
        burst: int | None = None,
        enforce: Enforce = Enforce.ENFORCED,
        on_failure: OnFailure = OnFailure.CLOSED,
    ) -> SetLimit:
        """Make a limit, or change the one of the same owner, model, meter and window; what was used of it stays used.

        ``key`` is a visible prefix (``sk-…``) or an id; ``model`` a public name, None for all models together;
        ``window_s`` a minute unless said, nothing for requests at once. Setting the same twice changes nothing.
        """
        if project_slug is not None and key is not None:
            raise InvalidInput("key: a limit belongs to a project or to a key; name one of them", "key")
        if window_s is None and meter is not Meter.CONCURRENCY:
            window_s = WINDOW_S
        async with self._database.transaction() as connection:
            owner_id = await _tenant_id(connection, tenant_slug)
            wanted = Limit(
                id=self._new_id(),
                tenant_id=owner_id,
                project_id=await _project_id(connection, owner_id, tenant_slug, project_slug),
                key_id=await _key_id(connection, owner_id, tenant_slug, key),
                model=await _model(connection, model),
                meter=meter,
                amount=amount,
                window_s=window_s,
                burst=burst,
                enforce=enforce,
                on_failure=on_failure,
                created_us=self._clock(),
                per_end_user=per_end_user,
                is_strict=strict,
            )
            check(wanted)
            return await _save(connection, wanted)

    async def list(
        self, tenant_slug: str | None, rows_max: int, *, after: UUID | None = None
    ) -> list[NamedLimit]:
        """Limits in force in the order in which they were made, of a tenant or of all, from ``after`` on."""
        async with self._database.transaction() as connection:
            owner_id = None if tenant_slug is None else await _tenant_id(connection, tenant_slug)
            found = await store.limits(connection, owner_id, rows_max, after=after)
        now_us = self._clock()
        return [msgspec.structs.replace(each, limit=each.limit.without_past(now_us)) for each in found]

    async def boost(
        self, tenant_slug: str, limit_id: UUID, amount: int | None, until_us: int | None
    ) -> NamedLimit:
        """Let a limit be larger until an instant, when the boost ends by itself; None for both ends it now.

        What was used stays used. Raises ``NotFound`` or ``InvalidInput``.
        """
        async with self._database.transaction() as connection:
            owner_id = await _tenant_id(connection, tenant_slug)
            found = await _in_force(connection, tenant_slug, owner_id, limit_id)
            if amount is not None and until_us is not None:
                check_boost(found.limit, amount, until_us, self._clock())
            elif amount is not None or until_us is not None:
                raise InvalidInput("until: a boost has an amount and an end", "until")
            await store.boost_limit(connection, owner_id, limit_id, amount, until_us)
            return await _in_force(connection, tenant_slug, owner_id, limit_id)

    async def archive(self, tenant_slug: str, limit_id: UUID) -> NamedLimit:
        """Put a limit out of force; the limit as it was."""
        async with self._database.transaction() as connection:
            owner_id = await _tenant_id(connection, tenant_slug)
            found = await _in_force(connection, tenant_slug, owner_id, limit_id)
            await store.archive_limit(connection, owner_id, limit_id, self._clock())
        return found


async def _in_force(connection: Connection, tenant_slug: str, owner_id: UUID, limit_id: UUID) -> NamedLimit:
    found = await store.limits(connection, owner_id, 1, only=limit_id)
    if not found:
        raise NotFound(f"tenant {tenant_slug} has no limit {limit_id} in force", "limit")
    return found[0]


async def _save(connection: Connection, wanted: Limit) -> SetLimit:
    present = await store.same_limit(connection, wanted)
    is_new = present is None and await store.insert_limit(connection, wanted)
    # Somebody else may have made it meanwhile, or removed it again.
    present = present or await store.same_limit(connection, wanted)
    if present is None:
        raise Conflict("the same limit was removed a moment ago; set it again")
    changed = msgspec.structs.replace(
        present,
        amount=wanted.amount,
        burst=wanted.burst,
        enforce=wanted.enforce,
        on_failure=wanted.on_failure,
        is_strict=wanted.is_strict,
    )
    if changed != present:
        await store.update_limit(connection, changed)
    (named,) = await store.limits(connection, wanted.tenant_id, 1, only=present.id)
    return SetLimit(named, is_new, is_new or changed != present)


async def _tenant_id(connection: Connection, slug: str) -> UUID:
    found = await store.tenant_id(connection, slug)
    if found is None:
        raise NotFound(f"there is no tenant {_shown(slug)}", "tenant")
    return found


async def _project_id(
    connection: Connection, owner_id: UUID, tenant_slug: str, slug: str | None
) -> UUID | None:
    if slug is None:
        return None
    found = await store.project_id(connection, owner_id, slug)
    if found is None:
        raise NotFound(f"tenant {tenant_slug} has no project {_shown(slug)}", "project")
    return found


async def _key_id(connection: Connection, owner_id: UUID, tenant_slug: str, name: str | None) -> UUID | None:
    if name is None:
        return None
    if name.startswith(KEY_MARK) and len(name) != KEY_PREFIX_LENGTH:
        raise InvalidInput(
            f"key: name it by its first {KEY_PREFIX_LENGTH} characters (sk-…) or its id, never by its text",
            "key",
        )
    found = await store.keys_named(connection, owner_id, name, _as_id(name))
    if not found:
        raise NotFound(f"tenant {tenant_slug} has no key {_shown(name)}", "key")
    if len(found) > 1:
        raise Conflict(f"{_shown(name)} names several keys of tenant {tenant_slug}; give the whole id")
    return found[0]


async def _model(connection: Connection, name: str | None) -> str | None:
    if name is not None and not await store.is_model(connection, name):
        raise NotFound(f"there is no model of the public name {_shown(name)}", "model")
    return name


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return repr(text) if len(text) <= NAME_SHOWN_MAX else f"{text[:NAME_SHOWN_MAX]!r}…"
