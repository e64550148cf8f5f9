from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from billing.clock import MICROSECONDS_PER_SECOND
from billing.dashboard import view
from billing.invoicing.trace import Cost, Parties, Trace
from billing.metering.stored import StoredCount, StoredRecord
from billing.metering.totals.total import Pace, UsageTotal
from billing.pricing.billable import Disposition
from billing.pricing.term import Unpriced
from billing.tokens.components import Component, Components
from tests.dashboard_kit import stored_record
from tests.invoice_kit import at

NOW = at("2026-11-24T12:00:00Z")
PARTIES = Parties("acme", "Acme Ltd", None, "sk-1", "laptop", "gpu-1", "http://gpu-1")


def traced(amount: Decimal | None, record: StoredRecord | None = None, currency: str | None = "USD") -> Trace:
    found = record or stored_record(NOW - 5 * MICROSECONDS_PER_SECOND)
    return Trace(found, NOW - 5_000_000, PARTIES, (), (), Disposition.BILL, currency, amount)


def test_a_count_that_is_not_known_is_unknown_and_never_0() -> None:
    assert view.figure(StoredCount(None, None, None)).text == "unknown"
    assert view.figure(StoredCount(0, "reported", "usage")).text == "0"


@pytest.mark.parametrize(
    ("provenance", "mark"),
    [("reported", ""), ("running", "r"), ("counted", "c"), ("estimated", "e"), ("guessed", "?")],
)
def test_every_count_says_how_it_is_known(provenance: str, mark: str) -> None:
    found = view.figure(StoredCount(1_234, provenance, "how"))
    assert (found.text, found.mark, found.hint) == ("1,234", mark, f"{provenance} (how)")


def test_a_line_says_who_what_and_how_fast() -> None:
    (row,) = view.request_rows([traced(Decimal("0.1"))], NOW)
    assert (row.tenant, row.model, row.kind, row.ago) == ("acme", "golden", "chat, streamed", "5 s ago")
    assert (row.first_token, row.duration, row.pace) == ("12.3 ms", "230.4 ms", "238")
    assert (row.outcome.text, row.outcome.tone, row.outcome.hint) == ("complete", "good", "HTTP 200")


def test_a_line_says_what_was_used_beside_tokens() -> None:
    parts = {
        "second": StoredCount(12, "reported", "usage"),
        "training": StoredCount(500, "reported", "usage"),
    }
    record = msgspec.structs.replace(stored_record(NOW), operation="transcription", stream=False, parts=parts)
    (row,) = view.request_rows([traced(Decimal("0.1"), record)], NOW)
    assert row.kind == "transcription, 500 tokens trained on, 12 seconds"


def test_costs_of_one_currency_line_up() -> None:
    rows = view.request_rows(
        [traced(Decimal("0.1")), traced(Decimal("0.00005")), traced(Decimal(3), currency="JPY")], NOW
    )
    assert [(row.cost.text, row.cost.currency) for row in rows] == [
        ("0.10000", "USD"),
        ("0.00005", "USD"),
        ("3", "JPY"),
    ]


def test_a_cost_that_is_not_known_is_a_word() -> None:
    unpriced = Cost(Component.UNCACHED_INPUT, 5, unpriced=Unpriced.NO_PLAN)
    unrated = msgspec.structs.replace(traced(None, currency=None), costs=(unpriced,))
    rows = view.request_rows([traced(None), unrated], NOW)
    assert [(row.cost.text, row.cost.hint) for row in rows] == [
        ("unknown", "a count that it needs is unknown"),
        ("unrated", "not priced: no plan"),
    ]


@pytest.mark.parametrize(("found", "note"), [(Disposition.WAIVE, "waived"), (Disposition.REVIEW, "review")])
def test_what_is_not_billed_says_so(found: Disposition, note: str) -> None:
    (row,) = view.request_rows([msgspec.structs.replace(traced(Decimal(1)), disposition=found)], NOW)
    assert (row.cost.text, row.cost.note) == ("1.00", note)


def test_a_cost_that_is_priced_in_part_says_so() -> None:
    unpriced = Cost(Component.REASONING, 5, unpriced=Unpriced.NO_RATE)
    (row,) = view.request_rows([msgspec.structs.replace(traced(Decimal(1)), costs=(unpriced,))], NOW)
    assert (row.cost.text, row.cost.note) == ("1.00", "in part")


def test_totals_add_up_what_is_known_and_name_what_is_not() -> None:
    known = UsageTotal("complete", "reported", 3, Components(5, 1_000, 8, 30, 20))
    lacking = UsageTotal("interrupted", "none", 1, Components(0, 0, 0, 7, 0))
    row = view.totals_row("Today", NOW, [known, lacking])
    assert (row.requests, row.input, row.cached, row.output, row.reasoning) == (
        "4",
        "1,013",
        "1,000",
        "57",
        "20",
    )
    assert row.note == "1 request of Today lacks a count; what is not known is not in these sums."
    assert view.totals_row("Today", NOW, [known]).note == ""


def test_totals_hold_kinds_of_tokens_and_name_what_is_beside_them() -> None:
    used = UsageTotal(
        "complete", "reported", 1, Components(5, audio_input=7, image_output=2, second=12, search=1)
    )
    row = view.totals_row("Today", NOW, [used, used])
    assert (row.input, row.output, row.beside) == ("24", "4", "24 seconds, 2 searches")
    assert view.totals_row("Today", NOW, []).beside == ""


def test_outcomes_are_counted_in_their_order() -> None:
    totals = [
        UsageTotal(outcome, provenance, 2, Components())
        for outcome in ("interrupted", "complete")
        for provenance in ("reported", "none")
    ]
    assert [(each.tag.text, each.tag.tone, each.requests) for each in view.outcome_shares(totals)] == [
        ("complete", "good", "4"),
        ("interrupted", "bad", "4"),
    ]


def test_speed_is_of_the_last_minute_and_of_the_latest_streams() -> None:
    found = view.speed(
        Pace(12, 600, 1_284, tuple(range(1_000, 101_000, 1_000))), 60 * MICROSECONDS_PER_SECOND
    )
    assert (found.output, found.input, found.requests) == ("21.4", "10.0", "12 requests")
    assert (found.median, found.slowest) == ("50.0 ms", "95.0 ms")
    assert found.sample == "first tokens of the last 100 streams"
    assert view.speed(Pace(0, 0, 0, ()), 60_000_000).sample == "nothing streamed yet"


def test_pace_of_an_answer_that_did_not_stream_is_over_the_whole_request() -> None:
    record = msgspec.structs.replace(stored_record(NOW), itl_us=None, duration_us=2_000_000)
    (row,) = view.request_rows([traced(None, record)], NOW)
    assert row.pace == "26.5"
    nothing = msgspec.structs.replace(record, output=StoredCount(None, None, None))
    assert view.request_rows([traced(None, nothing)], NOW)[0].pace == "–"


def test_the_id_stands_whole_behind_its_short_form() -> None:
    record = msgspec.structs.replace(stored_record(NOW), id=UUID("01a20c96-63a8-7bba-b644-a70c1bc3cba7"))
    (row,) = view.request_rows([traced(None, record)], NOW)
    assert (row.short_id, row.id) == ("…1bc3cba7", "01a20c96-63a8-7bba-b644-a70c1bc3cba7")


def test_a_month_has_its_name() -> None:
    assert view.month_title(NOW) == "November 2026"
