"""A month as programs read it: unknown is null and never 0."""

from zoneinfo import ZoneInfo

from billing.invoicing.period import month_of
from billing.invoicing.usage_document import usage_document
from billing.invoicing.usage_summary import summarise
from billing.tokens.components import Components
from tests.invoice_kit import at, rollup_row


def test_unknown_counts_are_null_and_their_requests_are_said() -> None:
    rows = [
        rollup_row("2026-11-01T00:00:00Z", Components(5, 1_008, 0, 33, 20)),
        rollup_row("2026-11-01T00:15:00Z", Components(), outcome="interrupted", provenance="none"),
    ]
    period = month_of(at("2026-11-24T10:00:00Z"), ZoneInfo("Asia/Kolkata"))
    told = usage_document("acme", period, summarise(rows), at("2026-11-24T10:00:00Z"))
    assert (told.tenant, told.period, told.start) == ("acme", "2026-11", "2026-10-31T18:30:00Z")
    assert (told.requests, told.requests_unknown, told.tokens) == (2, 1, 1_066)
    assert told.outcomes == {"complete": 1, "interrupted": 1}
    unknown, known = told.lines
    assert (unknown.tokens, unknown.components["uncached_input"]) == (None, None)
    assert (known.tokens, known.components["reasoning"], known.components["training"]) == (1_066, 20, 0)
