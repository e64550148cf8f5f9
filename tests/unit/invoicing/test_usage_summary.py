from billing.invoicing.usage_summary import OutcomeLine, UsageLine, summarise
from billing.tokens.components import Components
from tests.invoice_kit import rollup_row

ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(5, 1_008, 0, 33, 20)),
    rollup_row("2026-11-01T00:15:00Z", Components(10, 0, 1, 33, 20), requests=2),
    rollup_row("2026-11-01T00:15:00Z", Components(7), model="embed"),
    rollup_row(
        "2026-11-01T00:15:00Z", Components(100, 0, 0, 10), outcome="client_closed", provenance="running"
    ),
    rollup_row("2026-11-01T00:15:00Z", Components(), outcome="interrupted", provenance="none"),
    rollup_row("2026-11-01T00:15:00Z", Components(second=12, search=1), model="whisper"),
]


def test_usage_is_seen_by_model_and_provenance() -> None:
    summary = summarise(ROWS)
    assert summary.lines == (
        UsageLine("embed", "reported", 1, Components(7)),
        UsageLine("golden", "none", 1, Components()),
        UsageLine("golden", "reported", 3, Components(15, 1_008, 1, 66, 40)),
        UsageLine("golden", "running", 1, Components(100, 0, 0, 10)),
        UsageLine("whisper", "reported", 1, Components(second=12, search=1)),
    )
    assert summary.outcomes == (
        OutcomeLine("client_closed", 1),
        OutcomeLine("complete", 5),
        OutcomeLine("interrupted", 1),
    )
    assert (summary.requests, summary.tokens.total, summary.tokens.second) == (7, 1_247, 12)


def test_the_order_of_rows_does_not_matter() -> None:
    assert summarise(ROWS[::-1]) == summarise(ROWS)


def test_no_rows_are_no_usage() -> None:
    assert summarise([]).lines == ()
