"""Invoices as they are looked at: a row of a list, and the whole document around a content."""

from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from billing import money
from billing.invoicing.content import Content
from billing.invoicing.inputs import Inputs
from billing.invoicing.period import Period


class InvoiceStatus(StrEnum):
    """How far an invoice is."""

    DRAFT = "draft"
    """The cut is made and the number not yet taken: the next close of the period issues it."""
    ISSUED = "issued"
    """It never changes again (P8)."""


class Invoice(msgspec.Struct, frozen=True):
    """An invoice as it is stored. ``collection`` is the last whose usage it counts; what is None comes with the issue."""

    tenant_id: UUID
    id: UUID
    issuer_id: UUID
    status: InvoiceStatus
    collection: int
    currency: str
    inputs: Inputs
    created_us: int
    number: str | None = None
    content: bytes | None = None
    content_hash: bytes | None = None
    total_minor: int | None = None
    issued_us: int | None = None

    @property
    def summary(self) -> "InvoiceSummary":
        """The row of a list."""
        return InvoiceSummary(
            id=self.id,
            number=self.number,
            status=self.status,
            tenant=self.inputs.tenant,
            tenant_name=self.inputs.tenant_name,
            period=self.inputs.period,
            time_zone=self.inputs.time_zone,
            is_early=self.inputs.is_early,
            currency=self.currency,
            total_minor=self.total_minor,
            issued_us=self.issued_us,
        )


class InvoiceSummary(msgspec.Struct, frozen=True):
    """An invoice in a list; a draft has no number, no total and no time of issue yet. Names are those at the close."""

    id: UUID
    number: str | None
    status: InvoiceStatus
    tenant: str
    tenant_name: str
    period: Period
    time_zone: str
    is_early: bool
    currency: str
    total_minor: int | None
    issued_us: int | None

    @property
    def total(self) -> Decimal | None:
        """What is owed, with the currency's decimals."""
        return None if self.total_minor is None else money.from_minor(self.total_minor, self.currency)


class InvoiceDocument(msgspec.Struct, frozen=True):
    """An issued invoice, whole: what is said of it once, and its content as bytes and as they read."""

    number: str
    id: UUID
    issued_us: int
    content_hash: bytes
    content_bytes: bytes
    content: Content
    summary: InvoiceSummary


def document_of(invoice: Invoice, content: Content) -> InvoiceDocument:
    """The document of an issued invoice; raises ``ValueError`` on a draft."""
    if (
        invoice.number is None
        or invoice.content is None
        or invoice.content_hash is None
        or invoice.issued_us is None
    ):
        raise ValueError(f"the invoice of {invoice.inputs.tenant} for {invoice.inputs.month} is not issued")
    return InvoiceDocument(
        number=invoice.number,
        id=invoice.id,
        issued_us=invoice.issued_us,
        content_hash=invoice.content_hash,
        content_bytes=invoice.content,
        content=content,
        summary=invoice.summary,
    )
