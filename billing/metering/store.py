"""Every SQL statement of the record path. A connection is inside a transaction that its caller began and will end.

Raises ``Unavailable`` for whatever Postgres refuses as a whole; ``RowsRefusedError`` when values of rows are the reason.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from billing.clock import from_datetime, to_datetime
from billing.errors import Unavailable
from billing.infra.postgres import Connection, driver
from billing.metering.collection import lock_key
from billing.metering.journal import Cursor, Rejected
from billing.metering.rows import COLUMNS, ROLLUP_COLUMNS, Interval, Key, Row
from billing.metering.stored import RollupRow, SpoolRow, StoredCount, StoredRecord
from billing.tokens.components import Component, Components

RECENT_MAX = 1_000
"""Most records that one look at the recent ones returns."""
PARTITION_LOCK_WAIT = "2s"
PARTITIONS_BEHIND = "1 month"
PARTITIONS_AHEAD = "3 months"

_ROW_FAULT_CLASSES = ("22", "23", "54")
"""SQLSTATE classes that say a value is at fault: data exception, constraint violation, a limit such as index size."""
_BOUNDS = re.compile(r"FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")


class RowsRefusedError(ValueError):
    """Postgres refuses values of these rows; the message says why without repeating a value."""


_INPUT = (*COLUMNS, *ROLLUP_COLUMNS)
_INPUT_NAMES = [name for name, _ in _INPUT]
_STAGE = "recorder_incoming"
# A batch comes in by COPY into a table of the session: 19 µs a row with rollup, where one array a column took 35 and
# the same arrays without rollup 28 (bench/recorder.py). The DELETE is for the later parts of a batch that was halved.
_STAGING = f"""
CREATE TEMP TABLE IF NOT EXISTS {_STAGE} ({", ".join(f"{name} {kind}" for name, kind in _INPUT)}) ON COMMIT DELETE ROWS;
DELETE FROM {_STAGE}
"""  # noqa: S608 - made of this file's own names
_RECORD_NAMES = ", ".join(name for name, _ in COLUMNS)
_RECORD_VALUES = ", ".join(f"{name}::jsonb" if name in {"tags", "parts"} else name for name, _ in COLUMNS)
_SUMS = tuple(component.value for component in Component)
_ROLLUP_KEY = "tenant_id, bucket, collection, project_id, model, operation, service_tier, prompt_band, outcome, provenance"

# The rollup adds up exactly the rows that this statement inserted. Both inserts go in key order, so that two recorders
# take row locks in the same order.
_INSERT = f"""
WITH inserted AS (
  INSERT INTO usage_record ({_RECORD_NAMES}, spool_id, recorded_at)
  SELECT {_RECORD_VALUES}, $1::uuid, $2::timestamptz FROM {_STAGE} ORDER BY tenant_id, id
  ON CONFLICT (tenant_id, id) DO NOTHING
  RETURNING tenant_id, id
), added AS (
  INSERT INTO usage_rollup ({_ROLLUP_KEY}, requests, {", ".join(_SUMS)})
  SELECT tenant_id, to_timestamp(rollup_bucket_s), collection, rollup_project_id, model, operation, service_tier,
    rollup_prompt_band, outcome, provenance, count(*), {", ".join(f"sum(rollup_{name})::bigint" for name in _SUMS)}
  FROM {_STAGE} JOIN inserted USING (tenant_id, id)
  GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
  ON CONFLICT ({_ROLLUP_KEY}) DO UPDATE SET requests = usage_rollup.requests + excluded.requests,
    {", ".join(f"{name} = usage_rollup.{name} + excluded.{name}" for name in _SUMS)}
)
SELECT tenant_id, id FROM {_STAGE} WHERE (tenant_id, id) NOT IN (SELECT tenant_id, id FROM inserted)
"""  # noqa: S608 - made of this file's own names

# A plan that was made for a batch of one row would join 2,000 with 2,000 by a nested loop, and compiling pays for none.
_LOCK_CURSOR = """
SELECT shipped_through, oldest_open,
  set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)
