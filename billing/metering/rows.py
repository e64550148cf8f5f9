"""Usage records as rows of one insert: which may go in, and their values in the order of :data:`COLUMNS`."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.ids import instant_of
from billing.metering.event import UsageRecord, payload_hash
from billing.metering.journal import Reason, Rejected, reject
from billing.metering.rollup import key_of, quantities
from billing.tokens.components import Component
from billing.tokens.usage import Count

COLUMNS = (
    ("tenant_id", "uuid"),
    ("id", "uuid"),
    ("project_id", "uuid"),
    ("key_id", "uuid"),
    ("model", "text"),
    ("backend_id", "uuid"),
    ("engine", "text"),
    ("operation", "text"),
    ("stream", "boolean"),
    ("service_tier", "text"),
    ("outcome", "text"),
    ("status", "smallint"),
    ("provenance", "text"),
    *(
        column
        for count in ("input", "cached_input", "cache_write", "output", "reasoning")
        for column in ((count, "bigint"), (f"{count}_provenance", "text"), (f"{count}_method", "text"))
    ),
    ("input_estimate", "bigint"),
    ("ttft_us", "bigint"),
    ("itl_us", "bigint"),
    ("duration_us", "bigint"),
    ("response_model", "text"),
    ("response_id", "text"),
    ("error", "text"),
    ("end_user", "text"),
    ("idempotency_key", "text"),
    ("tags", "text"),
    ("collection", "integer"),
    ("payload_hash", "bytea"),
    ("dialect", "text"),
    ("parts", "text"),
    ("ttfa_us", "bigint"),
    ("gap_max_us", "bigint"),
    ("overhead_us", "bigint"),
)
"""Name and Postgres type of the columns of ``usage_record`` that a record fills; tags and parts are JSON text here."""

ROLLUP_COLUMNS = (
    ("rollup_project_id", "uuid"),
    ("rollup_bucket_s", "bigint"),
    ("rollup_prompt_band", "smallint"),
    *((f"rollup_{component.value}", "bigint") for component in Component),
)
"""What the same record adds to its rollup row, joined by its id inside the statement."""

Key = tuple[int, int]
"""Tenant and usage id, as integers: these are hashed by the million, and a UUID's hash is computed in Python."""

Interval = tuple[int, int]
"""Instants ``[start, end)`` in microseconds."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record that may go in, with the values of its columns and its payload hash."""

    key: Key
    record: UsageRecord
    hash: bytes
    values: tuple[Any, ...]


class Sorted(msgspec.Struct, frozen=True):
    """A batch divided: rows to insert, what goes to quarantine, and how many are the same record once more."""

    rows: list[Row]
    rejected: list[Rejected]
    duplicates: int


def sort_out(
    records: Sequence[UsageRecord], collections: Mapping[UUID, int], partitions: Sequence[Interval]
) -> Sorted:
    """Divide a batch by what the database can take: known tenants, ids inside its partitions, each id once.

    ``collections`` are the numbers of the tenants that exist; ``partitions`` the instants that partitions cover.
    """
    rows: dict[Key, Row] = {}
    rejected = []
    duplicates = 0
    for record in records:
        tenant_id = record.opened.tenant_id
        fault = _fault(record, collections, partitions)
        if fault is not None:
            rejected.append(fault)
            continue
        row = _row(record, collections[tenant_id])
        first = rows.setdefault(row.key, row)
        if first is not row and first.hash == row.hash:
            duplicates += 1
        elif first is not row:
            rejected.append(reject(record, Reason.CONFLICT, "the same batch holds another record of this id"))
    return Sorted(list(rows.values()), rejected, duplicates)


def _fault(
    record: UsageRecord, collections: Mapping[UUID, int], partitions: Sequence[Interval]
) -> Rejected | None:
    if record.opened.tenant_id not in collections:
        return reject(record, Reason.UNKNOWN_TENANT)
    try:
        at_us = instant_of(record.id)
    except ValueError as fault:
        return reject(record, Reason.OUTSIDE_PARTITIONS, str(fault))
    for start, end in partitions:
        if start <= at_us < end:
            return None
    return reject(record, Reason.OUTSIDE_PARTITIONS)


def _row(record: UsageRecord, collection: int) -> Row:
    opened, usage = record.opened, record.usage
    key = key_of(record)
    added = quantities(record)
    checksum = payload_hash(record)
    values = (
        opened.tenant_id,
        opened.id,
        opened.project_id,
        opened.key_id,
        opened.model,
        opened.backend_id,
        opened.engine,
        opened.operation,
        opened.stream,
        opened.service_tier,
        record.outcome,
        record.status,
        key.provenance,
        *_count(usage.input),
        *_count(usage.cached_input),
        *_count(usage.cache_write),
        *_count(usage.output),
        *_count(usage.reasoning),
        opened.input_estimate,
        record.ttft_us,
        record.itl_us,
        record.duration_us,
        _text(record.response_model),
        _text(record.response_id),
        record.error,
        _text(opened.end_user),
        _text(opened.idempotency_key),
        _json(opened.tags).decode() if opened.tags else "{}",
        collection,
        checksum,
        opened.dialect,
        _json(usage.parts).decode() if usage.parts else "{}",
        record.ttfa_us,
        record.gap_max_us,
        record.overhead_us,
        key.project_id,
        key.bucket_us // MICROSECONDS_PER_SECOND,
        key.prompt_band,
        *msgspec.structs.astuple(added),
    )
    return Row((opened.tenant_id.int, opened.id.int), record, checksum, values)


def _count(count: Count) -> tuple[int | None, str | None, str | None]:
    return (count.value, count.provenance, count.method or None)


def _text(text: str | None) -> str | None:
    """Without NUL, which Postgres refuses: a record is not lost over a label."""
    return text.replace("\0", "") if text is not None and "\0" in text else text


_json = msgspec.json.encode
