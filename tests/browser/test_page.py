"""The page in Chromium: it signs in, keeps itself fresh, and fits every screen. Skipped where there is no Chromium."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from litestar import Litestar

from billing.infra.system import now_us
from tests.dashboard_kit import TOKEN, Shop, application, counts, shop_at, watch_of

playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FRESH_MS = 10_000
"""How long a change may take to be seen; the page asks every two seconds."""

HIDDEN_IN_TABLE = """(() => {
  const region = document.querySelector("table.requests").parentElement;
  return region.scrollWidth - region.clientWidth;
})()"""
"""Pixels of the requests' table beyond its panel; one may be lost to rounding."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM} on this machine"),
]


class Screen:
    """A browser's window on the pages; collects what the browser complains about."""

    def __init__(self, page: "playwright.Page", address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))

    async def sign_in(self) -> None:
        await self.page.goto(f"{self.address}/#token={TOKEN}")
        await self.page.wait_for_selector("#requests-title")

    async def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        found: int = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return found


@asynccontextmanager
async def served(app: Litestar) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


@asynccontextmanager
async def opened(address: str, **options: object) -> AsyncIterator[Screen]:
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            context = await browser.new_context(**options)
            yield Screen(await context.new_page(), address)
        finally:
            await browser.close()


@pytest.fixture
async def shop(migrated_url: str) -> AsyncIterator[Shop]:
    async with shop_at(migrated_url, now_us) as made:
        await made.furnish()
        yield made


async def test_a_new_request_appears_by_itself_and_a_selection_stays(shop: Shop) -> None:
    async with served(application(shop, watch_of(shop))) as address, opened(address) as screen:
        page = screen.page
        await screen.sign_in()
        assert page.url == f"{address}/", "the token is out of the address"
        rows = page.locator("table.requests tbody tr")
        assert await rows.count() == 20
        await page.evaluate(
            "getSelection().selectAllChildren(document.querySelector('table.requests tbody td.name'))"
        )
        new = shop.used("acme", 0, counts(123_456, 7))
        await shop.save(new)
        await page.wait_for_selector(f'tr[data-key="{new.id}"]', timeout=FRESH_MS)
        assert await rows.count() == 20
        assert "123,456" in await rows.first.inner_text()
        assert await page.evaluate("getSelection().toString()") == "acme"
        assert await page.locator("#live .on").is_visible()
        assert screen.complaints == []


async def test_it_says_when_the_server_is_gone_and_signs_out_with_it(shop: Shop) -> None:
    async with served(application(shop, watch_of(shop))) as address, opened(address) as screen:
        await screen.sign_in()
        await screen.page.context.set_offline(True)
        await screen.page.wait_for_selector("#live .off", timeout=FRESH_MS)
        await screen.page.context.set_offline(False)
        await screen.page.wait_for_selector("#live .on", timeout=FRESH_MS)
        await screen.page.context.clear_cookies()
        await screen.page.wait_for_selector("#sign-in", timeout=FRESH_MS)


async def test_everything_can_be_read_without_scripts(shop: Shop) -> None:
    async with (
        served(application(shop, watch_of(shop))) as address,
        opened(address, java_script_enabled=False) as screen,
    ):
        page = screen.page
        await page.goto(address)
        await page.fill("#token", "adm-wrong")
        await page.click("#sign-in button")
        assert "not the admin token" in await page.inner_text("#fault")
        await page.fill("#token", TOKEN)
        await page.click("#sign-in button")
        assert await page.locator("#live a").inner_text() == "Refresh"
        assert not await page.locator(".copy").first.is_visible()
        await page.click("td.id a")
        assert "This request" in await page.inner_text(".verdict")
        await page.click(".sign-out button")
        await page.wait_for_selector("#token")


async def test_nothing_is_wider_than_the_screen(shop: Shop) -> None:
    async with served(application(shop, watch_of(shop))) as address, opened(address) as screen:
        await screen.sign_in()
        for width in (1440, 1401, 1360, 1240, 1161, 1120, 1024, 390):
            await screen.page.set_viewport_size({"width": width, "height": 900})
            assert await screen.overflow() == 0, width
            hidden = await screen.page.evaluate(HIDDEN_IN_TABLE)
            assert hidden <= 1, f"every column is seen without scrolling at {width}"
        await screen.page.click("td.id a")
        await screen.page.wait_for_selector(".verdict")
        assert await screen.overflow() == 0
        assert screen.complaints == []


async def test_an_id_is_copied_whole(shop: Shop) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    async with (
        served(application(shop, watch_of(shop))) as address,
        opened(address, permissions=allowed) as screen,
    ):
        await screen.sign_in()
        # The first sight of a fresh profile on a busy machine may come before the script has run.
        await screen.page.reload()
        button = screen.page.locator("button.copy").first
        await button.click()
        await screen.page.wait_for_selector("button.copy.done")
        copied = await screen.page.evaluate("navigator.clipboard.readText()")
        assert copied == await button.get_attribute("data-copy")
