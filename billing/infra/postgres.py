"""Postgres at the edge: one engine, explicit transactions, one role per process.

Every statement stands in a ``store.py``; this file only says how a transaction begins and ends. A transaction is begun
explicitly, because a COPY as the first statement on a lazily begun SQLAlchemy session runs in autocommit (traps.md 1).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from copy import copy
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from billing.errors import Misconfigured, Unavailable
from billing.infra.postgres_url import address_of

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""The tables of every noun register here, so that Alembic compares one whole."""

ROLES = ("gateway", "recorder", "control", "portal")
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0
POOL_SIZE = 5
ACTOR_LENGTH_MAX = 200
_BEGIN = text(
    "SELECT set_config('billing.actor', :actor, true), set_config('billing.tenant_id', :tenant_id, true)"
)
_CONNECTION_LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError,
                    asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError, asyncpg.InterfaceError, TimeoutError)  # fmt: skip

Connection = AsyncConnection
"""What a store receives: a connection inside a transaction that its caller began and will end."""


class Database:
    """A pool of connections to one Postgres under one role."""

    def __init__(self, url: str, *, role: str | None = None, pool_size: int = POOL_SIZE) -> None:
        if role is not None and role not in ROLES:
            raise Misconfigured(f"{role!r} is not one of the roles {', '.join(ROLES)}")
        settings = {"application_name": f"billing-{role or 'owner'}", "timezone": "UTC"}
        if role is not None:
            settings["role"] = role
        self._role = role
        self._actor = self._tenant_id = ""
        self._engine = engine_of(
            url,
            settings,
            {"command_timeout": COMMAND_TIMEOUT_S},
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
        )

    def __repr__(self) -> str:
        return f"<Database role={self._role or 'owner'} {self._engine.pool.status()}>"

    def acting_as(self, actor: str) -> "Database":
        """The same pool for somebody whom the audit log then names for every write, for example ``admin``."""
        other = copy(self)
        other._actor = actor[:ACTOR_LENGTH_MAX]  # noqa: SLF001 - another of this very class
        return other

    def for_tenant(self, tenant_id: UUID) -> "Database":
        """The same pool for one tenant: under the role ``portal`` no row of another is there (P10)."""
        other = copy(self)
        other._tenant_id = str(tenant_id)  # noqa: SLF001 - another of this very class
        return other

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises ``Unavailable`` when Postgres cannot be reached or goes away; nothing was committed then, unless the
        connection was lost during the commit itself, which is why every write is idempotent by its id.
        """
        async with aclosing(await connected(self._engine)) as connection:
            try:
                transaction = await connection.begin()
                # SQLAlchemy's begin sends nothing: asyncpg begins at its first own statement. A COPY is not one.
                await connection.execute(_BEGIN, {"actor": self._actor, "tenant_id": self._tenant_id})
                try:
                    yield connection
                except BaseException:
                    await transaction.rollback()
                    raise
                await transaction.commit()
            except DBAPIError as fault:
                if fault.connection_invalidated or _is_lost(fault.orig and fault.orig.__cause__):
                    raise Unavailable(f"Postgres went away: {_reason(fault)}") from fault
                raise
            except _CONNECTION_LOST as fault:
                if _is_lost(fault):
                    raise Unavailable(f"Postgres went away: {fault or type(fault).__name__}") from fault
                raise

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._engine.dispose()


async def driver(connection: Connection) -> Any:
    """The asyncpg connection inside the present transaction, for ``unnest`` and COPY."""
    raw = await connection.get_raw_connection()
    return raw.driver_connection


def engine_of(
    url: str, session: Mapping[str, str], arguments: Mapping[str, Any] | None = None, **options: Any
) -> AsyncEngine:
    """An engine on the database of a ``postgresql://`` address, which connects when it is first used.

    ``session`` holds settings of its sessions, ``arguments`` those of ``asyncpg.connect``, ``options`` SQLAlchemy's
    own. Raises ``Misconfigured`` when the address has a parameter that cannot be followed.
    """
    address = address_of(url)
    connect_arguments = {
        **address.connect_arguments,
        **(arguments or {}),
        "timeout": CONNECT_TIMEOUT_S,
        "server_settings": {**address.session, **session},
    }
    return create_async_engine(address.url, connect_args=connect_arguments, **options)


async def connected(engine: AsyncEngine) -> AsyncConnection:
    """A connection of the engine. Whatever keeps it from being made, be it a password, means that there is none now.

    Raises ``Unavailable``, or ``Misconfigured`` when the address asks for what this machine does not have.
    """
    try:
        return await engine.connect()
    except DBAPIError as fault:
        if fault.orig is not None and isinstance(fault.orig.__cause__, asyncpg.ClientConfigurationError):
            raise Misconfigured(f"DATABASE_URL cannot be followed: {_reason(fault)}") from fault
        raise Unavailable(f"Postgres cannot be reached: {_reason(fault)}") from fault
    except (*_CONNECTION_LOST, PoolTimeoutError) as fault:
        raise Unavailable(f"Postgres cannot be reached: {_first_line(fault)}") from fault


def _is_lost(fault: BaseException | None) -> bool:
    # A value that asyncpg cannot send is an interface error too, and the connection is well.
    return isinstance(fault, _CONNECTION_LOST) and not isinstance(fault, ValueError)


def _reason(fault: DBAPIError) -> str:
    return _first_line(fault.orig or fault)


def _first_line(fault: BaseException) -> str:
    return str(fault).strip().split("\n", maxsplit=1)[0] or type(fault).__name__
