from decimal import Decimal
from uuid import UUID

import msgspec

from billing.dashboard.invoice_view import invoice_page, issued_row, preview_row
from billing.invoicing.content import Apart, Content, Ending, Line, Unpriced
from billing.invoicing.draft import draft
from billing.invoicing.invoice import InvoiceDocument, InvoiceStatus, InvoiceSummary
from billing.invoicing.late import LateUsage
from billing.invoicing.period import parse_period
from billing.invoicing.service import Preview
from billing.tenants.tenant import Tenant
from billing.tokens.components import Component, Components
from tests.invoice_kit import TENANT, at, rollup_row

NOVEMBER = parse_period("2026-11")
NOTHING = Apart(
    requests=0, requests_unknown=0, tokens=0, tokens_unrated=0, worth=None, endings=(), unrated=()
)
NOT_LATE = LateUsage(0, 0, 0, "EUR", 0)
LATE = LateUsage(2, 1_066, 2, "EUR", 47)
SUMMARY = InvoiceSummary(
    UUID(int=5), "INV-000001", InvoiceStatus.ISSUED, "acme", "Acme Ltd", NOVEMBER, "UTC",
    is_early=True, currency="EUR", total_minor=123_586, issued_us=at("2026-11-24T12:00:00Z"),
)  # fmt: skip


def line(kind: str, amount: str, **parts: object) -> Line:
    made = Line(
        kind=kind, plan="demo", plan_version=2, amount_exact=amount, amount_minor=int(Decimal(amount) * 100), amount=amount
    )  # fmt: skip
    return msgspec.structs.replace(made, **parts)


def document(*lines: Line, **parts: object) -> InvoiceDocument:
    content = Content(
        format=1, issuer="default", tenant="acme", tenant_name="Acme Ltd", month="2026-11",
        start="2026-11-01T00:00:00Z", end="2026-11-24T12:15:00Z", time_zone="Asia/Kolkata", is_early=True,
        note="Closed early.", currency="EUR", rounding="half_even", label="Demo prices", lines=lines, requests=3,
        requests_unknown=0, tokens=1_066, tokens_unrated=0, unrated=(), waived=NOTHING, review=NOTHING,
        subtotal="1235.8568", total_minor=123_586, total="1235.86",
    )  # fmt: skip
    content = msgspec.structs.replace(content, **parts)
    return InvoiceDocument(
        "INV-000001", UUID(int=5), SUMMARY.issued_us or 0, b"\1" * 32, b"", content, SUMMARY
    )


def test_an_issued_invoice_is_listed_with_its_total_and_what_came_late() -> None:
    row = issued_row(SUMMARY, LATE)
    assert (row.number, row.tenant, row.month, row.is_early) == ("INV-000001", "acme", "2026-11", True)
    assert (row.total, row.currency) == ("1,235.86", "EUR")
    assert row.notes == ("Late usage: 2 requests, 1,066 tokens, 0.47 EUR",)
    assert issued_row(SUMMARY, NOT_LATE).notes == ()


def test_a_draft_has_no_number_and_no_total_yet() -> None:
    unfinished = msgspec.structs.replace(SUMMARY, number=None, status=InvoiceStatus.DRAFT, total_minor=None)
    row = issued_row(unfinished, None)
    assert (row.number, row.status, row.total) == ("", "draft", "unknown")


def test_a_preview_names_what_is_not_in_its_total() -> None:
    rows = [
        rollup_row("2026-11-24T10:00:00Z", Components(uncached_input=500)),
        rollup_row("2026-11-24T10:00:00Z", Components(answer_output=5), outcome="interrupted", requests=2),
        rollup_row("2026-11-24T10:00:00Z", Components(answer_output=5), provenance="estimated"),
    ]
    row = preview_row(Preview(Tenant(TENANT, "acme", "Acme Ltd", 0), draft(rows, [], NOVEMBER), 0))
    assert (row.number, row.status, row.total, row.currency) == ("", "so far", "no plan", "")
    assert row.notes == ("500 tokens unrated", "1 request under review", "2 requests waived")


