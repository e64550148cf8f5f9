"""``billing invoices`` as an operator types it, on a real database."""

import asyncio
import csv
import hashlib
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli_kit import Terminal, words
from tests.integration.close_kit import Office
from tests.invoice_kit import at
from tests.metering_kit import sql

PAST = ("--period", "2025-11", "--no-wait")
SLUGS = ("acme", "globex", "hooli", "initech", "umbrella")


async def furnish(url: str) -> None:
    office = Office(url)
    office.now_us = at("2025-12-02T00:00:00Z")
    await office.plans()
    for slug in SLUGS:
        tenant = await office.tenants.create_tenant(slug, "=HYPERLINK(1)" if slug == "acme" else slug.title())
        plan = "graduated" if slug == "globex" else "unit"
        await office.pricing.subscribe(tenant.id, plan, at("2025-01-01T00:00:00Z"))
        await office.use(tenant, "2025-11-10T00:00:00Z", output_tokens=210)
    await office.close_pools()


async def use_late(url: str) -> None:
    office = Office(url)
    office.now_us = at("2025-12-02T00:00:00Z")
    await office.use(await office.tenants.tenant("globex"), "2025-11-11T00:00:00Z", number=2)
    await office.close_pools()


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    sql(migrated_url, "SELECT usage_partitions_ensure('2025-11-01', '2025-12-31')")
    made = Terminal(migrated_url, tmp_path)
    asyncio.run(furnish(migrated_url))
    return made


def test_a_month_is_closed_listed_shown_and_verified(terminal: Terminal) -> None:
    closed = words(terminal.ok("invoices", "close", *PAST))
    assert ["globex", "issued", "INV-000002", "20.68", "USD"] in closed
    again = words(terminal.ok("invoices", "close", *PAST, "--tenant", "globex"))
    assert ["globex", "already", "issued", "INV-000002", "20.68", "USD"] in again
    listed = words(terminal.ok("invoices", "list", "--tenant", "globex"))
    assert listed[1][:6] == ["INV-000002", "globex", "2025-11", "issued", "20.68", "USD"]
    shown = terminal.ok("invoices", "show", "INV-000002")
    assert "Invoice INV-000002 · Globex (globex) · November 2025" in shown
    assert ["Total", "USD", "20.68", "20.68"] in words(shown)
    assert "late" not in shown
    assert terminal.ok("invoices", "verify", "--all") == "5 of 5 invoices are what they were.\n"


def test_late_usage_is_shown_beside_the_invoice_that_it_missed(terminal: Terminal) -> None:
    terminal.ok("invoices", "close", *PAST)
    asyncio.run(use_late(terminal.url))
    shown = " ".join(terminal.ok("invoices", "show", "INV-000002").split())
    # 1,000 × 0.40 / 1,000 and 100 × 1.20 / 1,000: the tier goes on where the invoice left it.
    assert (
        "1 request with 1,100 tokens came after the close and would add 0.52 USD: late, to be billed by a later invoice."
        in shown
    )
    assert terminal.json("invoices", "verify", "INV-000002") == [
        {"number": "INV-000002", "is_same": True, "differences": []}
    ]


def test_csv_json_and_ledger_say_the_same_total(terminal: Terminal) -> None:
    terminal.ok("invoices", "close", *PAST)
    for number in range(1, len(SLUGS) + 1):
        name = f"INV-{number:06}"
        document = json.loads(terminal.ok("invoices", "show", name, "--format", "json"))
        rows = list(csv.DictReader(io.StringIO(terminal.ok("invoices", "show", name, "--format", "csv"))))
        [posted] = sql(
            terminal.url,
            "SELECT sum(amount_minor)::bigint FROM ledger_posting JOIN ledger_transaction t ON t.id = transaction_id "
            "JOIN invoice ON invoice.id = invoice_id WHERE account = 'receivable' AND invoice.number = $1",
            name,
        )
        assert sum(Decimal(row["amount"]) for row in rows) == Decimal(document["content"]["total"])
        assert (
            sum(int(row["amount_minor"]) for row in rows) == document["content"]["total_minor"] == posted[0]
        )
        assert {row["invoice_number"] for row in rows} == {document["number"]} == {name}


