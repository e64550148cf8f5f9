"""Rows of the record path, as Alembic compares them with the database. Statements stand in ``store.py``."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from billing.infra.postgres import metadata

_MOMENT = DateTime(timezone=True)


def _count(name: str) -> list[Column[object]]:
    """A count that may be unknown, how it was obtained, and by which method."""
    return [Column(name, BigInteger), Column(f"{name}_provenance", Text), Column(f"{name}_method", Text)]


spool = Table(
    "spool",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("shipped_through", BigInteger, nullable=False, server_default=text("0")),
    Column("oldest_open", BigInteger, nullable=False, server_default=text("0")),
    Column("registered_at", _MOMENT, nullable=False),
    Column("closed_at", _MOMENT),
    Column("recorded_through", _MOMENT),
)

usage_record = Table(
    "usage_record",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("project_id", Uuid),
    Column("key_id", Uuid),
    Column("model", Text, nullable=False),
    Column("backend_id", Uuid),
    Column("engine", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("service_tier", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("provenance", Text, nullable=False),
    *_count("input"),
    *_count("cached_input"),
    *_count("cache_write"),
    *_count("output"),
    *_count("reasoning"),
    Column("input_estimate", BigInteger),
    Column("ttft_us", BigInteger),
    Column("itl_us", BigInteger),
    Column("duration_us", BigInteger),
    Column("response_model", Text),
    Column("response_id", Text),
    Column("error", Text),
    Column("end_user", Text),
    Column("idempotency_key", Text),
    Column("tags", JSONB, nullable=False, server_default=text("'{}'")),
    Column("collection", Integer, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("spool_id", Uuid),
    Column("recorded_at", _MOMENT, nullable=False),
    Column("dialect", Text, nullable=False, server_default=text("'openai'")),
    Column("parts", JSONB, nullable=False, server_default=text("'{}'")),
    Column("ttfa_us", BigInteger),
    Column("gap_max_us", BigInteger),
    Column("overhead_us", BigInteger),
    Index("ix_usage_record_id", "id"),
    Index("ix_usage_record_model_id", "model", "id"),
    postgresql_partition_by="RANGE (id)",
)

usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("bucket", _MOMENT, primary_key=True),
    Column("collection", Integer, primary_key=True),
    Column("project_id", Uuid, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("service_tier", Text, primary_key=True),
    Column("prompt_band", SmallInteger, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("provenance", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("uncached_input", BigInteger, nullable=False),
    Column("cached_input", BigInteger, nullable=False),
    Column("cache_write", BigInteger, nullable=False),
    Column("answer_output", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (
            "audio_input", "image_input", "video_input", "audio_output", "image_output", "training", "image", "second",
            "gpu_second", "character", "search",
        )
    ),
)  # fmt: skip

external_event = Table(
    "external_event",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("tenant.id"), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("received_at", _MOMENT, nullable=False),
)

usage_quarantine = Table(
    "usage_quarantine",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_hash", LargeBinary, primary_key=True),
    Column("spool_id", Uuid),
    Column("recorded_at", _MOMENT, nullable=False),
    Column("released_at", _MOMENT),
)
