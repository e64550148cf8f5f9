"""Issued invoices computed again while late usage streams in: what was issued stays what it was (P8, I21)."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from billing.tenants.tenant import Tenant
from tests.integration.close_kit import Office
from tests.invoice_kit import at, record, usage, usage_id
from tests.metering_kit import ask

INVOICES = 100
ROUNDS_MAX = 2_000
BATCH = 20
DEARER = """\
plan: unit
currency: USD
label: Dearer
versions:
  - effective: 2026-11-05T00:00:00Z
    per: 1000
    rates: [{model: "*", input: 5.00, output: 15.00}]
"""


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.plans()
    yield made
    await made.close_pools()


class Writer:
    """Records usage of November, of all tenants and on until it is told to stop, by the recorder's own statements."""

    def __init__(self, office: Office, tenants: list[Tenant]) -> None:
        self.office, self.tenants = office, tenants
        self.random = random.Random(3)
        self.stop = False
        self.written = 0

    async def run(self) -> None:
        for number in range(1, ROUNDS_MAX):
            if self.stop:
                return
            chosen = self.random.choices(self.tenants, k=BATCH)
            moments = [
                f"2026-11-{self.random.randint(1, 30):02}T{self.random.randint(0, 23):02}:30:00Z"
                for _ in chosen
            ]
            made = [
                record(
                    usage_id(moment, number * BATCH + place),
                    usage(self.random.randint(1, 5_000), 77),
                    tenant_id=each.id,
                )
                for place, (each, moment) in enumerate(zip(chosen, moments, strict=True))
            ]
            await self.office.save(made)
            self.written += len(made)
            await asyncio.sleep(0)


async def test_a_hundred_invoices_are_the_same_bytes_while_late_usage_streams_in(office: Office) -> None:
    tenants = [
        await office.tenant(f"tenant-{number:03}", "graduated" if number % 2 else "unit")
        for number in range(INVOICES)
    ]
    for each in tenants:
        await office.use(
            each, "2026-11-10T00:00:00Z", "2026-11-20T00:00:00Z", input_tokens=1_234, output_tokens=567
        )
    writer = Writer(office, tenants)
    writing = asyncio.create_task(writer.run())
    # Some usage is recorded before, some within and most after the close.
    results = await office.close()
    before = writer.written
    numbers = [each.invoice.number or "" for each in results if each.invoice is not None]
    documents = [await office.invoicing.invoice(number) for number in numbers]
    found = [await office.invoicing.verify(number) for number in numbers]
    during = writer.written - before
    writer.stop = True
    await writing
    assert [each.differences for each in found] == [()] * INVOICES
    assert [await office.invoicing.invoice(number) for number in numbers] == documents
    assert during >= 10 * BATCH
    assert sum([(await office.invoicing.late(number)).requests for number in numbers]) >= during
    await everything_is_in_one_place(office, numbers)


async def everything_is_in_one_place(office: Office, numbers: list[str]) -> None:
    """Each record of the month is billed by its invoice or late, once (P14)."""
    placed = 0
    for number in numbers:
        reconciled = await office.invoicing.reconciliation(number)
        assert reconciled.is_equal, reconciled
        placed += reconciled.requests.billed + reconciled.requests.late
    [row] = await ask(office.url, "SELECT count(*) FROM usage_record")
    assert placed == row[0]


async def test_prices_names_and_subscriptions_that_change_afterwards_change_no_invoice(
    office: Office,
) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    number = await office.issue("acme")
    before = await office.invoicing.invoice(number)
    await office.pricing.apply(DEARER)
    await office.tenants.change_tenant("acme", name="Renamed Ltd", timezone="Asia/Tokyo")
    await office.pricing.end_subscription(acme.id, at("2026-06-01T00:00:00Z"))
    assert (await office.invoicing.verify(number)).is_same
    assert await office.invoicing.invoice(number) == before
    assert (await office.invoicing.preview("acme", "2026-11")).draft.total_minor == before.content.total_minor
    assert (await office.invoicing.preview("acme", "2026-10")).draft.total is None


async def test_the_same_records_in_another_order_and_batching_are_the_same_content(office: Office) -> None:
    instants = [f"2026-11-{day:02}T{hour:02}:59:59.999Z" for day in (1, 15, 30) for hour in (0, 12, 23)]
    hashes = set()
    for slug, chosen in (("acme", instants), ("acme-two", instants[::-1])):
        tenant = await office.tenant(slug, "graduated")
        # The name is a part of the content; the records are what is compared.
        await ask(office.url, "UPDATE tenant SET name = 'Acme' WHERE id = $1", tenant.id)
        for instant in chosen if slug == "acme" else [chosen[0], *chosen]:
            await office.use(tenant, instant, input_tokens=333, output_tokens=77)
        content = (await office.invoicing.invoice(await office.issue(slug))).content_bytes
        hashes.add(content.replace(b'"acme-two"', b'"acme"'))
    assert len(hashes) == 1
