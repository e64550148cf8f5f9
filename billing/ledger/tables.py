"""Tables of the ledger, as migration 0002 makes them. Rows are inserted and never updated."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, ForeignKeyConstraint, Index, Table
from sqlalchemy.dialects.postgresql import BIGINT, SMALLINT, TEXT, UUID

from billing.infra.postgres import metadata

ledger_transaction = Table(
    "ledger_transaction",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenant.id"), primary_key=True),
    Column("id", UUID, primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("invoice_id", UUID),
    Column("currency", TEXT, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["tenant_id", "invoice_id"], ["invoice.tenant_id", "invoice.id"]),
    CheckConstraint("kind IN ('invoice_issued')", name="kind"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    Index("ux_ledger_transaction_invoice", "tenant_id", "invoice_id", "kind", unique=True),
)

ledger_posting = Table(
    "ledger_posting",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("transaction_id", UUID, primary_key=True),
    Column("number", SMALLINT, primary_key=True, autoincrement=False),
    Column("account", TEXT, nullable=False),
    Column("amount_minor", BIGINT, nullable=False),
    ForeignKeyConstraint(
        ["tenant_id", "transaction_id"], ["ledger_transaction.tenant_id", "ledger_transaction.id"]
    ),
    CheckConstraint("number > 0", name="number"),
    CheckConstraint("account IN ('receivable', 'revenue')", name="account"),
    CheckConstraint("amount_minor <> 0", name="amount_minor"),
)
