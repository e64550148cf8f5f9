"""Tables of tenants, projects and keys, as the migrations make them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import BIGINT, BOOLEAN, BYTEA, INTEGER, JSONB, TEXT, UUID

from billing.infra.postgres import metadata

_INSTANT = DateTime(timezone=True)

tenant = Table(
    "tenant",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("slug", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("timezone", TEXT, nullable=False, server_default="UTC"),
    Column("status", TEXT, nullable=False, server_default="active"),
    Column("synthetic", BOOLEAN, nullable=False, server_default=text("false")),
    Column("collection", INTEGER, nullable=False, server_default=text("1")),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    UniqueConstraint("slug", name="tenant_slug_key"),
    CheckConstraint("status IN ('active', 'suspended')", name="status"),
    CheckConstraint("collection > 0", name="collection"),
    Index("ix_tenant_version", "version"),
)

project = Table(
    "project",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("slug", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("archived_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    UniqueConstraint("tenant_id", "slug", name="project_tenant_id_slug_key"),
    Index("ix_project_version", "version"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("project_id", UUID),
    Column("name", TEXT, nullable=False),
    Column("prefix", TEXT, nullable=False),
    Column("hash", BYTEA, nullable=False),
    Column("tags", JSONB, nullable=False, server_default="{}"),
    Column("expires_at", _INSTANT),
    Column("revoked_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("last_used_at", _INSTANT),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(["tenant_id", "project_id"], ["project.tenant_id", "project.id"]),
    UniqueConstraint("tenant_id", "hash", name="api_key_tenant_id_hash_key"),
    CheckConstraint("length(hash) = 32", name="hash"),
    Index("ix_api_key_version", "version"),
)
