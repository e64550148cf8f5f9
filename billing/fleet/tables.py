"""Tables of backends, models and deployments, as migrations 0001 and 0003 make them."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, Table, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, INTEGER, TEXT, UUID

from billing.infra.postgres import metadata

_INSTANT = DateTime(timezone=True)

backend = Table(
    "backend",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("url", TEXT, nullable=False),
    Column("engine", TEXT, nullable=False),
    Column("credential", TEXT),
    Column("concurrency", INTEGER),
    Column("archived_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    Column("on_hang_up", TEXT, nullable=False, server_default=text("'abort'")),
    UniqueConstraint("name", name="backend_name_key"),
    CheckConstraint("concurrency > 0", name="concurrency"),
    Index("ix_backend_version", "version"),
)

model = Table(
    "model",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("aliases", ARRAY(TEXT), nullable=False, server_default="{}"),
    Column("archived_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    Column("reasoning_start", TEXT),
    Column("reasoning_end", TEXT),
    Column("tokenizer", TEXT),
    Column("context_tokens", BIGINT),
    Column("output_cap", BIGINT),
    CheckConstraint("context_tokens > 0", name="context_tokens"),
    CheckConstraint("output_cap > 0", name="output_cap"),
    UniqueConstraint("name", name="model_name_key"),
    Index("ix_model_version", "version"),
)

deployment = Table(
    "deployment",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("model_id", UUID, ForeignKey("model.id"), nullable=False),
    Column("backend_id", UUID, ForeignKey("backend.id"), nullable=False),
    Column("backend_model", TEXT, nullable=False),
    Column("weight", INTEGER, nullable=False, server_default=text("1")),
    Column("priority", INTEGER, nullable=False, server_default=text("0")),
    Column("archived_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    UniqueConstraint(
        "model_id", "backend_id", "backend_model", name="deployment_model_id_backend_id_backend_model_key"
    ),
    CheckConstraint("weight > 0", name="weight"),
    Index("ix_deployment_version", "version"),
)
