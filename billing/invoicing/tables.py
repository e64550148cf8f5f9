"""Tables of issuers and invoices, as migration 0002 makes them. An issued row never changes: a trigger says so."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import BIGINT, BOOLEAN, BYTEA, INTEGER, JSONB, TEXT, UUID

from billing.infra.postgres import metadata

_INSTANT = DateTime(timezone=True)

issuer = Table(
    "issuer",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("number_prefix", TEXT, nullable=False),
    Column("next_number", BIGINT, nullable=False, server_default=text("1")),
    Column("rounding", TEXT, nullable=False),
    Column("created_at", _INSTANT, nullable=False),
    UniqueConstraint("name", name="issuer_name_key"),
    UniqueConstraint("number_prefix", name="issuer_number_prefix_key"),
    CheckConstraint("next_number > 0", name="next_number"),
    CheckConstraint("rounding IN ('half_even', 'half_up')", name="rounding"),
)

invoice = Table(
    "invoice",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("issuer_id", UUID, ForeignKey("issuer.id"), nullable=False),
    Column("number", TEXT),
    Column("status", TEXT, nullable=False),
    Column("month", TEXT, nullable=False),
    Column("period_start", _INSTANT, nullable=False),
    Column("period_end", _INSTANT, nullable=False),
    Column("is_early", BOOLEAN, nullable=False),
    Column("collection", INTEGER, nullable=False),
    Column("currency", TEXT, nullable=False),
    Column("inputs", JSONB, nullable=False),
    Column("content", BYTEA),
    Column("content_hash", BYTEA),
    Column("total_minor", BIGINT),
    Column("created_at", _INSTANT, nullable=False),
    Column("issued_at", _INSTANT),
    UniqueConstraint("issuer_id", "number", name="invoice_issuer_id_number_key"),
    CheckConstraint("status IN ('draft', 'issued')", name="status"),
    CheckConstraint("month ~ '^[0-9]{4}-[0-9]{2}$'", name="month"),
    CheckConstraint("collection > 0", name="collection"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    CheckConstraint("length(content_hash) = 32", name="content_hash"),
    CheckConstraint(
        "period_start < period_end AND extract(epoch FROM period_start)::bigint % 900 = 0 "
        "AND extract(epoch FROM period_end)::bigint % 900 = 0",
        name="period",
    ),
    CheckConstraint(
        "(status = 'draft') = (issued_at IS NULL) "
        "AND (status = 'draft' OR num_nulls(number, content, content_hash, total_minor) = 0)",
        name="issued",
    ),
    Index("ux_invoice_month", "tenant_id", "month", unique=True),
    Index("ix_invoice_issued_at", "issued_at"),
)
