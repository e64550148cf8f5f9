"""One tenant whose month cannot be closed keeps no other waiting, on a real Postgres (billing-rules.md §1)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from billing.errors import Conflict, Unavailable
from billing.infra.postgres import Database
from billing.invoicing.close import CloseResult, CloseState, NoInvoice
from tests.cli_kit import Terminal
from tests.integration.close_kit import Office, totals
from tests.invoice_kit import at
from tests.metering_kit import ask, sql

MISPRICED = """\
plan: mispriced
currency: USD
versions:
  - effective: 2025-01-01T00:00:00Z
    per: 1
    rates: [{model: "*", input: "1000000000", output: free}]
"""
CORRECTED = """\
plan: mispriced
currency: USD
versions:
  - effective: 2026-11-01T00:00:00Z
    per: 1000000
    rates: [{model: "*", input: 1, output: free}]
"""
TENANTS = ("acme", "globex", "hooli")
NO_POSTINGS = (
    """CREATE FUNCTION no_postings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.tenant_id = (SELECT id FROM tenant WHERE slug = 'globex') THEN RAISE EXCEPTION 'the disk of this tenant is full'; END IF;
  RETURN NEW;
END $$""",
    "CREATE TRIGGER no_postings BEFORE INSERT ON ledger_posting FOR EACH ROW EXECUTE FUNCTION no_postings()",
)


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.plans()
    await made.pricing.apply(MISPRICED)
    for slug in TENANTS:
        tenant = await made.tenant(slug, "mispriced" if slug == "globex" else "unit")
        await made.use(tenant, "2026-11-10T00:00:00Z", input_tokens=1_000 if slug != "globex" else 10**9)
    yield made
    await made.close_pools()


def reasons(results: list[CloseResult]) -> dict[str, NoInvoice | None]:
    return {each.tenant: each.reason for each in results}


async def test_a_total_that_no_ledger_can_book_parks_its_tenant_before_anything_is_cut(
    office: Office,
) -> None:
    results = await office.close()
    assert reasons(results) == {"acme": None, "globex": NoInvoice.REFUSED, "hooli": None}
    assert totals(results) == {"acme": 65, "globex": None, "hooli": 65}
    assert results[1].detail.startswith(
        "the invoice of globex for November 2026 would come to 1,000,000,000,000,000,000.00 USD, and no more than "
        "92,233,720,368,547,758.07 can be booked"
    )
    assert await ask(office.url, "SELECT status FROM invoice WHERE status = 'draft'") == []
    with pytest.raises(Conflict, match="the invoice of globex for November 2026 would come to"):
        await office.close("globex")
    # What the message says to do is enough: nothing was cut that would hold on to the wrong price.
    await office.pricing.apply(CORRECTED)
    assert totals(await office.close()) == {"acme": 65, "globex": 100_000, "hooli": 65}


async def test_an_error_that_nobody_expected_parks_its_tenant_and_is_logged(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.pricing.apply(CORRECTED)
    for statement in NO_POSTINGS:
        await ask(office.url, statement)
    with caplog.at_level(logging.ERROR):
        results = await office.close()
    assert reasons(results) == {"acme": None, "globex": NoInvoice.FAILED, "hooli": None}
    assert "the disk of this tenant is full; nothing is billed" in results[1].detail
    assert "INSERT" not in results[1].detail
    assert "the close of 2026-11 for globex failed; it is parked, the others go on" in caplog.text
    # Its number went back with its transaction: the next close finishes its draft, and numbers have no gap.
    await ask(office.url, "DROP TRIGGER no_postings ON ledger_posting")
    again = await office.close()
    assert [each.state for each in again] == [
        CloseState.ALREADY_ISSUED,
        CloseState.ISSUED,
        CloseState.ALREADY_ISSUED,
    ]
    numbers = await ask(office.url, "SELECT number FROM invoice ORDER BY number")
    assert [row[0] for row in numbers] == [f"INV-{number:06}" for number in (1, 2, 3)]


async def test_of_one_tenant_an_unexpected_error_is_the_error(office: Office) -> None:
    await office.pricing.apply(CORRECTED)
    for statement in NO_POSTINGS:
        await ask(office.url, statement)
    with pytest.raises(DBAPIError, match="the disk of this tenant is full"):
        await office.close("globex")


async def test_a_zone_that_is_none_any_more_parks_its_tenant(office: Office) -> None:
    await ask(office.url, "UPDATE tenant SET timezone = 'Mars/Olympus' WHERE slug = 'globex'")
    results = await office.close()
    assert reasons(results) == {"acme": None, "globex": NoInvoice.REFUSED, "hooli": None}
    assert "'Mars/Olympus' is not the name of a time zone" in results[1].detail


async def test_a_database_that_is_gone_stops_the_close_and_parks_nobody(office: Office) -> None:
    gone = Office(office.url, LostDatabase(office.url))
    with pytest.raises(Unavailable):
        await gone.close()
    await gone.close_pools()
    assert totals(await office.close(None))["acme"] == 65


class LostDatabase(Database):
    """A database that is reached once, for the look, and never again."""

    def __init__(self, url: str) -> None:
        super().__init__(url, role="control", pool_size=1)
        self.left = 1

    def transaction(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as the method it stands for
        self.left -= 1
        if self.left < 0:
            raise Unavailable("Postgres cannot be reached: connection refused")
        return super().transaction()


def test_the_command_names_who_is_parked_counts_them_and_fails(migrated_url: str, tmp_path: Path) -> None:
    sql(migrated_url, "SELECT usage_partitions_ensure('2025-11-01', '2025-12-31')")
    furnish(migrated_url)
    terminal = Terminal(migrated_url, tmp_path)
    command = ("invoices", "close", "--period", "2025-11", "--no-wait")
    result = terminal.run(*command)
    assert result.exit_code == 1
    assert "globex: the invoice of globex for November 2025 would come to" in result.stdout
    assert "INV-000002" in result.stdout
    assert "1 of 3 tenants could not be closed." in result.stderr
    states = {each["tenant"]: each["reason"] for each in json.loads(terminal.run(*command, "--json").stdout)}
    assert states == {"acme": None, "globex": "refused", "hooli": None}


def furnish(url: str) -> None:
    async def work() -> None:
        office = Office(url)
        office.now_us = at("2025-12-02T00:00:00Z")
        await office.plans()
        await office.pricing.apply(MISPRICED)
        for slug in TENANTS:
            tenant = await office.tenants.create_tenant(slug, slug.title())
            plan = "mispriced" if slug == "globex" else "unit"
            await office.pricing.subscribe(tenant.id, plan, at("2025-01-01T00:00:00Z"))
            await office.use(
                tenant, "2025-11-10T00:00:00Z", input_tokens=10**9 if slug == "globex" else 1_000
            )
        await office.close_pools()

    asyncio.run(work())
