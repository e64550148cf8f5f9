"""Every statement on ``external_event``, and on what the words of events name. Records go in by ``metering/store.py``.

A connection is inside a transaction that its caller began and will end. What Postgres refuses comes as
``RowsRefusedError`` or ``Unavailable``, as there.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from billing.clock import month_start, to_datetime
from billing.errors import Unavailable
from billing.infra.postgres import Connection, driver
from billing.metering.store import PARTITION_LOCK_WAIT

Name = tuple[UUID, str, str]
"""Tenant, source and external id: what names an event for ever."""


class Known(msgspec.Struct, frozen=True):
    """What is kept of an event that was accepted: its usage id and the hash of what it said."""

    usage_id: UUID
    payload_hash: bytes


class Claim(msgspec.Struct, frozen=True):
    """An event that asks to be the first of its name."""

    name: Name
    known: Known


# Whoever comes second waits here for the first to commit or to give up. In the order of names, so that two batches
# wait for each other in one direction only.
_CLAIM = """
INSERT INTO external_event (tenant_id, source, external_id, id, payload_hash, received_at)
SELECT tenant_id, source, external_id, id, payload_hash, $6::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bytea[])
  AS incoming (tenant_id, source, external_id, id, payload_hash)
ORDER BY tenant_id, source, external_id
ON CONFLICT (tenant_id, source, external_id) DO NOTHING
RETURNING tenant_id, source, external_id
"""
_KNOWN = """
SELECT tenant_id, source, external_id, id, payload_hash FROM external_event
JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS wanted (tenant_id, source, external_id)
  USING (tenant_id, source, external_id)
"""
_PROJECTS = """
SELECT tenant_id, slug, id FROM project
JOIN unnest($1::uuid[], $2::text[]) AS wanted (tenant_id, slug) USING (tenant_id, slug)
"""


async def tenants_named(connection: Connection, slugs: Collection[str]) -> dict[str, UUID]:
    """Ids of tenants, whatever their status, by slug."""
    async with _session(connection) as session:
        rows = await session.fetch("SELECT slug, id FROM tenant WHERE slug = ANY($1)", list(slugs))
        return {row["slug"]: row["id"] for row in rows}


async def projects_named(
    connection: Connection, names: Collection[tuple[UUID, str]]
) -> dict[tuple[UUID, str], UUID]:
    """Ids of projects, archived ones too, by tenant and slug."""
    async with _session(connection) as session:
        rows = await session.fetch(_PROJECTS, [tenant for tenant, _ in names], [slug for _, slug in names])
        return {(row["tenant_id"], row["slug"]): row["id"] for row in rows}


async def models_of_aliases(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Public names of models by those among ``names`` that are an alias of one."""
    async with _session(connection) as session:
        rows = await session.fetch("SELECT name, aliases FROM model WHERE aliases && $1::text[]", list(names))
        return {alias: row["name"] for row in rows for alias in row["aliases"] if alias in names}


async def become_recorder(connection: Connection) -> None:
    """Do the rest of the transaction under the role that writes records: ``control`` may not."""
    async with _session(connection) as session:
        await session.execute("SET LOCAL ROLE recorder")


async def months_ensure(connection: Connection, instants_us: Collection[int]) -> int:
    """Make the partitions of the UTC months of instants; returns how many were missing.

    Raises ``Unavailable`` when another transaction keeps the lock for longer than ``PARTITION_LOCK_WAIT``.
    """
    made = 0
    async with _session(connection) as session:
        await session.execute(f"SET LOCAL lock_timeout = '{PARTITION_LOCK_WAIT}'")
        for month_us in sorted({month_start(instant_us) for instant_us in instants_us}):
            made += await session.fetchval("SELECT usage_partitions_ensure($1, $1)", to_datetime(month_us))
        await session.execute("SET LOCAL lock_timeout TO DEFAULT")
    return made


async def claim(connection: Connection, claims: Sequence[Claim], received_us: int) -> set[Name]:
    """Keep events by their names, each once; returns the names that were not there before."""
    async with _session(connection) as session:
        rows = await session.fetch(
            _CLAIM,
            *_columns([each.name for each in claims]),
            [each.known.usage_id for each in claims],
            [each.known.payload_hash for each in claims],
            to_datetime(received_us),
        )
        return {(row[0], row[1], row[2]) for row in rows}


async def known(connection: Connection, names: Collection[Name]) -> dict[Name, Known]:
    """What is kept of events, by their names. A statement of its own: it sees what a claim waited for."""
    async with _session(connection) as session:
        rows = await session.fetch(_KNOWN, *_columns(names))
        return {(row[0], row[1], row[2]): Known(row[3], row[4]) for row in rows}


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """A part of the transaction that is undone alone when the block raises."""
    async with _session(connection) as session, session.transaction():
        yield


def _columns(names: Collection[Name]) -> tuple[list[UUID], list[str], list[str]]:
    return [name[0] for name in names], [name[1] for name in names], [name[2] for name in names]


@asynccontextmanager
async def _session(connection: Connection) -> AsyncIterator[Any]:
    """The driver's connection; a lost one is recognised by ``infra.postgres``."""
    try:
        yield await driver(connection)
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as fault:
        raise Unavailable(f"Postgres refused: {type(fault).__name__} {fault.sqlstate}") from fault