def test_json_holds_the_bytes_that_the_hash_names(terminal: Terminal) -> None:
    terminal.ok("invoices", "close", *PAST)
    text = terminal.ok("invoices", "show", "INV-000001", "--format", "json")
    document = json.loads(text)
    content = text.removeprefix('{"content":').partition(',"content_sha256"')[0]
    assert hashlib.sha256(content.encode()).hexdigest() == document["content_sha256"]
    assert json.loads(content)["tenant_name"] == "=HYPERLINK(1)"
    assert terminal.json("invoices", "show", "INV-000001") == document
    [row] = sql(terminal.url, "SELECT content FROM invoice WHERE number = 'INV-000001'")
    assert row[0] == content.encode()
    assert "'=HYPERLINK(1)" in terminal.ok("invoices", "show", "INV-000001", "--format", "csv")


def test_a_month_that_goes_on_needs_the_flag(terminal: Terminal) -> None:
    month = sql(terminal.url, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')")[0][0]
    said = terminal.fails("invoices", "close", "--period", month, "--tenant", "globex")
    assert f"period {month} has not ended: it ends at" in said
    assert "--early" in said
    result = terminal.run("invoices", "close", "--period", month, "--json")
    assert result.exit_code == 1
    assert {each["reason"] for each in json.loads(result.stdout)} == {"not_ended"}
    [closed] = terminal.json(
        "invoices", "close", "--period", month, "--tenant", "globex", "--early", "--no-wait"
    )
    assert (closed["state"], closed["invoice"]["is_early"], closed["invoice"]["total"]) == (
        "issued",
        True,
        "20.00",
    )
    assert "Closed early: this invoice" in terminal.ok("invoices", "show", closed["invoice"]["number"])


def test_an_invoice_that_was_tampered_with_is_found(terminal: Terminal) -> None:
    terminal.ok("invoices", "close", *PAST)
    sql(terminal.url, "ALTER TABLE invoice DISABLE TRIGGER invoice_frozen")
    sql(
        terminal.url,
        "UPDATE invoice SET content = convert_to(replace(convert_from(content, 'UTF8'), '20.68', '20.67'), 'UTF8') "
        "WHERE number = 'INV-000002'",
    )
    sql(
        terminal.url,
        "UPDATE usage_rollup SET answer_output = 211 WHERE tenant_id = (SELECT id FROM tenant WHERE slug = 'hooli')",
    )
    result = terminal.run("invoices", "verify", "--all")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "INV-000003: computed again, it says something else: lines, tokens, subtotal",
        "INV-000002: the stored content is not the one that its hash names",
        "INV-000002: computed again, it says something else: subtotal, total",
        "3 of 5 invoices are what they were.",
    ]


def test_what_verify_is_to_look_at_has_to_be_said(terminal: Terminal) -> None:
    for arguments in ((), ("INV-000001", "--all")):
        result = terminal.run("invoices", "verify", *arguments)
        assert result.exit_code == 2
        assert "Name the invoices, or say --all." in result.stderr


def test_two_processes_that_close_at_once_issue_each_invoice_once(terminal: Terminal) -> None:
    command = [sys.executable, "-m", "billing.cli.main", "invoices", "close", *PAST, "--json"]
    running = [
        subprocess.Popen(command, env=terminal.environment | {"PATH": ""}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = [json.loads(each.communicate(timeout=60)[0]) for each in running]
    assert [each.returncode for each in running] == [0, 0]
    states = sorted(result["state"] for results in found for result in results)
    assert states == ["already_issued"] * 5 + ["issued"] * 5
    numbers = {result["invoice"]["number"] for results in found for result in results}
    assert sorted(numbers) == [f"INV-{number:06}" for number in range(1, 6)]
    assert terminal.ok("invoices", "verify", "--all") == "5 of 5 invoices are what they were.\n"


def test_a_tenants_zone_is_said_when_it_is_made_and_can_be_changed(terminal: Terminal) -> None:
    made = terminal.json("tenants", "create", "kolkata", "--timezone", "Asia/Kolkata")
    assert made["timezone"] == "Asia/Kolkata"
    changed = terminal.json(
        "tenants", "change", "kolkata", "--timezone", "Australia/Lord_Howe", "--name", "Island Ltd"
    )
    assert (changed["timezone"], changed["name"]) == ("Australia/Lord_Howe", "Island Ltd")
    for name in ("asia/kolkata", "../etc/passwd", "", "Mars/Olympus", "localtime"):
        said = terminal.fails("tenants", "change", "kolkata", "--timezone", name)
        assert (
            said
            == f"error: timezone: {name!r} is not the name of a time zone; write for example Europe/Berlin"
        )
