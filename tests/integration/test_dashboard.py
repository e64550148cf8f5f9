"""The pages on a real database: who may see them, what they say, and that they say the same as everywhere else."""

import asyncio
import csv
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO

import httpx
import pytest
from litestar import Litestar

from billing.access.token import hash_of
from billing.dashboard.gate import WRONG_PER_MINUTE_MAX
from billing.dashboard.pages import ISSUED_MAX, Pages
from billing.dashboard.session import COOKIE
from billing.infra.zones import zone_of
from billing.invoicing.recent.service import RecentService
from billing.pricing.rating import Positions
from billing.tokens.components import Component
from tests.dashboard_kit import HOSTILE, TOKEN, Shop, application, counts, shop_at, watch_of
from tests.invoice_kit import at

BASE = "http://control"
MONTH = "2026-11"


class Time:
    """The clock of the pages and of everything below them."""

    def __init__(self) -> None:
        self.us = at("2026-11-24T12:00:00Z")

    def __call__(self) -> int:
        return self.us


@asynccontextmanager
async def browser(app: Litestar, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 50_000))  # type: ignore[arg-type]  # Litestar's own types
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def shop(migrated_url: str, time: Time) -> AsyncIterator[Shop]:
    async with shop_at(migrated_url, time) as made:
        yield made


