"""Usage, preview, close and invoices through the admin API: the same numbers as everywhere else."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.admin_kit import Api, admin_api
from tests.invoice_kit import at, record, save, usage, usage_id

PLAN = """plan: standard
currency: USD
label: Standard
versions:
  - effective: 2020-01-01T00:00:00Z
    per: 1000
    monthly_fee: "20"
    rates:
      - model: golden
        input: "0.50"
        cached_input: "0.05"
        output: "1.50"
"""
MONTH = "2025-11"


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        tenant = await made.made("/tenants", {"slug": "acme", "name": "Acme Inc."})
        await made.ok("POST", "/plans", {"yaml": PLAN})
        await made.made(
            "/tenants/acme/subscriptions", {"plan": "standard", "starts_at": "2025-11-01T00:00:00Z"}
        )
        records = [
            record(
                usage_id("2025-11-02T10:00:00Z", 1),
                usage(1_013, 53, cached=1_008),
                tenant_id=UUID(tenant["id"]),
            ),
            record(
                usage_id("2025-11-03T10:00:00Z", 2),
                usage(100, 7),
                tenant_id=UUID(tenant["id"]),
                model="free-of-price",
            ),
        ]
        await save(migrated_url, records, at("2025-11-03T10:00:01Z"))
        yield made


async def test_usage_is_summed_up_by_model_and_component(api: Api) -> None:
    found = await api.ok("GET", f"/tenants/acme/usage?period={MONTH}")
    assert (found["requests"], found["tokens"], found["requests_unknown"]) == (2, 1_173, 0)
    assert found["components"]["cached_input"] == 1_008
    assert [(line["model"], line["tokens"]) for line in found["lines"]] == [
        ("free-of-price", 107),
        ("golden", 1_066),
    ]
    assert (found["start"], found["end"]) == ("2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z")
    assert (await api.refused(400, "GET", "/tenants/acme/usage?period=2025-13"))["param"] == "period"


async def test_a_preview_shows_every_amount_as_text(api: Api) -> None:
    found = await api.ok("GET", f"/tenants/acme/invoice-preview?period={MONTH}")
    # 5 × 0.50/1000 + 1008 × 0.05/1000 + 53 × 1.50/1000 = 0.0025 + 0.0504 + 0.0795
    assert (found["usage_amount"], found["subtotal"], found["total"]) == ("0.1324", "20.1324", "20.13")
    assert [line["amount"] for line in found["lines"]] == ["0.0025", "0.0504", "0.0795"]
    assert [charge["kind"] for charge in found["charges"]] == ["fee"]
    assert [(each["component"], each["quantity"]) for each in found["unrated"]] == [
        ("uncached_input", 100),
        ("answer_output", 7),
    ]
    assert found["waived"]["requests"] == 0
    assert (found["status"], found["number"]) == ("preview", None)
    assert float not in {type(value) for value in found.values()}


async def test_a_fee_of_a_part_of_a_month_says_which_part(api: Api) -> None:
    await api.made("/tenants", {"slug": "globex"})
    await api.made("/tenants/globex/subscriptions", {"plan": "standard", "starts_at": "2025-11-16T00:00:00Z"})
    (fee,) = (await api.ok("GET", f"/tenants/globex/invoice-preview?period={MONTH}"))["charges"]
    assert (fee["agreed"], fee["amount"], fee["fraction"]) == ("20", "10", "1440/2880")
    assert (fee["covered_start"], fee["covered_end"]) == ("2025-11-16T00:00:00Z", "2025-12-01T00:00:00Z")


async def test_a_month_is_closed_into_an_invoice_that_is_shown_listed_and_exported(api: Api) -> None:
    closed = await api.ok("POST", "/invoices/close", {"period": MONTH, "tenant": "acme"})
    (result,) = closed["data"]
    assert (result["state"], result["reason"], result["invoice"]["total"]) == ("issued", None, "20.13")
    number = result["invoice"]["number"]
    again = await api.ok("POST", "/invoices/close", {"period": MONTH})
    assert [each["state"] for each in again["data"]] == ["already_issued"]

    preview = await api.ok("GET", f"/tenants/acme/invoice-preview?period={MONTH}")
    assert (preview["status"], preview["number"], preview["total"]) == ("issued", number, "20.13")

    answer = await api.send("GET", f"/api/v1/invoices/{number}")
    shown: dict[str, Any] = answer.json()
    assert (shown["number"], shown["content"]["total"], shown["content"]["subtotal"]) == (
        number,
        "20.13",
        "20.1324",
    )
    content = answer.content.split(b'"content":', 1)[1].split(b',"content_sha256"', 1)[0]
    assert hashlib.sha256(content).hexdigest() == shown["content_sha256"]

    table = await api.send("GET", f"/api/v1/invoices/{number}/csv")
    assert table.headers["content-type"].startswith("text/csv")
    header, *rows = table.text.splitlines()
    place = header.split(",").index("amount_minor")
    assert sum(int(row.split(",")[place]) for row in rows) == 2_013

    assert await api.pages(f"/invoices?tenant=acme&period={MONTH}", 1) == [result["invoice"]]
    assert await api.pages("/invoices?period=2025-10", 10) == []
    audit = await api.pages("/audit?subject=invoice", 10)
    assert {each["actor"] for each in audit} == {"admin"}


async def test_what_cannot_be_closed_is_refused_with_the_reason(api: Api) -> None:
    early = await api.refused(409, "POST", "/invoices/close", {"period": "2099-01", "tenant": "acme"})
    assert "has not begun" in early["detail"]
    of_all = await api.ok("POST", "/invoices/close", {"period": "2099-01", "wait_s": None})
    assert [(each["state"], each["reason"]) for each in of_all["data"]] == [("no_invoice", "not_ended")]
    assert (await api.refused(400, "POST", "/invoices/close", {"period": "now"}))["param"] == "period"
    assert (await api.refused(400, "POST", "/invoices/close", {"period": MONTH, "wait_s": 61}))[
        "param"
    ] == "wait_s"
    await api.refused(404, "POST", "/invoices/close", {"period": MONTH, "tenant": "nobody"})
    await api.refused(404, "GET", "/invoices/INV-999")
    await api.refused(404, "GET", "/invoices/INV-999/csv")
