import hashlib
import json

from billing.exports.invoice_json import invoice_json
from tests.issue_kit import document


def test_the_content_stands_in_its_envelope_byte_for_byte() -> None:
    made = document()
    data = invoice_json(made)
    assert made.content_bytes in data
    envelope = json.loads(data)
    assert list(envelope) == ["content", "content_sha256", "id", "issued_at", "number"]
    assert envelope["content_sha256"] == hashlib.sha256(made.content_bytes).hexdigest()
    assert (envelope["number"], envelope["issued_at"]) == ("INV-000017", "2026-12-01T00:00:01Z")
    assert envelope["content"]["total"] == "25.00"
