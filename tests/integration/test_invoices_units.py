"""A month of more than text over ``examples/plans/multimodal.yaml``: the literals are calculated by hand beside each line."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.admin.preview import preview_document
from billing.admin.trace import trace_document
from billing.dashboard.invoice_view import invoice_page
from billing.dashboard.trace_view import trace_page
from billing.exports.invoice_csv import invoice_csv
from billing.exports.invoice_json import invoice_json
from billing.invoicing.invoice import InvoiceDocument
from billing.metering.event import UsageRecord
from billing.tokens.components import Component
from billing.tokens.usage import UNKNOWN, Outcome, Part, TokenUsage
from tests.cli_kit import Terminal, words
from tests.integration.close_kit import DECEMBER, Office
from tests.invoice_kit import record, save, usage_id
from tests.metering_kit import count

PLAN = (Path(__file__).parents[2] / "examples/plans/multimodal.yaml").read_text("utf-8")


def used(input_tokens: int | None = None, output_tokens: int | None = None, *, cached: int | None = None,
         reasoning: int | None = None, **parts: int) -> TokenUsage:  # fmt: skip
    """Counts that an engine reported, with parts by their words; None is not known."""
    return TokenUsage(
        count(input_tokens), count(cached), UNKNOWN, count(output_tokens), count(reasoning),
        {Part(word): count(quantity) for word, quantity in parts.items()},
    )  # fmt: skip


OMNI = used(
    10_000, 3_000, cached=2_000, reasoning=500, audio_input=3_000, image_input=1_500, video_input=500, audio_output=1_200, search=3
)  # fmt: skip
USAGE = [
    # 3,000 plain, 2,000 cached, 3,000 audio, 1,500 images, 500 video; 1,300 answer, 500 reasoning, 1,200 audio; 3 searches.
    ("omni-1", "2026-11-02T10:00:00Z", OMNI),
    ("omni-1", "2026-11-03T10:00:00Z", used(1_000, 100)),
    ("whisper-3", "2026-11-03T11:00:00Z", used(second=30_000)),
    ("whisper-3", "2026-11-20T11:00:00Z", used(second=10_000)),
    ("picture-xl", "2026-11-04T10:00:00Z", used(image=4)),
    ("speech-1", "2026-11-05T10:00:00Z", used(character=12_345)),
    ("rerank-2", "2026-11-06T10:00:00Z", used(2_000, 0)),
    ("rerank-2", "2026-11-06T10:05:00Z", used(3_000, 0)),
    ("tune-8b", "2026-11-07T10:00:00Z", used(training=1_234_567, gpu_second=360)),
    # What no rate prices: a unit that other models have a price of, and one that none has.
    ("picture-xl", "2026-11-08T10:00:00Z", used(image=1, second=7)),
    ("tune-8b", "2026-11-08T10:00:00Z", used(training=33, character=1)),
]
FAILED = ("whisper-3", "2026-11-09T10:00:00Z", used(second=90))
LINES = [
    # model, component, tier, quantity, unit, price, per, exact amount, printed amount
    ("omni-1", "uncached_input", None, 4_000, "tokens", "0.6", 1_000_000, "0.0024", "0.00"),
    ("omni-1", "cached_input", None, 2_000, "tokens", "0.15", 1_000_000, "0.0003", "0.00"),
    ("omni-1", "answer_output", None, 1_400, "tokens", "2.4", 1_000_000, "0.00336", "0.00"),
    ("omni-1", "reasoning", None, 500, "tokens", "2", 1_000_000, "0.001", "0.00"),
    ("omni-1", "audio_input", None, 3_000, "tokens", "10", 1_000_000, "0.03", "0.03"),
    ("omni-1", "image_input", None, 1_500, "tokens", "1.2", 1_000_000, "0.0018", "0.00"),
    # Video has no price of its own: it is input.
    ("omni-1", "video_input", None, 500, "tokens", "0.6", 1_000_000, "0.0003", "0.00"),
    ("omni-1", "audio_output", None, 1_200, "tokens", "20", 1_000_000, "0.024", "0.03"),
    ("omni-1", "search", None, 3, "searches", "0.01", 1, "0.03", "0.03"),
    ("picture-xl", "image", None, 5, "images", "0.04", 1, "0.2", "0.20"),
    ("rerank-2", "total", None, 5_000, "tokens", "0.05", 1_000_000, "0.00025", "0.00"),
    ("rerank-2", "request", None, 2, "requests", "0.002", 1, "0.004", "0.01"),
    ("speech-1", "character", None, 12_345, "characters", "15", 1_000_000, "0.185175", "0.19"),
    ("tune-8b", "training", None, 1_234_600, "tokens", "3", 1_000_000, "3.7038", "3.70"),
    ("tune-8b", "gpu_second", None, 360, "GPU seconds", "0.0007", 1, "0.252", "0.25"),
    # 40,000 seconds: 600 included, 36,000 in the first tier, the other 3,400 in the second.
    ("whisper-3", "second", None, 600, "seconds", "0", 1, "0", "0.00"),
    ("whisper-3", "second", 0, 36_000, "seconds", "0.0001", 1, "3.6", "3.60"),
    ("whisper-3", "second", 1, 3_400, "seconds", "0.00008", 1, "0.272", "0.27"),
]
"""Exact they are 8.310385, and 8.31 in all. Cut to cents they are 8.28 (3 + 2 + 3 + 20 + 18 + 370 + 25 + 360 + 27): the
three cents that lack go to the largest remainders."""
EXACT, TOTAL = "8.310385", "8.31"


def records(tenant_id: UUID, **of: UUID) -> list[UsageRecord]:
    """The usage of the month, each request with an id of its own."""
    failed = [(*FAILED, Outcome.UPSTREAM_ERROR)]
    every = [*((*each, Outcome.COMPLETE) for each in USAGE), *failed]
    return [
        record(usage_id(instant, number), quantities, tenant_id=tenant_id, model=model, outcome=outcome, **of)
        for number, (model, instant, quantities, outcome) in enumerate(every)
    ]


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.pricing.apply(PLAN)
    yield made
    await made.close_pools()


@pytest.fixture
async def issued(office: Office) -> InvoiceDocument:
    """November of a tenant who used everything, as it was issued."""
    acme = await office.tenant("acme", "multimodal")
    await office.save(records(acme.id))
    return await office.invoicing.invoice(await office.issue("acme"))


async def test_the_invoice_equals_what_was_calculated_by_hand(issued: InvoiceDocument) -> None:
    made = issued.content
    assert [
        (each.model, each.component, each.tier, each.quantity, each.counted_in, each.price, each.per, each.amount_exact)
        for each in made.lines
    ] == [line[:-1] for line in LINES]  # fmt: skip
    assert [each.amount for each in made.lines] == [line[-1] for line in LINES]
    assert (made.subtotal, made.total) == (EXACT, TOTAL)
    assert [each.kind for each in made.lines if each.kind != "usage"] == ["included"]
    # 10,000 + 3,000 + 1,000 + 100 of omni, 5,000 of rerank, 1,234,600 trained on.
    assert (made.requests, made.tokens, made.tokens_unrated) == (11, 1_253_700, 0)
    assert made.units == {
        "image": 5, "second": 40_007, "gpu_second": 360, "character": 12_346, "search": 3,
    }  # fmt: skip
    assert made.units_unrated == {"second": 7, "character": 1}
    assert [
        (each.model, each.component, each.quantity, each.unit, each.at_risk) for each in made.unrated
    ] == [
        # At the dearest that the plan has for it: 7 × 0.0001, and 1 × 15 / 1,000,000.
        ("picture-xl", "second", 7, "seconds", "0.0007"),
        ("tune-8b", "character", 1, "characters", "0.000015"),
    ]
    # The tiers go on from where the billed usage ended: 90 × 0.00008.
    assert (made.waived.requests, made.waived.units, made.waived.worth) == (1, {"second": 90}, "0.0072")


async def test_json_and_csv_add_up_to_the_total_and_name_the_unit_of_every_quantity(
    issued: InvoiceDocument,
) -> None:
    envelope = msgspec.json.decode(invoice_json(issued))
    rows = list(csv.DictReader(io.StringIO(invoice_csv(issued), newline="")))
    assert (
        sum(Decimal(row["amount"]) for row in rows) == Decimal(envelope["content"]["total"]) == Decimal(TOTAL)
    )
    assert sum(Decimal(row["amount_exact"]) for row in rows) == Decimal(EXACT)
    assert [(row["component"], row["quantity"], row["unit"]) for row in rows] == [
        (component, str(quantity), unit) for _, component, _, quantity, unit, *_ in LINES
    ]
    # Lines of tokens are the bytes that they always were.
    said = [line.get("unit", "tokens") for line in envelope["content"]["lines"]]
    assert said == [line[4] for line in LINES]
    assert b'"unit":"tokens"' not in issued.content_bytes


async def test_it_is_computed_again_reconciled_and_posted_to_the_cent(
    office: Office, issued: InvoiceDocument
) -> None:
    assert (await office.invoicing.verify(issued.number)).differences == ()
    found = await office.invoicing.reconciliation(issued.number)
    assert found.is_equal
    assert {
        each.name: (each.used, each.waived, each.unrated)
        for each in found.components
        if each.unit != "tokens"
    } == {
        "image": (5, 0, 0),
        "second": (40_097, 90, 7),
        "gpu_second": (360, 0, 0),
        "character": (12_346, 0, 1),
        "search": (3, 0, 0),
    }
    assert (found.tokens.used, found.tokens.billed, found.requests.used) == (1_253_700, 1_253_700, 12)
    assert (await office.invoicing.late(issued.number)).units == {}
    owner = await office.tenants.tenant("acme")
    balances = {each.account: each.amount for each in await office.ledger.balances(owner.id)}
    assert balances == {"receivable": Decimal(TOTAL), "revenue": -Decimal(TOTAL)}


async def test_late_units_are_shown_beside_the_invoice_with_what_they_cost(
    office: Office, issued: InvoiceDocument
) -> None:
    owner = await office.tenants.tenant("acme")
    more = used(second=1_000)
    await office.save(
        [record(usage_id("2026-11-25T10:00:00Z", 99), more, tenant_id=owner.id, model="whisper-3")]
    )
    late = await office.invoicing.late(issued.number)
    # 1,000 × 0.00008.
    assert (late.requests, late.tokens, late.units, late.amount) == (
        1,
        0,
        {Component.SECOND: 1_000},
        Decimal("0.08"),
    )
    assert (await office.invoicing.reconciliation(issued.number)).is_equal


async def test_the_api_and_the_pages_name_the_same_units(office: Office, issued: InvoiceDocument) -> None:
    preview = preview_document(await office.invoicing.preview("acme", "2026-11"))
    assert [(each.component, each.quantity, each.unit) for each in preview.lines] == [
        (component, quantity, unit) for _, component, _, quantity, unit, *_ in LINES
    ]
    assert (preview.total, preview.units_unrated) == (TOTAL, {"second": 7, "character": 1})
    page = invoice_page(issued, await office.invoicing.late(issued.number))
    assert [each.quantity for each in page.lines if "second" in each.what] == [
        "360 GPU seconds",
        "600 seconds",
        "36,000 seconds",
        "3,400 seconds",
    ]
    found = await office.invoicing.trace(str(usage_id("2026-11-02T10:00:00Z", 0)))
    api, shown = trace_document(found), trace_page(found)
    assert {name: (count.value, count.unit) for name, count in api.counts.items()}["search"] == (
        3,
        "searches",
    )
    assert [(cost.component, cost.quantity, cost.unit) for cost in api.costs] == [
        (cost.what.replace(" ", "_"), int(cost.quantity.replace(",", "")), cost.unit) for cost in shown.costs
    ]
    assert (
        sum(Decimal(cost.amount or 0) for cost in api.costs) == Decimal(api.amount or 0) == Decimal("0.09232")
    )


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    """The same month, as an operator sees it who types commands."""
    made = Terminal(migrated_url, tmp_path)
    tenant = made.json("tenants", "create", "acme")
    key = made.json("keys", "create", "--tenant", "acme")
    backend = made.json("backends", "add", "a", "--url", "http://127.0.0.1:8080", "--engine", "vllm")
    made.ok("plans", "apply", "-", text=PLAN)
    made.ok(
        "subscriptions", "create", "--tenant", "acme", "--plan", "multimodal", "--starts-at", "2026-11-01"
    )
    of = {"key_id": UUID(key["id"]), "backend_id": UUID(backend["id"])}
    asyncio.run(save(made.url, records(UUID(tenant["id"]), **of), DECEMBER))
    return made


def lines_of(text: str) -> list[str]:
    return [" ".join(line) for line in words(text)]


def test_the_plan_is_shown_with_kinds_and_units_in_a_table_of_their_own(terminal: Terminal) -> None:
    shown = lines_of(terminal.ok("plans", "show", "multimodal"))
    assert "omni-* 1,000,000 0.60 0.15 0.60 2.40 2.00 –" in shown
    assert "omni-* audio input 1,000,000 tokens 10.0000" in shown
    assert "picture-* image 1 image 0.0400" in shown
    assert "rerank-* request 1 request 0.0020" in shown
    assert "speech-* character 1,000,000 characters 15.0000" in shown
    assert "whisper-* second first 600 seconds – included" in shown
    assert "next 36,000 seconds 1 0.00010" in shown
    prices = {
        each["model"]: each["prices"]
        for each in terminal.json("plans", "show", "multimodal")["versions"][0]["rates"]
    }
    assert prices["speech-*"]["character"]["unit"] == "characters"
    assert (prices["rerank-*"]["request"]["unit"], prices["rerank-*"]["total"]["unit"]) == (
        "requests",
        "tokens",
    )


def test_usage_and_preview_name_the_unit_of_every_quantity(terminal: Terminal) -> None:
    month = ("--tenant", "acme", "--period", "2026-11")
    usage = lines_of(terminal.ok("usage", *month))
    assert "picture-xl reported image 2 5 images" in usage
    assert [line for line in usage if line.startswith("All")] == ["All 12 1,253,700 tokens"]
    assert "gpu second 360 GPU seconds" in usage
    document = terminal.json("usage", *month)
    assert (document["tokens"], document["components"]["second"]) == (1_253_700, 40_097)
    preview = lines_of(terminal.ok("invoices", "preview", *month))
    assert "tier 1 36,000 seconds 0.00010 per 1 3.600000" in preview
    assert "Subtotal exact 1,253,700 tokens 8.310385" in preview
    assert "waived upstream error reported 1 0 90 seconds 0.0072" in preview
    assert "picture-xl second 7 seconds 0.000700 no rate" in preview
    found = terminal.json("invoices", "preview", *month)
    assert [(each["component"], each["unit"]) for each in found["lines"]] == [
        (line[1], line[4]) for line in LINES
    ]
    assert (found["total"], found["units"]["second"], found["units_unrated"]) == (
        TOTAL,
        40_000,
        {"second": 7, "character": 1},
    )


async def test_an_issued_invoice_is_shown_with_units(
    issued: InvoiceDocument, migrated_url: str, tmp_path: Path
) -> None:
    typed = Terminal(migrated_url, tmp_path)
    shown = lines_of(await asyncio.to_thread(typed.ok, "invoices", "show", issued.number))
    assert "omni-1 search 3 searches 0.01 per 1 0.030000 0.03" in shown
    assert "Total USD 8.310385 8.31" in shown
    assert "waived upstream error reported 1 0 90 seconds 0.0072" in shown
    assert "tune-8b character 1 characters no rate" in shown
    verified = await asyncio.to_thread(typed.ok, "invoices", "verify", "--all")
    assert "1 of 1 invoices are what they were." in verified


def test_requests_and_the_trace_of_one_show_parts_with_provenance_and_cost(terminal: Terminal) -> None:
    first = usage_id("2026-11-02T10:00:00Z", 0)
    listed = lines_of(terminal.ok("requests"))
    assert any(line.endswith(f"3 searches {first}") for line in listed)
    found = {each["id"]: each for each in terminal.json("requests")}
    terminal.environment["COLUMNS"] = "160"
    assert found[str(first)]["parts"]["audio_input"] == {"value": 3_000, "provenance": "reported"}
    shown = lines_of(terminal.ok("trace", str(first)))
    assert "audio input 3,000 tokens reported usage" in shown
    assert "search 3 searches reported usage" in shown
    assert "video input 500 tokens 0.60 1,000,000 0.00030 multimodal v1, omni-*, as uncached input" in shown
    assert "search 3 searches 0.01 1 0.03000 multimodal v1, omni-*" in shown
    costs = {each["component"]: each for each in terminal.json("trace", str(first))["costs"]}
    assert (costs["search"]["unit"], costs["audio_output"]["unit"]) == ("searches", "tokens")
    # 0.0018 + 0.0003 + 0.03 + 0.0018 + 0.0003 + 0.00312 + 0.001 + 0.024 + 0.03.
    assert terminal.json("trace", str(first))["amount"] == "0.09232"


def test_units_fit_eighty_columns(terminal: Terminal) -> None:
    terminal.environment["COLUMNS"] = "80"
    for command in (
        ("plans", "show", "multimodal"),
        ("usage", "--tenant", "acme", "--period", "2026-11"),
        ("trace", str(usage_id("2026-11-02T10:00:00Z", 0))),
    ):
        table = [line for line in terminal.ok(*command).splitlines() if set(line.strip()) == {"─"}]
        assert max(map(len, table)) <= 80