@pytest.fixture
async def stranger(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(application(shop, watch_of(shop))) as client:
        yield client


@pytest.fixture
async def operator(shop: Shop, stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    await shop.furnish()
    assert (await stranger.post("/login", data={"token": TOKEN})).status_code == 303
    return stranger


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).strip()


async def test_nobody_sees_a_page_without_signing_in(shop: Shop, stranger: httpx.AsyncClient) -> None:
    await shop.furnish()
    for path in (
        "/",
        "/requests/x",
        "/invoices/INV-000001",
        "/invoices/INV-000001/json",
        "/invoices/INV-000001/csv",
    ):
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login"), path
        assert "acme" not in answer.text


async def test_the_token_opens_the_page_that_was_wanted(stranger: httpx.AsyncClient) -> None:
    place = "/requests/01a20c96-63a8-7bba-b644-a70c1bc3cba7"
    asked = await stranger.get(place)
    page = await stranger.get(asked.headers["location"])
    assert f'name="place" value="{place}"' in page.text
    answer = await stranger.post("/login", data={"token": f" {TOKEN}\n", "place": place})
    assert (answer.status_code, answer.headers["location"]) == (303, place)
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=3600"):
        assert part in cookie
    assert TOKEN not in cookie
    assert hash_of(TOKEN) not in cookie


async def test_a_wrong_token_is_refused_in_words_and_not_for_ever(
    stranger: httpx.AsyncClient, time: Time
) -> None:
    for _ in range(WRONG_PER_MINUTE_MAX - 1):
        answer = await stranger.post("/login", data={"token": "adm-wrong"})
        assert (answer.status_code, COOKIE in answer.headers.get("set-cookie", "")) == (401, False)
    assert "This is not the admin token of this server." in answer.text
    assert "adm-wrong" not in answer.text
    await stranger.post("/login", data={"token": "adm-wrong"})
    refused = await stranger.post("/login", data={"token": "adm-wrong"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert "Too many wrong tokens from 127.0.0.1." in refused.text
    time.us += 60_000_000
    assert (await stranger.post("/login", data={"token": "adm-wrong"})).status_code == 401


async def test_whoever_guesses_behind_the_same_proxy_keeps_the_operator_not_out(
    stranger: httpx.AsyncClient,
) -> None:
    for _ in range(2 * WRONG_PER_MINUTE_MAX):
        await stranger.post("/login", data={"token": "adm-wrong"})
    assert (await stranger.post("/login", data={"token": TOKEN})).status_code == 303


async def test_clients_behind_a_trusted_proxy_are_counted_apart_and_strangers_words_are_not_believed(
    shop: Shop,
) -> None:
    async def statuses(client: httpx.AsyncClient) -> set[int]:
        """Of wrong tokens that each come from another client, as a header says."""
        sent = [{"x-forwarded-for": f"198.51.100.{number}"} for number in range(WRONG_PER_MINUTE_MAX + 1)]
        return {(await client.post("/login", data={"token": "x"}, headers=each)).status_code for each in sent}

    app = application(shop, watch_of(shop))
    async with browser(app) as proxy, browser(app, "203.0.113.9") as alone:
        assert await statuses(proxy) == {401}
        assert await statuses(alone) == {401, 429}


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_tls_alone(shop: Shop) -> None:
    sent = {
        "x-forwarded-proto": "https",
        "origin": "https://billing.example",
        "sec-fetch-site": "same-origin",
    }
    app = application(shop, watch_of(shop))
    async with browser(app) as proxy, browser(app, "203.0.113.9") as alone:
        for client, is_secure in ((proxy, True), (alone, False)):
            for path in ("/login", "/logout"):
                answer = await client.post(path, data={"token": TOKEN}, headers=sent)
                assert answer.status_code == 303
                assert ("Secure" in answer.headers["set-cookie"]) is is_secure
        plain = await proxy.post("/login", data={"token": TOKEN})
        assert "Secure" not in plain.headers["set-cookie"]


async def test_a_session_ends_by_signing_out_and_by_itself(operator: httpx.AsyncClient, time: Time) -> None:
    assert (await operator.get("/")).status_code == 200
    time.us += 3_600_000_000
    assert (await operator.get("/")).status_code == 303
    await operator.post("/login", data={"token": TOKEN})
    assert (await operator.get("/login")).headers["location"] == "/"
    assert (await operator.post("/logout")).headers["location"] == "/login"
    assert (await operator.get("/")).status_code == 303


async def test_a_form_of_another_site_signs_nobody_in_or_out(stranger: httpx.AsyncClient) -> None:
    for path in ("/login", "/logout"):
        answer = await stranger.post(path, data={"token": TOKEN}, headers={"origin": "http://evil.example"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_without_a_token_on_the_server_nobody_can_sign_in(shop: Shop) -> None:
    async with browser(application(shop, watch_of(shop), token_hash=None)) as client:
        assert "no admin token is set" in (await client.get("/login")).text
        assert (await client.post("/login", data={"token": ""})).status_code == 503
        assert (await client.get("/")).status_code == 303


async def test_a_form_that_is_no_form_is_refused(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.post("/login", content=b"x" * 10_000)).status_code in {400, 413}
    assert (await stranger.post("/login", data={"token": "x" * 10_000})).status_code == 413
    assert (await stranger.post("/login", data={})).status_code == 401


async def test_every_reply_forbids_what_a_page_does_not_need(operator: httpx.AsyncClient) -> None:
    style = re.search(r'href="(/static/page\.css[^"]*)"', (await operator.get("/")).text)
    assert style
    for path in ("/", "/login", "/requests/x", "/invoices/none", style[1]):
        headers = (await operator.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == (
            "no-store" if "static" not in path else "public, max-age=31536000, immutable"
        )


async def test_the_sums_are_those_of_the_usage_report(shop: Shop, operator: httpx.AsyncClient) -> None:
    reports = [await shop.invoicing.usage(slug, MONTH) for slug in ("acme", "globex", "initech")]
    used = {part: sum(each.summary.tokens.get(part) for each in reports) for part in Component}
    pages = Pages(
        shop.usage,
        RecentService(shop.database, zone_of, shop.clock),
        shop.invoicing,
        watch_of(shop),
        shop.clock,
    )
    month = (await pages.home()).requests.totals[1]
    assert (month.requests, month.input, month.cached, month.output, month.reasoning) == tuple(
        f"{number:,}"
        for number in (
            sum(each.summary.requests for each in reports),
            used[Component.UNCACHED_INPUT] + used[Component.CACHED_INPUT] + used[Component.CACHE_WRITE],
            used[Component.CACHED_INPUT],
            used[Component.ANSWER_OUTPUT] + used[Component.REASONING],
            used[Component.REASONING],
        )
    )
    assert month.input in text_of((await operator.get("/")).text)


async def test_the_last_twenty_are_shown_latest_first_each_with_what_its_trace_says(shop: Shop) -> None:
    await shop.furnish()
    traces = await RecentService(shop.database, zone_of, shop.clock).recent(20)
    assert [each.record.id for each in traces] == sorted((each.record.id for each in traces), reverse=True)
    assert len(traces) == 20
    for each in traces:
        assert each == await shop.invoicing.trace(str(each.record.id))


async def test_positions_of_a_month_are_computed_beside_the_event_loop(shop: Shop) -> None:
    await shop.furnish()
    asked: list[str] = []

    async def aside(work: Callable[..., Positions], *given: object) -> Positions:
        asked.append(work.__name__)
        return await asyncio.to_thread(work, *given)

    found = await RecentService(shop.database, zone_of, shop.clock, aside).recent(20)
    assert found == await RecentService(shop.database, zone_of, shop.clock).recent(20)
    assert asked == ["billed_positions"], "globex has tiers, so its month is computed"


async def test_unknown_counts_and_names_that_are_markup_are_shown_as_text(
    operator: httpx.AsyncClient,
) -> None:
    page = (await operator.get("/")).text
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "interrupted" in page
    assert re.search(r"unknown.*30.*waived", text_of(page))


async def test_a_request_has_a_page_that_says_what_the_trace_says(
    shop: Shop, operator: httpx.AsyncClient
) -> None:
    usage_id = re.findall(r'href="/requests/([0-9a-f-]{36})"', (await operator.get("/")).text)[0]
    answer = await operator.get(f"/requests/{usage_id}")
    seen = text_of(answer.text)
    assert "uncached input 5 tokens 0.50 1,000 0.0025 per-token v1, golden" in seen
    assert "Estimate USD 0.1224 until the period is closed" in seen
    assert "This request will be billed." in seen


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/requests/01a20c96-63a8-7bba-b644-a70c1bc3cba7", 404, "no usage record"),
        ("/requests/x", 400, "is not a usage id"),
        (f"/requests/{HOSTILE.replace('/', '')}", 400, "is not a usage id"),
        ("/requests/%00", 404, "holds the character NUL"),
        ("/requests/%ff%ff", 400, "is not a usage id"),
        (f"/requests/{'x' * 30_000}", 400, "is not a usage id"),
        ("/invoices/INV-999999", 404, "there is no invoice"),
        ("/invoices/%00", 404, "holds the character NUL"),
        ("/invoices/INV-%00/json", 404, "holds the character NUL"),
        ("/invoices/INV-000001%00/csv", 404, "holds the character NUL"),
        ("/invoices/%ED%A0%80", 404, "there is no invoice"),
        ("/invoices/%zz", 404, "there is no invoice"),
        (f"/invoices/{'x' * 30_000}", 404, "there is no invoice"),
        ("/static/%00", 404, "there is no file"),
        ("/static/routes.py", 404, "there is no file"),
    ],
)
async def test_what_is_not_there_is_said(
    operator: httpx.AsyncClient, path: str, status: int, sentence: str
) -> None:
    answer = await operator.get(path)
    assert answer.status_code == status
    assert sentence in text_of(answer.text)
    assert "<script>alert" not in answer.text


async def test_an_issued_invoice_is_listed_and_has_a_page_and_two_formats(
    shop: Shop, operator: httpx.AsyncClient
) -> None:
    (closed,) = await shop.invoicing.close(MONTH, "globex", early=True, wait_s=None)
    assert closed.invoice
    number, total = closed.invoice.number, f"{closed.invoice.total:f}"
    await shop.save(shop.used("globex", 1, counts(10, 5)))
    listed = text_of((await operator.get("/")).text)
    assert f"{number} globex {MONTH} early {total} EUR Late usage: 1 request, 15 tokens" in listed
    assert listed.count("so far") == 2, "its month is on its invoice; the others' go on"
    page = text_of((await operator.get(f"/invoices/{number}")).text)
    for words in (
        "Closed early",
        "included",
        "tier 2",
        "Fee for the period",
        f"{total} EUR",
        "Late usage: 1 request",
    ):
        assert words in page
    as_json = await operator.get(f"/invoices/{number}/json")
    assert json.loads(as_json.content)["content"]["total"] == total
    assert as_json.headers["content-disposition"] == f'attachment; filename="{number}.json"'
    rows = list(csv.DictReader(StringIO((await operator.get(f"/invoices/{number}/csv")).text)))
    assert sum(int(row["amount_minor"]) for row in rows) == closed.invoice.total_minor


async def test_a_month_with_an_invoice_is_not_so_far_again_when_the_list_ends_before_it(
    shop: Shop, operator: httpx.AsyncClient
) -> None:
    for number in range(ISSUED_MAX):
        slug = f"zeta-{number}"
        await shop.add_tenant(slug, slug, "graduated")
        await shop.save(shop.used(slug, 30, counts(10, 5)))
    closed = await shop.invoicing.close(MONTH, early=True, wait_s=None)
    assert sum(each.invoice is not None for each in closed) == ISSUED_MAX + 2
    seen = text_of((await operator.get("/")).text)
    assert seen.count(f"{MONTH} early") == ISSUED_MAX
    assert re.findall(rf"so far (\S+) {MONTH}", seen) == ["initech"], "it alone has no invoice"


async def test_before_the_first_request_the_page_says_what_to_do(stranger: httpx.AsyncClient) -> None:
    await stranger.post("/login", data={"token": TOKEN})
    page = (await stranger.get("/")).text
    assert "No request has been recorded yet." in page
    assert "curl http://127.0.0.1:8090/v1/chat/completions" in page


async def test_while_the_database_is_away_the_page_says_so(shop: Shop, time: Time) -> None:
    await shop.database.close()
    async with (
        shop_at("postgresql://nobody@127.0.0.1:1/nothing", time) as lost,
        browser(application(lost, watch_of(lost))) as client,
    ):
        await client.post("/login", data={"token": TOKEN})
        answer = await client.get("/")
        assert (answer.status_code, "Postgres cannot be reached" in answer.text) == (503, True)


async def test_what_the_engines_counted_is_held_beside_the_records(shop: Shop, time: Time) -> None:
    await shop.furnish()
    page = {"input": 0, "output": 0}

    async def fetch(url: str) -> str:
        used = page if ":8081" in url else {"input": 0, "output": 0}
        return f"llamacpp:prompt_tokens_total {used['input']}\nllamacpp:tokens_predicted_total {used['output']}\n"

    watch = watch_of(shop, fetch)
    await watch.look()
    page.update(input=1_013, output=53)
    await shop.save(shop.used("acme", 0, counts(1_013, 53, cached=1_008)))
    await watch.look()
    async with browser(application(shop, watch)) as client:
        await client.post("/login", data={"token": TOKEN})
        seen = text_of((await client.get("/")).text)
    assert re.search(r"gpu-1 llama\.cpp equal input 1,013 1,013 0 output 53 53 0 1 request since", seen)


async def test_totals_pace_and_backends_are_summed_from_what_is_on_record(shop: Shop, time: Time) -> None:
    await shop.furnish()
    acme = shop.keys["acme"][0]
    day_us, end_us = at("2026-11-24T00:00:00Z"), at("2026-12-01T00:00:00Z")
    everybody = await shop.usage.totals(None, day_us, end_us)
    assert sum(each.requests for each in everybody) == 30
    assert sum(each.requests for each in await shop.usage.totals(acme, day_us, end_us)) < 30
    assert await shop.usage.totals(acme, end_us, end_us + 1) == []
    pace = await shop.usage.pace(time.us - 10_000_000, 5)
    assert (pace.requests, pace.input, pace.output, len(pace.first_token_us)) == (2, 1_031, 84, 5)
    backends = {each.backend_id: each for each in await shop.usage.backend_totals(time.us - 18_500_000)}
    assert backends[shop.backends["gpu-2"]].input == 2_048
    assert backends[shop.backends["gpu-1"]].requests_unknown == 1
    assert backends[shop.backends["gpu-1"]].requests_cut == 2
