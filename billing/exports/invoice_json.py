"""An invoice as JSON: the stored content, byte for byte, in an envelope with what is no part of it."""

import msgspec

from billing.invoicing.invoice import InvoiceDocument
from billing.invoicing.period import instant


def invoice_json(document: InvoiceDocument) -> bytes:
    """One JSON object, keys sorted, without a line break; ``content_sha256`` is that of the bytes after ``"content":``."""
    envelope = {
        "content": msgspec.Raw(document.content_bytes),
        "content_sha256": document.content_hash.hex(),
        "id": str(document.id),
        "issued_at": instant(document.issued_us),
        "number": document.number,
    }
    return msgspec.json.encode(envelope, order="sorted")
