"""Traces, verification, late usage and reconciliation through the admin API: what the command line says of the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.admin_kit import Api, admin_api
from tests.cli_kit import Terminal
from tests.invoice_kit import at, record, save, usage, usage_id

MONTH = "2025-11"
TRACED = usage_id("2025-11-02T10:00:00Z", 1)
PLAN = """plan: standard
currency: USD
label: Standard
versions:
  - effective: 2020-01-01T00:00:00Z
    per: 1000
    rates:
      - model: golden
        input: "0.50"
        cached_input: "0.05"
        output: "1.50"
"""


class Shop:
    """A tenant whose month is closed as ``number``, and where more usage of it may come from."""

    def __init__(self, api: Api, url: str, tenant_id: UUID, number: str) -> None:
        self.api = api
        self.url = url
        self.tenant_id = tenant_id
        self.number = number

    async def used(self, number: int) -> None:
        made = record(
            usage_id("2025-11-02T10:00:00Z", number), usage(1_013, 53, cached=1_008), tenant_id=self.tenant_id
        )
        await save(self.url, [made], at("2025-11-03T10:00:01Z"))


@pytest.fixture
async def shop(migrated_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with admin_api(migrated_url, tmp_path) as api:
        tenant = await api.made("/tenants", {"slug": "acme"})
        await api.ok("POST", "/plans", {"yaml": PLAN})
        await api.made(
            "/tenants/acme/subscriptions", {"plan": "standard", "starts_at": "2025-11-01T00:00:00Z"}
        )
        shop = Shop(api, migrated_url, UUID(tenant["id"]), "")
        await shop.used(1)
        closed = await api.ok("POST", "/invoices/close", {"period": MONTH, "tenant": "acme"})
        shop.number = closed["data"][0]["invoice"]["number"]
        yield shop


async def test_a_request_is_traced_from_its_key_to_its_cost(shop: Shop) -> None:
    found = await shop.api.ok("GET", f"/usage/records/{TRACED}/trace")
    assert (found["id"], found["tenant"], found["model"]) == (str(TRACED), "acme", "golden")
    assert found["counts"]["cached_input"] == {
        "value": 1_008,
        "unit": "tokens",
        "provenance": "reported",
        "method": "usage",
    }
    assert [(each["component"], each["quantity"], each["amount"]) for each in found["costs"]] == [
        ("uncached_input", 5, "0.0025"),
        ("cached_input", 1_008, "0.0504"),
        ("answer_output", 53, "0.0795"),
    ]
    assert (found["amount"], found["currency"], found["amount_is_estimate"]) == ("0.1324", "USD", True)


async def test_a_trace_of_what_is_no_request_is_refused(shop: Shop) -> None:
    absent = await shop.api.refused(404, "GET", f"/usage/records/{usage_id('2025-11-02T10:00:00Z', 9)}/trace")
    assert "no usage record" in absent["detail"]
    for text in ("x", "019ab3f4-8c00-4000-8000-000000000011", "%00", "x" * 9_000):
        refused = await shop.api.refused(400, "GET", f"/usage/records/{text}/trace")
        assert refused["detail"]


async def test_an_issued_invoice_is_verified(shop: Shop) -> None:
    found = await shop.api.ok("GET", f"/invoices/{shop.number}/verify")
    assert found == {"number": shop.number, "is_same": True, "differences": []}
    await shop.used(2)
    assert (await shop.api.ok("GET", f"/invoices/{shop.number}/verify"))["is_same"], (
        "late usage is none of it"
    )


async def test_late_usage_stands_beside_the_invoice(shop: Shop) -> None:
    path = f"/invoices/{shop.number}/late"
    nothing = {
        "requests": 0,
        "tokens": 0,
        "units": {},
        "requests_billed": 0,
        "currency": "USD",
        "amount": "0.00",
        "amount_minor": 0,
    }
    assert await shop.api.ok("GET", path) == {"number": shop.number, **nothing}
    await shop.used(2)
    found = await shop.api.ok("GET", path)
    # 2 × 0.1324 = 0.2648 is 0.26 rounded, of which 0.13 was billed.
    assert (found["requests"], found["tokens"], found["requests_billed"]) == (1, 1_066, 1)
    assert (found["amount"], found["amount_minor"]) == ("0.13", 13)


async def test_all_usage_of_the_month_stands_in_one_place(shop: Shop) -> None:
    await shop.used(2)
    found = await shop.api.ok("GET", f"/invoices/{shop.number}/reconciliation")
    assert found["is_equal"] is True
    assert found["tokens"] == {
        "name": "tokens", "unit": "tokens", "used": 2_132, "billed": 1_066, "waived": 0, "under_review": 0, "late": 1_066, "unrated": 0,
        "difference": 0,
    }  # fmt: skip
    assert (found["requests"]["billed"], found["requests"]["late"]) == (1, 1)
    assert [each["name"] for each in found["components"]] == [
        "uncached_input",
        "cached_input",
        "answer_output",
    ]


async def test_an_invoice_that_is_not_there_is_not_found(shop: Shop) -> None:
    for check in ("verify", "late", "reconciliation"):
        absent = await shop.api.refused(404, "GET", f"/invoices/INV-999999/{check}")
        assert (absent["param"], absent["detail"]) == ("number", "there is no invoice 'INV-999999'")
        await shop.api.refused(400, "GET", f"/invoices/%00/{check}")
        await shop.api.refused(401, "GET", f"/invoices/{shop.number}/{check}", headers={})


async def test_they_say_what_the_command_line_says(shop: Shop, tmp_path: Path) -> None:
    await shop.used(2)
    terminal = Terminal(shop.url, tmp_path)
    traced = await asyncio.to_thread(terminal.json, "trace", str(TRACED))
    found = await shop.api.ok("GET", f"/usage/records/{TRACED}/trace")
    # The command line writes every instant with its milliseconds.
    assert {name for name in traced if traced[name] != found[name]} <= {"arrived_at", "recorded_at"}
    assert traced.keys() == found.keys()
    (verified,) = await asyncio.to_thread(terminal.json, "invoices", "verify", shop.number)
    assert await shop.api.ok("GET", f"/invoices/{shop.number}/verify") == verified
