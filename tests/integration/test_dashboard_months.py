"""Months that go on, on the first page of a real database: those that no invoice says yet."""

from collections.abc import AsyncIterator

import pytest

from billing.dashboard.invoice_view import SO_FAR
from billing.dashboard.pages import PREVIEWS_MAX, Pages
from billing.infra.zones import zone_of
from billing.invoicing.recent.service import RecentService
from tests.dashboard_kit import Shop, counts, shop_at, watch_of
from tests.invoice_kit import at

MONTH = "2026-11"


class Time:
    """The clock of the page and of everything below it."""

    def __init__(self) -> None:
        self.us = at("2026-11-24T12:00:00Z")

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def shop(migrated_url: str, time: Time) -> AsyncIterator[Shop]:
    async with shop_at(migrated_url, time) as made:
        await made.furnish()
        yield made


async def so_far(shop: Shop) -> list[str]:
    """The tenants whose months the page shows as they stand."""
    recent = RecentService(shop.database, zone_of, shop.clock)
    pages = Pages(shop.usage, recent, shop.invoicing, watch_of(shop), shop.clock)
    return [row.tenant for row in (await pages.home()).invoices if row.status == SO_FAR]


async def invoiced(shop: Shop, slug: str) -> None:
    (closed,) = await shop.invoicing.close(MONTH, slug, early=True, wait_s=None)
    assert closed.invoice


async def test_the_months_that_go_on_are_shown_however_many_busier_tenants_are_invoiced(shop: Shop) -> None:
    for number in range(2 * PREVIEWS_MAX + 1):
        slug = f"busy-{number:02}"
        await shop.add_tenant(slug, slug, "graduated")
        await shop.save(*[shop.used(slug, seconds, counts(10, 5)) for seconds in range(30, 65)])
        await invoiced(shop, slug)
    assert await so_far(shop) == ["acme", "globex", "initech"]


async def test_the_busiest_are_shown_and_no_more_than_a_page_holds(shop: Shop) -> None:
    for number in range(PREVIEWS_MAX):
        slug = f"busy-{number:02}"
        await shop.add_tenant(slug, slug, "graduated")
        await shop.save(*[shop.used(slug, seconds, counts(10, 5)) for seconds in range(30, 65)])
    assert await so_far(shop) == [f"busy-{number:02}" for number in range(PREVIEWS_MAX)]


async def test_a_tenant_is_without_an_invoice_in_its_next_month(shop: Shop, time: Time) -> None:
    start_us, end_us = at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")
    assert await shop.invoicing.tenants_not_invoiced(start_us, end_us, 2) == ["acme", "globex"]
    await invoiced(shop, "acme")
    assert await shop.invoicing.tenants_not_invoiced(start_us, end_us, 9) == ["globex", "initech"]
    time.us = end_us
    assert await shop.invoicing.tenants_not_invoiced(start_us, end_us, 1) == ["acme"]
