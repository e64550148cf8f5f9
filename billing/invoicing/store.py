"""Every statement on issuers and invoices. A connection is inside a transaction that its caller began and will end."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Row, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.infra.postgres import Connection
from billing.invoicing.inputs import Inputs
from billing.invoicing.invoice import Invoice, InvoiceStatus
from billing.invoicing.number import invoice_number
from billing.invoicing.tables import invoice, issuer
from billing.metering.tables import usage_rollup
from billing.money import Rounding
from billing.tenants.tables import tenant

_QUANTITIES = [column for column in usage_rollup.c if isinstance(column.type, BigInteger)]
"""Whatever may have a price, so that what is counted later is among it."""

ROWS_MAX = 10_000
"""Most invoices that one look returns."""

_WITHOUT_CONTENT = [column for column in invoice.c if column.name not in {"content", "content_hash"}]


class Issuer(msgspec.Struct, frozen=True):
    """Who issues invoices, and how it rounds."""

    id: UUID
    name: str
    rounding: Rounding


class Taken(msgspec.Struct, frozen=True):
    """The time that a tenant's month is invoiced for: from where, and where the next month begins."""

    start_us: int
    month_end_us: int


async def first_issuer(connection: Connection) -> Issuer:
    """The issuer of all invoices; the migration makes it."""
    statement = select(issuer).order_by(issuer.c.created_at, issuer.c.id).limit(1)
    row = (await connection.execute(statement)).one()
    return Issuer(row.id, row.name, Rounding(row.rounding))


async def taken(
    connection: Connection, months: Iterable[str], tenant_id: UUID | None = None
) -> dict[tuple[UUID, str], Taken]:
    """What is invoiced of these months, drafts included, by tenant and month; of one tenant or of all."""
    month_end = invoice.c.inputs["month_end_us"].astext.cast(BigInteger)
    columns = (invoice.c.tenant_id, invoice.c.month, invoice.c.period_start, month_end.label("month_end_us"))
    statement = select(*columns).where(invoice.c.month.in_(list(months)))
    if tenant_id is not None:
        statement = statement.where(invoice.c.tenant_id == tenant_id)
    rows = await connection.execute(statement)
    return {
        (row.tenant_id, row.month): Taken(from_datetime(row.period_start), row.month_end_us) for row in rows
    }


