from decimal import Decimal

import msgspec
import pytest

from billing.invoicing.content import encode
from billing.invoicing.invoice import Invoice, InvoiceStatus, document_of
from tests.invoice_kit import SPOOL, TENANT
from tests.issue_kit import content, document, inputs_of

DRAFT = Invoice(TENANT, SPOOL, TENANT, InvoiceStatus.DRAFT, 1, "USD", inputs_of(), 0)


def test_a_draft_has_no_number_no_total_and_no_document() -> None:
    summary = DRAFT.summary
    assert (summary.number, summary.total, summary.issued_us) == (None, None, None)
    assert (summary.tenant, str(summary.period), summary.is_early) == ("acme", "2026-11", False)
    with pytest.raises(ValueError, match="the invoice of acme for 2026-11 is not issued"):
        document_of(DRAFT, content())


def test_a_document_holds_the_stored_bytes_and_what_they_say() -> None:
    made = document()
    assert (made.number, made.content_bytes, made.content) == ("INV-000017", encode(content()), content())
    assert made.summary.total == Decimal("25.00")
    assert msgspec.json.decode(msgspec.json.encode(made.summary))["number"] == "INV-000017"
