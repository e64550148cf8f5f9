"""Every statement on the ledger. Nothing here updates or deletes: that is what makes it one."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.infra.postgres import Connection
from billing.ledger.balance import Balance, Entry
from billing.ledger.posting import Transaction
from billing.ledger.tables import ledger_posting, ledger_transaction

ROWS_MAX = 10_000
"""Most balances or entries that one look returns."""

# Invoices are of a noun above this one; their numbers are asked for here because a statement without them says little.
_ENTRIES = text("""
SELECT t.id, t.kind, t.invoice_id, i.number AS invoice_number, t.created_at, p.number, p.account, t.currency, p.amount_minor
FROM ledger_posting p JOIN ledger_transaction t ON t.tenant_id = p.tenant_id AND t.id = p.transaction_id
LEFT JOIN invoice i ON i.tenant_id = t.tenant_id AND i.id = t.invoice_id
WHERE t.tenant_id = :tenant_id ORDER BY t.created_at DESC, t.id DESC, p.number LIMIT :rows_max
""")
_BALANCES = text("""
SELECT t.tenant_id, tenant.slug, p.account, t.currency, sum(p.amount_minor)::bigint AS amount_minor
FROM ledger_posting p JOIN ledger_transaction t ON t.tenant_id = p.tenant_id AND t.id = p.transaction_id
JOIN tenant ON tenant.id = t.tenant_id
WHERE cast(:tenant_id AS uuid) IS NULL OR t.tenant_id = :tenant_id
GROUP BY 1, 2, 3, 4 ORDER BY 2, 4, 3 LIMIT :rows_max
""")
_OF_INVOICE = text("""
SELECT p.account, sum(p.amount_minor)::bigint AS amount_minor
FROM ledger_posting p JOIN ledger_transaction t ON t.tenant_id = p.tenant_id AND t.id = p.transaction_id
WHERE t.tenant_id = :tenant_id AND t.invoice_id = :invoice_id GROUP BY 1
""")


async def insert_transaction(connection: Connection, new: Transaction) -> None:
    """Add a transaction with its postings; the database checks at the commit that they balance.

    An invoice that is posted twice for one reason violates ``ux_ledger_transaction_invoice`` and is raised as it comes:
    whoever issues holds the invoice's lock.
    """
    await connection.execute(
        insert(ledger_transaction).values(
            tenant_id=new.tenant_id,
            id=new.id,
            kind=new.kind.value,
            invoice_id=new.invoice_id,
            currency=new.currency,
            created_at=to_datetime(new.created_us),
        )
    )
    rows = [
        {
            "tenant_id": new.tenant_id,
            "transaction_id": new.id,
            "number": number,
            "account": posting.account.value,
            "amount_minor": posting.amount_minor,
        }
        for number, posting in enumerate(new.postings, 1)
    ]
    await connection.execute(insert(ledger_posting).values(rows))


async def balances(connection: Connection, tenant_id: UUID | None, rows_max: int) -> list[Balance]:
    """The sums by tenant, currency and account, of one tenant or of all by slug."""
    values = {"tenant_id": tenant_id, "rows_max": min(rows_max, ROWS_MAX)}
    return [_balance(row) for row in await connection.execute(_BALANCES, values)]


async def entries(connection: Connection, tenant_id: UUID, rows_max: int) -> list[Entry]:
    """A tenant's postings, the latest transaction first."""
    values = {"tenant_id": tenant_id, "rows_max": min(rows_max, ROWS_MAX)}
    return [_entry(row) for row in await connection.execute(_ENTRIES, values)]


async def of_invoice(connection: Connection, tenant_id: UUID, invoice_id: UUID) -> dict[str, int]:
    """What stands on each account for an invoice, in minor units; empty when nothing was posted."""
    values = {"tenant_id": tenant_id, "invoice_id": invoice_id}
    return {row.account: row.amount_minor for row in await connection.execute(_OF_INVOICE, values)}


def _balance(row: Row[Any]) -> Balance:
    return Balance(row.tenant_id, row.slug, row.account, row.currency, row.amount_minor)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        transaction_id=row.id,
        kind=row.kind,
        invoice_id=row.invoice_id,
        invoice_number=row.invoice_number,
        created_us=from_datetime(row.created_at),
        number=row.number,
        account=row.account,
        currency=row.currency,
        amount_minor=row.amount_minor,
    )