async def insert_draft(connection: Connection, new: Invoice) -> bool:
    """Whether the draft was added; False when ``ux_invoice_month`` found the tenant's month invoiced already."""
    statement = insert(invoice).values(
        tenant_id=new.tenant_id,
        id=new.id,
        issuer_id=new.issuer_id,
        status=InvoiceStatus.DRAFT.value,
        month=new.inputs.month,
        period_start=to_datetime(new.inputs.start_us),
        period_end=to_datetime(new.inputs.end_us),
        is_early=new.inputs.is_early,
        collection=new.collection,
        currency=new.currency,
        inputs=msgspec.to_builtins(new.inputs),
        created_at=to_datetime(new.created_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def quantity_used(connection: Connection, tenant_id: UUID, start_us: int, end_us: int) -> int:
    """How much of everything that may have a price a tenant used in ``[start, end)``, requests and tokens in one sum."""
    bucket = usage_rollup.c.bucket
    of_period = (bucket >= to_datetime(start_us), bucket < to_datetime(end_us))
    sums = [func.coalesce(func.sum(column), 0) for column in _QUANTITIES]
    statement = select(*sums).where(usage_rollup.c.tenant_id == tenant_id, *of_period)
    return sum(map(int, (await connection.execute(statement)).one()))


async def invoice_locked(connection: Connection, tenant_id: UUID, month: str) -> Invoice | None:
    """A tenant's invoice of a month, locked until the transaction ends, so that one process issues it."""
    statement = select(invoice).where(invoice.c.tenant_id == tenant_id, invoice.c.month == month)
    return await _one(connection, statement.with_for_update())


async def invoice_of_month(connection: Connection, tenant_id: UUID, month: str) -> Invoice | None:
    """A tenant's invoice of a month, a draft among them."""
    return await _one(
        connection, select(invoice).where(invoice.c.tenant_id == tenant_id, invoice.c.month == month)
    )


async def take_number(connection: Connection, issuer_id: UUID) -> str:
    """The issuer's next number. Its row stays locked until the transaction ends: what is rolled back leaves no gap."""
    statement = update(issuer).where(issuer.c.id == issuer_id).values(next_number=issuer.c.next_number + 1)
    row = (await connection.execute(statement.returning(issuer.c.number_prefix, issuer.c.next_number))).one()
    return invoice_number(row.number_prefix, row.next_number - 1)


async def issue(connection: Connection, issued: Invoice) -> None:
    """Give a draft its number, content and total. From the commit on the row never changes."""
    of_id = (invoice.c.tenant_id == issued.tenant_id, invoice.c.id == issued.id)
    await connection.execute(
        update(invoice)
        .where(*of_id)
        .values(
            status=InvoiceStatus.ISSUED.value,
            number=issued.number,
            content=issued.content,
            content_hash=issued.content_hash,
            total_minor=issued.total_minor,
            issued_at=None if issued.issued_us is None else to_datetime(issued.issued_us),
        )
    )


async def invoice_by_number(connection: Connection, number: str) -> Invoice | None:
    """The invoice of a number; prefixes of issuers differ, so there is one at most."""
    return await _one(connection, select(invoice).where(invoice.c.number == number).limit(1))


async def invoices(
    connection: Connection, tenant_id: UUID | None, month: str | None, after: UUID | None, rows_max: int
) -> list[Invoice]:
    """Invoices without their contents, newest first, those made before ``after``; at most 10,000."""
    statement = select(*_WITHOUT_CONTENT).order_by(invoice.c.id.desc()).limit(min(rows_max, ROWS_MAX))
    if tenant_id is not None:
        statement = statement.where(invoice.c.tenant_id == tenant_id)
    if month is not None:
        statement = statement.where(invoice.c.month == month)
    if after is not None:
        statement = statement.where(invoice.c.id < after)
    return [_invoice_of(row) for row in await connection.execute(statement)]


async def tenants_not_invoiced(
    connection: Connection, start_us: int, end_us: int, at_us: int, rows_max: int
) -> list[str]:
    """Slugs of the tenants with usage in ``[start, end)`` and no invoice of the month that an instant falls into.

    Most requests first. Each invoice says itself from when to when its month is, whatever the tenant's time zone.
    """
    month_end = invoice.c.inputs["month_end_us"].astext.cast(BigInteger)
    of_instant = (invoice.c.period_start <= to_datetime(at_us), month_end > at_us)
    invoiced = select(invoice.c.id).where(invoice.c.tenant_id == tenant.c.id, *of_instant).exists()
    bucket = usage_rollup.c.bucket
    statement = (
        select(tenant.c.slug)
        .join(usage_rollup, usage_rollup.c.tenant_id == tenant.c.id)
        .where(bucket >= to_datetime(start_us), bucket < to_datetime(end_us), ~invoiced)
        .group_by(tenant.c.slug)
        .order_by(func.sum(usage_rollup.c.requests).desc(), tenant.c.slug)
        .limit(min(rows_max, ROWS_MAX))
    )
    return list((await connection.execute(statement)).scalars())


async def _one(connection: Connection, statement: Select[Any]) -> Invoice | None:
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _invoice_of(row)


def _invoice_of(row: Row[Any]) -> Invoice:
    values = row._mapping  # noqa: SLF001 - the public way to a row's columns by name
    return Invoice(
        tenant_id=row.tenant_id,
        id=row.id,
        issuer_id=row.issuer_id,
        status=InvoiceStatus(row.status),
        collection=row.collection,
        currency=row.currency,
        inputs=msgspec.convert(row.inputs, Inputs),
        created_us=from_datetime(row.created_at),
        number=row.number,
        content=values.get("content"),
        content_hash=values.get("content_hash"),
        total_minor=row.total_minor,
        issued_us=None if row.issued_at is None else from_datetime(row.issued_at),
    )
