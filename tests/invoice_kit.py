"""Usage records and rollup rows for tests of prices, previews and traces, and the way into a real database."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from billing.clock import from_datetime
from billing.ids import RANDOM_BYTES, uuid7
from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.event import Closed, Opened, UsageRecord, settle
from billing.metering.rollup import NO_PROJECT
from billing.metering.rows import sort_out
from billing.metering.stored import RollupRow
from billing.tokens.components import Components
from billing.tokens.usage import UNKNOWN, Count, Outcome, Provenance, TokenUsage

TENANT = UUID("01900000-0000-7000-8000-0000000000a1")
KEY = UUID("01900000-0000-7000-8000-0000000000a2")
BACKEND = UUID("01900000-0000-7000-8000-0000000000a3")
SPOOL = UUID("01900000-0000-7000-8000-0000000000a4")


def at(text: str) -> int:
    """The instant of ``2026-11-24T10:00:00Z``, in microseconds."""
    return from_datetime(datetime.fromisoformat(text))


def usage_id(text: str, number: int = 0) -> UUID:
    """A usage id of an instant; different numbers of one instant are different ids."""
    return uuid7(at(text), number.to_bytes(RANDOM_BYTES, "big"))


def usage(
    input_tokens: int | None,
    output_tokens: int | None,
    *,
    cached: int | None = None,
    reasoning: int | None = None,
    provenance: Provenance = Provenance.REPORTED,
    method: str = "usage",
) -> TokenUsage:
    """Counts that are all known in one way; None is not known."""

    def count(value: int | None) -> Count:
        return UNKNOWN if value is None else Count(value, provenance, method)

    return TokenUsage(count(input_tokens), count(cached), UNKNOWN, count(output_tokens), count(reasoning))


def record(
    id_: UUID,
    used: TokenUsage,
    *,
    tenant_id: UUID = TENANT,
    key_id: UUID = KEY,
    backend_id: UUID = BACKEND,
    project_id: UUID | None = None,
    model: str = "golden",
    outcome: Outcome = Outcome.COMPLETE,
    status: int = 200,
    tags: dict[str, str] | None = None,
) -> UsageRecord:
    """A usage record with plausible times."""
    opened = Opened(
        id_, tenant_id, project_id, key_id, model, backend_id, "llama.cpp", "chat", True,
        input_estimate=17, end_user="user-17", tags=tags or {},
    )  # fmt: skip
    closed = Closed(
        id_, outcome, status, used, duration_us=230_456, ttft_us=12_345, itl_us=4_190,
        response_model="golden-f16.gguf", response_id="chatcmpl-1",
    )  # fmt: skip
    return settle(opened, closed)


async def save(url: str, records: Sequence[UsageRecord], now_us: int) -> None:
    """Records into a migrated database, by the recorder's own statement and under its role."""
    database = Database(url, role="recorder", pool_size=1)
    try:
        async with database.transaction() as connection:
            await store.partitions_ensure(connection, now_us)
            collections = await store.collections_read(
                connection, [each.opened.tenant_id for each in records]
            )
            rows = sort_out(records, collections, await store.partitions_covered(connection))
            assert not rows.rejected, rows.rejected
            await store.records_insert(connection, rows.rows, SPOOL, now_us)
    finally:
        await database.close()


def rollup_row(
    bucket: str,
    tokens: Components,
    *,
    model: str = "golden",
    outcome: str = "complete",
    provenance: str = "reported",
    requests: int = 1,
) -> RollupRow:
    """A rollup row of a bucket that begins at ``bucket``."""
    return RollupRow(
        TENANT, at(bucket), 1, NO_PROJECT, model, "chat", "standard", 0, outcome, provenance, requests,
        tokens,
    )  # fmt: skip
