"""Tables of plans and subscriptions, as migrations 0001 and 0005 make them. A plan's version is inserted, never updated.

The column ``version`` is the directory's: the change that brought the row to the gateways. Triggers write it.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import BIGINT, BYTEA, INTEGER, JSONB, TEXT, UUID, ExcludeConstraint

from billing.infra.postgres import metadata

_INSTANT = DateTime(timezone=True)

price_plan = Table(
    "price_plan",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("currency", TEXT, nullable=False),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    UniqueConstraint("name", name="price_plan_name_key"),
    Index("ix_price_plan_version", "version"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
)

price_plan_version = Table(
    "price_plan_version",
    metadata,
    Column("plan_id", UUID, ForeignKey("price_plan.id"), primary_key=True),
    Column("number", INTEGER, primary_key=True, autoincrement=False),
    Column("effective_at", _INSTANT, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("content_hash", BYTEA, nullable=False),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    Index("ix_price_plan_version_version", "version"),
    UniqueConstraint("plan_id", "effective_at", name="price_plan_version_plan_id_effective_at_key"),
    CheckConstraint("number > 0", name="number"),
    CheckConstraint("extract(epoch FROM effective_at)::bigint % 900 = 0", name="effective_at"),
)

subscription = Table(
    "subscription",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("plan_id", UUID, ForeignKey("price_plan.id"), nullable=False),
    Column("starts_at", _INSTANT, nullable=False),
    Column("ends_at", _INSTANT),
    Column("created_at", _INSTANT, nullable=False),
    Column("version", BIGINT, nullable=False, server_default=text("0")),
    Index("ix_subscription_version", "version"),
    CheckConstraint("extract(epoch FROM starts_at)::bigint % 900 = 0", name="starts_at"),
    CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name="ends_at"),
)
subscription.append_constraint(
    ExcludeConstraint(
        (subscription.c.tenant_id, "="),
        (func.tstzrange(subscription.c.starts_at, subscription.c.ends_at), "&&"),
        name="ex_subscription_overlap",
        using="gist",
    )
)
