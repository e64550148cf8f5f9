"""Subscriptions as operators make, end and take them back: what they are told when a month is covered in part."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from billing.admin.plans import YAML
from billing.admin.tenants import TENANT
from tests.admin_kit import admin_api
from tests.cli_kit import Terminal, words
from tests.integration.close_kit import Office
from tests.invoice_kit import at
from tests.metering_kit import sql

PLAN = """\
plan: supported
currency: USD
label: A fee
versions:
  - effective: 2025-01-01T00:00:00Z
    per: 1000
    monthly_fee: "288.00"
    rates: [{model: "*", input: {price: "0.40", allowance: 100}, output: free}]
"""
REWRITTEN = """\
plan: supported
currency: USD
label: A fee
versions:
  - effective: 2026-11-15T00:00:00Z
    per: 1000
    rates: [{model: "llama*", input: {price: "0.40", allowance: 100}, output: free}]
"""
CREATE = ("subscriptions", "create", "--tenant", "acme", "--plan", "supported", "--starts-at")
END = ("subscriptions", "end", "--tenant", "acme", "--at")


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    made = Terminal(migrated_url, tmp_path)
    made.ok("tenants", "create", "acme", "--timezone", "Asia/Kolkata")
    made.ok("plans", "apply", "-", text=PLAN)
    return made


def test_a_part_of_a_month_is_warned_of_and_made(terminal: Terminal) -> None:
    made = terminal.run(*CREATE, "2026-11-01T00:00:00Z")
    assert made.exit_code == 0
    assert "warning: starts_at 2026-11-01T00:00:00Z lies within November 2026, which goes from" in made.stderr
    assert "prorated" in made.stderr
    ended = terminal.json(*END, "2026-12-01T00:00:00Z")
    assert [text[:40] for text in ended["warnings"]] == [
        "starts_at 2026-11-01T00:00:00Z lies with",
        "ends_at 2026-12-01T00:00:00Z lies within",
    ]


def test_a_whole_month_is_not_warned_of(terminal: Terminal) -> None:
    made = terminal.run(*CREATE, "2026-11-01T00:00:00+05:30", "--ends-at", "2026-12-01T00:00:00+05:30")
    assert "warning" not in made.stderr


def test_a_subscription_is_taken_back_by_ending_it_where_it_starts(terminal: Terminal) -> None:
    terminal.ok(*CREATE, "2026-11-01T00:00:00+05:30")
    said = terminal.ok(*END, "2026-11-01T00:00:00+05:30")
    assert said == "Tenant acme is not priced by supported from 2026-10-31 18:30 UTC: taken back.\n"
    terminal.ok(*CREATE, "2026-11-01T00:00:00+05:30")
    listed = terminal.ok("subscriptions", "list", "--tenant", "acme")
    assert sorted(line[-2:] for line in words(listed)[1:]) == [["18:30", "open"], ["never", "applied"]]


def test_a_version_that_rewrites_a_pattern_is_warned_of_when_it_is_applied(terminal: Terminal) -> None:
    applied = terminal.run("plans", "apply", "-", text=REWRITTEN)
    assert applied.exit_code == 0
    assert (
        "warning: from 2026-11-15T00:00:00Z, llama* input: what * input has counted before does not count here: in a month "
        "that goes on then 100 tokens are included once more."
    ) in applied.stderr
    again = json.loads(terminal.ok("plans", "apply", "-", "--json", text=REWRITTEN))
    assert [each["where"] for each in again["warnings"]] == ["from 2026-11-15T00:00:00Z, llama* input"]
    # A file that is about neither of the two says nothing of what lies between them.
    older = terminal.ok("plans", "apply", "-", "--json", text=PLAN.replace("2025-01-01", "2024-01-01"))
    assert json.loads(older)["warnings"] == []


def test_a_part_of_a_month_is_shown_with_its_arithmetic(terminal: Terminal) -> None:
    sql(terminal.url, "SELECT usage_partitions_ensure('2025-11-01', '2025-12-31')")
    terminal.ok(*CREATE, "2025-11-01T00:00:00+05:30", "--ends-at", "2025-11-08T12:00:00+05:30")
    terminal.environment["COLUMNS"] = "80"
    said = "Fee: 288.00 USD a month × 720/2880 of its quarters of an hour, from 2025-10-31T18:30:00Z to 2025-11-08T06:30:00Z."
    preview = ("invoices", "preview", "--tenant", "acme", "--period", "2025-11")
    shown = terminal.ok(*preview)
    assert said in shown
    assert ["Fee", "part", "of", "a", "month", "72.00"] in words(shown)
    [charge] = terminal.json(*preview)["charges"]
    assert (charge["fraction"], charge["covered_start"], charge["covered_end"]) == (
        "720/2880", "2025-10-31T18:30:00Z", "2025-11-08T06:30:00Z",
    )  # fmt: skip
    terminal.ok("invoices", "close", "--period", "2025-11", "--no-wait")
    invoice = terminal.ok("invoices", "show", "INV-000001")
    assert said in invoice
    assert ["fee,", "in", "part", "72.00", "72.00"] in words(invoice)
    [line] = json.loads(terminal.ok("invoices", "show", "INV-000001", "--json"))["content"]["lines"]
    assert (line["fraction"], line["agreed"], line["amount"]) == ("720/2880", "288", "72.00")
    assert "Invoice INV-000001 · acme (acme) · November 2025" in terminal.ok(*preview)
    closed = terminal.json(*preview)
    assert (closed["status"], closed["number"], closed["total"]) == ("issued", "INV-000001", "72.00")


def test_usage_before_the_first_prices_fails_the_command(terminal: Terminal) -> None:
    sql(terminal.url, "SELECT usage_partitions_ensure('2025-11-01', '2025-12-31')")
    asyncio.run(use_before_prices(terminal.url))
    result = terminal.run("invoices", "close", "--period", "2025-11", "--no-wait")
    assert result.exit_code == 1
    assert "globex: plan late has no prices before 2025-11-15T00:00:00Z" in result.stdout
    assert "1 of 2 tenants could not be closed." in result.stderr


async def use_before_prices(url: str) -> None:
    office = Office(url)
    office.now_us = at("2025-12-02T00:00:00Z")
    await office.pricing.apply(PLAN.replace("supported", "late").replace("2025-01-01", "2025-11-15"))
    globex = await office.tenants.create_tenant("globex", "Globex")
    await office.pricing.subscribe(globex.id, "late", at("2025-11-01T00:00:00Z"))
    await office.use(globex, "2025-11-10T00:00:00Z")
    await office.close_pools()


async def test_the_examples_of_the_documentation_are_whole_months(migrated_url: str, tmp_path: Path) -> None:
    async with admin_api(migrated_url, tmp_path) as api:
        document = (await api.send("GET", "/api/v1/openapi.json", headers={})).json()
        path = f"/tenants/{TENANT.slug}/subscriptions"
        await api.made("/tenants", {"slug": TENANT.slug, "timezone": TENANT.timezone})
        await api.ok("POST", "/plans", {"yaml": YAML})
        operations = document["paths"]
        made = await api.made(path, example(operations["/api/v1/tenants/{tenant}/subscriptions"]))
        assert (made["starts_at"], made["warnings"]) == ("2026-10-31T18:30:00Z", [])
        ended = await api.ok(
            "POST", f"{path}/end", example(operations["/api/v1/tenants/{tenant}/subscriptions/end"])
        )
        assert (ended["ends_at"], ended["warnings"]) == ("2026-11-30T18:30:00Z", [])


def example(path: dict[str, Any]) -> Any:
    return path["post"]["requestBody"]["content"]["application/json"]["examples"]["example"]["value"]


async def test_the_api_warns_of_parts_of_months_and_pages_what_was_taken_back(
    migrated_url: str, tmp_path: Path
) -> None:
    async with admin_api(migrated_url, tmp_path) as api:
        await api.made("/tenants", {"slug": "acme", "timezone": "Asia/Kolkata"})
        await api.ok("POST", "/plans", {"yaml": YAML})
        path, start = "/tenants/acme/subscriptions", "2026-11-01T00:00:00Z"
        void = []
        for _ in range(3):
            made = await api.made(path, {"plan": "standard", "starts_at": start})
            assert len(made["warnings"]) == 1
            assert made["warnings"][0].startswith(f"starts_at {start} lies within November 2026")
            void.append(await api.ok("POST", f"{path}/end", {"ends_at": start}))
        assert [(each["ends_at"], each["warnings"]) for each in void] == [(start, [])] * 3
        found = await api.pages(path, 1)
        assert sorted(each["id"] for each in found) == sorted(each["id"] for each in void)
