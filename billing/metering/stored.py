"""What the record path gives back: frozen values of what is stored, never rows of a database."""

from uuid import UUID

import msgspec

from billing.metering.journal import Cursor
from billing.tokens.components import Components


class SpoolRow(msgspec.Struct, frozen=True):
    """A registered spool and how far it is recorded. Instants are microseconds since the epoch.

    Every request that arrived before ``recorded_through_us`` has its record; None while nobody has looked.
    """

    id: UUID
    host: str
    cursor: Cursor
    registered_us: int
    closed_us: int | None
    recorded_through_us: int | None = None


class StoredCount(msgspec.Struct, frozen=True):
    """A count as it is stored: None is unknown."""

    value: int | None
    provenance: str | None
    method: str | None


class StoredRecord(msgspec.Struct, frozen=True):
    """A usage record as it is stored. Instants and durations are microseconds."""

    tenant_id: UUID
    id: UUID
    project_id: UUID | None
    key_id: UUID | None
    model: str
    backend_id: UUID | None
    engine: str
    operation: str
    stream: bool
    service_tier: str
    outcome: str
    status: int
    provenance: str
    input: StoredCount
    cached_input: StoredCount
    cache_write: StoredCount
    output: StoredCount
    reasoning: StoredCount
    input_estimate: int | None
    ttft_us: int | None
    itl_us: int | None
    duration_us: int | None
    response_model: str | None
    response_id: str | None
    error: str | None
    end_user: str | None
    idempotency_key: str | None
    tags: dict[str, str]
    collection: int
    payload_hash: bytes
    spool_id: UUID | None
    recorded_us: int
    dialect: str = "openai"
    parts: dict[str, StoredCount] = {}
    """Counts by the words of ``billing.tokens.usage.Part``."""
    ttfa_us: int | None = None
    gap_max_us: int | None = None
    overhead_us: int | None = None


class RollupRow(msgspec.Struct, frozen=True):
    """One row of the rollup: every dimension, then the sums."""

    tenant_id: UUID
    bucket_us: int
    collection: int
    project_id: UUID
    model: str
    operation: str
    service_tier: str
    prompt_band: int
    outcome: str
    provenance: str
    requests: int
    components: Components