def test_lines_say_what_is_included_which_tier_and_what_is_agreed() -> None:
    page = invoice_page(
        document(
            line(
                "included",
                "0.00",
                model="golden",
                component="uncached_input",
                quantity=5_000,
                price="0",
                per=1,
            ),
            line(
                "usage",
                "6.81",
                model="golden",
                component="total",
                tier=1,
                quantity=5_672,
                price="1.2",
                per=1_000,
            ),
            line("usage", "0.00", model="golden", component="reasoning", quantity=3, price="0", per=1_000),
            line("fee", "20.00", agreed="20"),
            line("minimum", "3.00", agreed="50"),
            line(
                "fee",
                "10.00",
                agreed="20",
                fraction="1440/2880",
                covered_start="2026-11-16T00:00:00Z",
                covered_end="2026-12-01T00:00:00Z",
            ),
        ),
        NOT_LATE,
    )
    assert [(each.what, each.quantity, each.price, each.amount) for each in page.lines] == [
        ("golden · uncached input, included", "5,000 tokens", "included", "0.00"),
        ("golden · total, tier 2", "5,672 tokens", "1.20 per 1,000", "6.81"),
        ("golden · reasoning", "3 tokens", "free", "0.00"),
        ("Fee for the period", "", "20.00 agreed", "20.00"),
        ("Up to the agreed minimum", "", "50.00 agreed", "3.00"),
        ("Fee for the period", "", "20.00 agreed × 1440/2880", "10.00"),
    ]


def test_the_head_says_whose_for_when_and_how_much() -> None:
    page = invoice_page(document(), LATE)
    assert (page.number, page.month, page.issued) == ("INV-000001", "November 2026", "2026-11-24 12:00 UTC")
    assert (page.subtotal, page.total, page.currency) == ("1,235.8568", "1,235.86", "EUR")
    assert page.facts == (
        ("Billed to", "Acme Ltd (acme)"),
        ("Period", "2026-11-01T00:00:00Z to 2026-11-24T12:15:00Z (months of Asia/Kolkata)"),
        ("Prices", "Demo prices"),
        ("Billed", "3 requests, 1,066 tokens"),
    )
    assert page.late.endswith("0.47 EUR. It is no part of this invoice; a later one bills it.")
    assert page.hash == "01" * 32
    assert invoice_page(document(), NOT_LATE).late == ""
    fees = LateUsage(0, 0, 0, "EUR", 9_600)
    assert invoice_page(document(), fees).late.startswith(
        "Fees and minimums since its close: 96.00 EUR. It is no"
    )


def test_what_is_not_billed_stands_apart_with_its_worth_as_far_as_it_is_known() -> None:
    waived = Ending(
        outcome="interrupted", provenance="running", requests=2, tokens=30, tokens_unrated=0, worth="0.045"
    )
    unknown = msgspec.structs.replace(waived, provenance="none", tokens=0, worth=None)
    unrated = Unpriced(
        model="embed", component="uncached_input", quantity=640, reason="no rate", at_risk=None
    )
    page = invoice_page(
        document(waived=msgspec.structs.replace(NOTHING, endings=(waived, unknown)), unrated=(unrated,)),
        NOT_LATE,
    )
    assert [(each.what, each.ending, each.requests, each.used, each.worth) for each in page.apart] == [
        ("waived", "interrupted, running", "2", "30 tokens", "0.045"),
        ("waived", "interrupted, unknown", "2", "unknown", "unknown"),
        ("unrated", "embed · uncached input, no rate", "", "640 tokens", "unknown"),
    ]


def test_what_is_no_tokens_says_what_it_is() -> None:
    used = line(
        "usage",
        "6.00",
        model="whisper",
        component="second",
        quantity=60_000,
        price="0.0001",
        per=1,
        unit="seconds",
    )
    unrated = Unpriced(
        model="whisper", component="search", quantity=1, reason="no rate", at_risk=None, unit="searches"
    )
    waived = Ending(
        outcome="interrupted", provenance="reported", requests=1, tokens=0, tokens_unrated=0, worth="0.4", units={"image": 2}
    )  # fmt: skip
    page = invoice_page(
        document(used, tokens=0, units={"second": 60_000}, unrated=(unrated,), waived=msgspec.structs.replace(NOTHING, endings=(waived,))),
        msgspec.structs.replace(LATE, units={Component.SECOND: 30}),
    )  # fmt: skip
    assert [(each.what, each.quantity, each.price) for each in page.lines] == [
        ("whisper · second", "60,000 seconds", "0.0001 per 1")
    ]
    assert dict(page.facts)["Billed"] == "3 requests, 60,000 seconds"
    assert [each.used for each in page.apart] == ["2 images", "1 search"]
    assert page.late.startswith("Late usage: 2 requests, 1,066 tokens, 30 seconds, 0.47 EUR.")


def test_a_preview_names_units_that_no_plan_prices() -> None:
    rows = [rollup_row("2026-11-24T10:00:00Z", Components(second=5))]
    row = preview_row(Preview(Tenant(TENANT, "acme", "Acme Ltd", 0), draft(rows, [], NOVEMBER), 0))
    assert row.notes == ("5 seconds unrated",)