FROM spool WHERE id = $1 FOR UPDATE
"""
_REGISTER = """
INSERT INTO spool (id, host, registered_at) SELECT id, $2, $3 FROM unnest($1::uuid[]) AS found (id)
ON CONFLICT (id) DO NOTHING
"""
_SPOOL_COLUMNS = "id, host, shipped_through, oldest_open, registered_at, closed_at, recorded_through"
# Two recorders may look at the same spools: whoever moved the cursor knows more, and whoever is at it says so itself.
_THROUGH = """
WITH seen AS (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[])
    AS seen (id, shipped_through, oldest_open, moment)
), locked AS (
  SELECT spool.id, moment FROM spool JOIN seen USING (id, shipped_through, oldest_open)
  WHERE closed_at IS NULL FOR UPDATE OF spool SKIP LOCKED
)
UPDATE spool SET recorded_through = greatest(recorded_through, moment) FROM locked WHERE spool.id = locked.id
"""
_COVERED = """
SELECT pg_get_expr(child.relpartbound, child.oid) FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'usage_record'::regclass
"""
_QUARANTINE = """
INSERT INTO usage_quarantine (tenant_id, id, reason, detail, payload, payload_hash, spool_id, recorded_at)
SELECT *, $7::uuid, $8::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
ON CONFLICT (tenant_id, id, payload_hash) DO NOTHING
"""


async def spools_register(
    connection: Connection, spool_ids: Sequence[UUID], host: str, now_us: int
) -> list[SpoolRow]:
    """Register what is new and return the rows of all of these spools."""
    async with _session(connection) as session:
        await session.execute(_REGISTER, list(spool_ids), host, to_datetime(now_us))
        rows = await session.fetch(
            f"SELECT {_SPOOL_COLUMNS} FROM spool WHERE id = ANY($1) ORDER BY id",  # noqa: S608 - own names
            list(spool_ids),
        )
        return [_spool_row(row) for row in rows]


async def spools_open(connection: Connection) -> list[SpoolRow]:
    """The spools of every host that may still bring records, oldest first."""
    async with _session(connection) as session:
        rows = await session.fetch(
            f"SELECT {_SPOOL_COLUMNS} FROM spool WHERE closed_at IS NULL ORDER BY registered_at, id"  # noqa: S608 - own names
        )
        return [_spool_row(row) for row in rows]


async def cursor_lock(connection: Connection, spool_id: UUID) -> Cursor | None:
    """Lock a spool's row until the transaction ends and return its cursor; None when there is no such row."""
    async with _session(connection) as session:
        row = await session.fetchrow(_LOCK_CURSOR, spool_id)
        return Cursor(row["shipped_through"], row["oldest_open"]) if row else None


async def spools_behind(connection: Connection, through_us: int, rows_max: int) -> list[SpoolRow]:
    """The spools of every host that may hold requests from before an instant and are not recorded, the furthest first."""
    async with _session(connection) as session:
        rows = await session.fetch(
            f"SELECT {_SPOOL_COLUMNS} FROM spool WHERE closed_at IS NULL "  # noqa: S608 - own names
            "AND (recorded_through < $1) IS NOT FALSE ORDER BY recorded_through NULLS FIRST, id LIMIT $2",
            to_datetime(through_us),
            rows_max,
        )
        return [_spool_row(row) for row in rows]


async def cursor_move(
    connection: Connection, spool_id: UUID, cursor: Cursor, closed_us: int | None, through_us: int | None
) -> None:
    """Say how far a spool is recorded, when it was recorded to its end, and through which arrivals if that is known."""
    async with _session(connection) as session:
        await session.execute(
            "UPDATE spool SET shipped_through = $2, oldest_open = $3, closed_at = $4, "
            "recorded_through = greatest(recorded_through, $5) WHERE id = $1",
            spool_id,
            cursor.shipped_through,
            cursor.oldest_open,
            _moment(closed_us),
            _moment(through_us),
        )


async def through_move(connection: Connection, seen: Sequence[tuple[UUID, Cursor, int]]) -> None:
    """Say through which arrivals spools are recorded whose cursors are still where they were seen; never back."""
    columns = (
        [spool_id for spool_id, _, _ in seen],
        [cursor.shipped_through for _, cursor, _ in seen],
        [cursor.oldest_open for _, cursor, _ in seen],
        [to_datetime(through_us) for _, _, through_us in seen],
    )
    async with _session(connection) as session:
        await session.execute(_THROUGH, *columns)


async def collection_lock(connection: Connection, tenant_id: UUID) -> None:
    """Keep recorders from reading the tenant's collection until the transaction ends, and wait for those that have."""
    async with _session(connection) as session:
        await session.execute("SELECT pg_advisory_xact_lock($1)", lock_key(tenant_id))


