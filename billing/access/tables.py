"""The table of the audit log, as migration 0002 makes it."""

from sqlalchemy import CheckConstraint, Column, DateTime, Identity, Index, Table
from sqlalchemy.dialects.postgresql import BIGINT, JSONB, TEXT, UUID

from billing.infra.postgres import metadata

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("id", BIGINT, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("action", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("subject_id", TEXT, nullable=False),
    Column("tenant_id", UUID),
    Column("before", JSONB),
    Column("after", JSONB),
    CheckConstraint("action IN ('insert', 'update', 'delete')", name="action"),
    Index("ix_audit_entry_tenant_id", "tenant_id", "id"),
)
