"""The table of limits, as the migrations make it."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, ForeignKeyConstraint, Index, Table, text
from sqlalchemy.dialects.postgresql import BIGINT, BOOLEAN, INTEGER, TEXT, UUID

from billing.infra.postgres import metadata

_INSTANT = DateTime(timezone=True)

usage_limit = Table(
    "usage_limit",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("project_id", UUID),
    Column("key_id", UUID),
    Column("model", TEXT),
    Column("meter", TEXT, nullable=False),
    Column("amount", BIGINT, nullable=False),
    Column("window_s", INTEGER),
    Column("burst", BIGINT),
    Column("enforce", TEXT, nullable=False),
    Column("on_failure", TEXT, nullable=False),
    Column("per_end_user", BOOLEAN, nullable=False, server_default=text("false")),
    Column("strict", BOOLEAN, nullable=False, server_default=text("false")),
    Column("boost", BIGINT),
    Column("boost_until", _INSTANT),
    Column("archived_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(["tenant_id", "project_id"], ["project.tenant_id", "project.id"]),
    ForeignKeyConstraint(["tenant_id", "key_id"], ["api_key.tenant_id", "api_key.id"]),
    CheckConstraint(
        "meter IN ('requests', 'tokens', 'input_tokens', 'output_tokens', 'concurrency')", name="meter"
    ),
    CheckConstraint("amount BETWEEN 1 AND 1000000000000", name="amount"),
    CheckConstraint("window_s IN (1, 60, 3600, 86400)", name="window_s"),
    CheckConstraint("burst BETWEEN 1 AND 1000000000000", name="burst_amount"),
    CheckConstraint("enforce IN ('enforced', 'shadow')", name="enforce"),
    CheckConstraint("on_failure IN ('closed', 'open')", name="on_failure"),
    CheckConstraint("project_id IS NULL OR key_id IS NULL", name="scope"),
    CheckConstraint("(window_s IS NULL) = (meter = 'concurrency')", name="window"),
    CheckConstraint("burst IS NULL OR meter <> 'concurrency'", name="burst"),
    CheckConstraint("(boost IS NULL) = (boost_until IS NULL)", name="boost"),
    CheckConstraint("boost BETWEEN 1 AND 1000000000000", name="boost_amount"),
    CheckConstraint(
        "NOT strict OR (burst IS NULL AND on_failure = 'closed' AND meter <> 'concurrency')", name="strict"
    ),
    Index("ix_usage_limit_version", "version"),
    Index(
        "ux_usage_limit_scope",
        "tenant_id",
        "project_id",
        "key_id",
        "model",
        "meter",
        "window_s",
        "per_end_user",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text("archived_at IS NULL"),
    ),
)