async def collections_read(connection: Connection, tenant_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The collection number of each tenant that exists, which no close can raise until the transaction ends.

    Two statements on purpose: one statement would read from before it waited for the lock.
    """
    keys = sorted({lock_key(tenant_id) for tenant_id in tenant_ids})
    async with _session(connection) as session:
        await session.execute(
            "SELECT pg_advisory_xact_lock_shared(key) FROM unnest($1::bigint[]) AS stripe (key)", keys
        )
        rows = await session.fetch(
            "SELECT id, collection FROM tenant WHERE id = ANY($1::uuid[])", list(tenant_ids)
        )
        return {row["id"]: row["collection"] for row in rows}


async def partitions_covered(connection: Connection) -> list[Interval]:
    """The instants that partitions of ``usage_record`` cover, joined where they touch."""
    async with _session(connection) as session:
        rows = await session.fetch(_COVERED)
    bounds = sorted(_bounds(row[0]) for row in rows)
    covered: list[Interval] = []
    for start, end in bounds:
        if covered and covered[-1][1] == start:
            covered[-1] = (covered[-1][0], end)
        else:
            covered.append((start, end))
    return covered


async def partitions_ensure(connection: Connection, now_us: int) -> int:
    """Make the partitions of the months around an instant; returns how many were missing."""
    async with _session(connection) as session:
        await session.execute(f"SET LOCAL lock_timeout = '{PARTITION_LOCK_WAIT}'")
        made: int = await session.fetchval(
            "SELECT usage_partitions_ensure($1::timestamptz - $2::text::interval, $1 + $3::text::interval)",
            to_datetime(now_us),
            PARTITIONS_BEHIND,
            PARTITIONS_AHEAD,
        )
        return made


async def records_insert(
    connection: Connection, rows: Sequence[Row], spool_id: UUID | None, now_us: int
) -> set[Key]:
    """Insert records and add them to the rollup; returns the keys of those that were there before.

    Raises ``RowsRefusedError``, with nothing of this call done, when a value cannot be stored.
    """
    async with _session(connection) as session:
        try:
            async with session.transaction():
                await session.execute(_STAGING)
                values = [row.values for row in rows]
                await session.copy_records_to_table(_STAGE, records=values, columns=_INPUT_NAMES)
                found = await session.fetch(_INSERT, spool_id, to_datetime(now_us))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OverflowError) as fault:
            if is_of_a_row(fault):
                raise RowsRefusedError(_reason(fault)) from fault
            raise
    return {(row[0].int, row[1].int) for row in found}


async def hashes_read(connection: Connection, rows: Sequence[Row]) -> dict[Key, bytes]:
    """The stored payload hashes of records, by their keys."""
    async with _session(connection) as session:
        found = await session.fetch(
            "SELECT tenant_id, id, payload_hash FROM usage_record JOIN unnest($1::uuid[], $2::uuid[]) "
            "AS wanted (tenant_id, id) USING (tenant_id, id)",
            [row.record.opened.tenant_id for row in rows],
            [row.record.id for row in rows],
        )
        return {(row[0].int, row[1].int): row[2] for row in found}


async def quarantine(
    connection: Connection, rejected: Sequence[Rejected], spool_id: UUID | None, now_us: int
) -> None:
    """Keep what could not become a record; the same thing again is the same row."""
    columns = (
        [item.tenant_id for item in rejected],
        [item.id for item in rejected],
        [item.reason for item in rejected],
        [item.detail for item in rejected],
        [item.payload for item in rejected],
        [item.payload_hash for item in rejected],
    )
    async with _session(connection) as session:
        await session.execute(_QUARANTINE, *columns, spool_id, to_datetime(now_us))


async def record_by_id(connection: Connection, usage_id: UUID) -> StoredRecord | None:
    """The record of a usage id, whichever tenant's it is; None when there is none (yet)."""
    async with _session(connection) as session:
        row = await session.fetchrow("SELECT * FROM usage_record WHERE id = $1", usage_id)
        return _stored(row) if row else None


async def records_recent(
    connection: Connection,
    tenant_id: UUID | None,
    limit: int,
    *,
    model: str | None = None,
    before: UUID | None = None,
) -> list[StoredRecord]:
    """The latest records by arrival, of one tenant or of all, of a model, before an id; at most 1,000."""
    wanted = {"tenant_id =": tenant_id, "model =": model, "id <": before}
    values = [value for value in wanted.values() if value is not None]
    present = [test for test, value in wanted.items() if value is not None]
    tests = " AND ".join(f"{test} ${number}" for number, test in enumerate(present, 2))
    async with _session(connection) as session:
        rows = await session.fetch(
            f"SELECT * FROM usage_record {'WHERE ' * bool(tests)}{tests} ORDER BY id DESC LIMIT $1",  # noqa: S608 - this function's own words
            max(0, min(limit, RECENT_MAX)),
            *values,
        )
        return [_stored(row) for row in rows]


async def rollup_totals(
    connection: Connection, tenant_id: UUID, start_us: int, end_us: int, *, collection_max: int | None = None
) -> list[RollupRow]:
    """A tenant's rollup rows of the buckets in ``[start, end)``, in key order; with ``collection_max`` those of a close."""
    async with _session(connection) as session:
        rows = await session.fetch(
            f"SELECT {_ROLLUP_KEY}, requests, {', '.join(_SUMS)} FROM usage_rollup WHERE tenant_id = $1 AND bucket >= $2 AND bucket < $3 "  # noqa: S608 - own names
            f"AND ($4::integer IS NULL OR collection <= $4) ORDER BY {_ROLLUP_KEY}",
            tenant_id,
            to_datetime(start_us),
            to_datetime(end_us),
            collection_max,
        )
        return [_rollup_row(row) for row in rows]


async def rollup_exists(connection: Connection, tenant_id: UUID, start_us: int, end_us: int) -> bool:
    """Whether a tenant used anything in ``[start, end)``."""
    async with _session(connection) as session:
        found: bool = await session.fetchval(
            "SELECT EXISTS (SELECT FROM usage_rollup WHERE tenant_id = $1 AND bucket >= $2 AND bucket < $3)",
            tenant_id,
            to_datetime(start_us),
            to_datetime(end_us),
        )
        return found


def is_of_a_row(fault: BaseException) -> bool:
    """Whether values are at fault, rather than the connection, a lock or the schema.

    A value that asyncpg itself cannot send is an ``OverflowError``, or an interface error that is a ``ValueError`` too.
    """
    if isinstance(fault, asyncpg.PostgresError):
        return str(fault.sqlstate or "").startswith(_ROW_FAULT_CLASSES)
    return isinstance(fault, ValueError | OverflowError)


def _reason(fault: BaseException) -> str:
    # Messages may repeat a value; the kind and the constraint never do.
    parts = (type(fault).__name__, getattr(fault, "sqlstate", None), getattr(fault, "constraint_name", None))
    return " ".join(part for part in parts if part)


@asynccontextmanager
async def _session(connection: Connection) -> AsyncIterator[Any]:
    """The driver's connection, its errors turned into ours; a lost connection is recognised by ``infra.postgres``."""
    try:
        yield await driver(connection)
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as fault:
        raise Unavailable(f"Postgres refused: {_reason(fault)}") from fault


def _bounds(expression: str) -> Interval:
    match = _BOUNDS.search(expression)
    if match is None:
        raise Unavailable(f"a partition of usage_record has unexpected bounds: {expression}")
    first, last = (UUID(text).int >> 80 for text in match.groups())
    return first * 1000, last * 1000


def _spool_row(row: Any) -> SpoolRow:
    return SpoolRow(
        id=row["id"],
        host=row["host"],
        cursor=Cursor(row["shipped_through"], row["oldest_open"]),
        registered_us=from_datetime(row["registered_at"]),
        closed_us=_instant(row["closed_at"]),
        recorded_through_us=_instant(row["recorded_through"]),
    )


def _stored(row: Any) -> StoredRecord:
    values = dict(row)
    for name in ("input", "cached_input", "cache_write", "output", "reasoning"):
        values[name] = StoredCount(
            values[name], values.pop(f"{name}_provenance"), values.pop(f"{name}_method")
        )
    parts = values["parts"] if isinstance(values["parts"], dict) else json.loads(values["parts"])
    values["parts"] = {name: StoredCount(*count) for name, count in parts.items()}
    values["recorded_us"] = from_datetime(values.pop("recorded_at"))
    return StoredRecord(**values)


def _rollup_row(row: Any) -> RollupRow:
    # By position: a month has many rows, and to take them apart by name costs more than to rate them.
    values: tuple[Any, ...] = (*row[2 : -len(_SUMS)], Components(*row[-len(_SUMS) :]))
    return RollupRow(row[0], from_datetime(row[1]), *values)


def _instant(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)


def _moment(instant_us: int | None) -> datetime | None:
    return None if instant_us is None else to_datetime(instant_us)
