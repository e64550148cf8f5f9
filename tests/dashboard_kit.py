"""A database with tenants that used something lately, and the pages on it, for tests of the dashboard."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
from litestar import Litestar

from billing.access.token import hash_of
from billing.clock import MICROSECONDS_PER_SECOND
from billing.dashboard.access import Access
from billing.dashboard.gate import Gate
from billing.dashboard.pages import Pages
from billing.dashboard.routes import dashboard_handlers
from billing.dashboard.watch import EngineWatch
from billing.fleet.service import FleetService
from billing.ids import RANDOM_BYTES, uuid7
from billing.infra.postgres import Database
from billing.infra.system import random_bytes
from billing.infra.zones import zone_of
from billing.invoicing.recent.service import RecentService
from billing.invoicing.service import InvoicingService
from billing.metering.event import UsageRecord
from billing.metering.service import UsageService
from billing.metering.stored import StoredCount, StoredRecord
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService
from billing.tokens.usage import UNKNOWN, Count, Outcome, Provenance, TokenUsage
from tests.invoice_kit import record, save
from tests.metering_kit import id_maker

TOKEN = "adm-a-token-for-tests-only"
GATEWAY_URL = "http://127.0.0.1:8090"
HOSTILE = "<script>alert(1)</script>"
"""What a tenant may call itself; a page shows it as text."""
PLANS = (
    """\
plan: per-token
currency: USD
label: Per token, per 1,000
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: 0.50, cached_input: 0.05, output: 1.50, reasoning: 1.00}
""",
    """\
plan: graduated
currency: EUR
label: Graduated, with a fee and an allowance
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    monthly_fee: "20.00"
    rates:
      - model: golden
        input: {price: "0.40", allowance: 5000}
        output: {tiers: [{up_to: 1000, price: "2.00"}, {price: "1.20"}]}
""",
)


class Shop:
    """Services on a database, wired as the control process wires them, with a clock of the test's."""

    def __init__(self, url: str, clock: Callable[[], int]) -> None:
        self.url = url
        self.clock = clock
        self.database = Database(url, role="control", pool_size=2)
        self.tenants = TenantService(self.database, clock, id_maker(1, clock), random_bytes)
        self.fleet = FleetService(self.database, clock, id_maker(2, clock))
        self.pricing = PricingService(self.database, clock, id_maker(3, clock))
        self.invoicing = InvoicingService(self.database, clock, id_maker(4, clock), zone_of)
        self.usage = UsageService(self.database)
        self.keys: dict[str, tuple[UUID, UUID]] = {}
        self.backends: dict[str, UUID] = {}

    async def add_tenant(self, slug: str, name: str, plan: str | None = None) -> UUID:
        """A tenant with a key and perhaps a plan; returns its id."""
        tenant = await self.tenants.create_tenant(slug, name)
        key = await self.tenants.create_key(slug, "laptop")
        self.keys[slug] = (tenant.id, key.key.id)
        if plan is not None:
            await self.pricing.subscribe(tenant.id, plan)
        return tenant.id

    async def add_backend(self, name: str, port: int) -> UUID:
        """A backend on this machine; returns its id."""
        made = await self.fleet.add_backend(name, f"http://127.0.0.1:{port}", "llama.cpp")
        self.backends[name] = made.id
        return made.id

    def used(
        self, slug: str, seconds_ago: int, used: TokenUsage, backend: str = "gpu-1", **kind: object
    ) -> UsageRecord:
        """A record of a tenant's, so long before now."""
        tenant_id, key_id = self.keys[slug]
        seed = random.Random(f"{slug} {seconds_ago}")
        usage_id = uuid7(self.clock() - seconds_ago * MICROSECONDS_PER_SECOND, seed.randbytes(RANDOM_BYTES))
        made = record(
            usage_id, used, tenant_id=tenant_id, key_id=key_id, backend_id=self.backends[backend], **kind
        )  # type: ignore[arg-type]  # passed on as they are
        return msgspec.structs.replace(
            made, ttft_us=seed.randrange(30_000, 250_000), itl_us=seed.randrange(4_000, 18_000),
            duration_us=seed.randrange(400_000, 9_000_000),
        )  # fmt: skip

    async def save(self, *records: UsageRecord) -> None:
        """Put records where the recorder puts them."""
        await save(self.url, records, self.clock())

    async def furnish(self) -> None:
        """Two tenants with plans, one without, two backends, and requests of every kind."""
        for plan in PLANS:
            await self.pricing.apply(plan)
        await self.add_tenant("acme", "Acme Inference Ltd", "per-token")
        await self.add_tenant("globex", HOSTILE, "graduated")
        await self.add_tenant("initech", "Initech")
        await self.add_backend("gpu-1", 8081)
        await self.add_backend("gpu-2", 8082)
        await self.save(*self.records())

    def records(self) -> list[UsageRecord]:
        """Thirty requests of the last minutes."""
        seed = random.Random(4)
        plain = [
            self.used(
                seed.choice(["acme", "globex"]), 20 + 13 * place,
                counts(seed.randrange(12, 4_000), seed.randrange(20, 900), cached=seed.choice([None, 0, 512]),
                       reasoning=seed.choice([None, 20, 20])),
                seed.choice(["gpu-1", "gpu-2"]),
            )
            for place in range(23)
        ]  # fmt: skip
        return [
            *plain,
            self.used("acme", 4, counts(1_013, 53, cached=1_008, reasoning=20)),
            self.used(
                "globex",
                9,
                counts(18, 31, provenance=Provenance.RUNNING),
                outcome=Outcome.CLIENT_CLOSED,
                status=499,
            ),
            self.used(
                "acme",
                15,
                counts(None, 30, provenance=Provenance.RUNNING),
                outcome=Outcome.INTERRUPTED,
                status=0,
            ),
            self.used("acme", 17, counts(0, 0), outcome=Outcome.UPSTREAM_ERROR, status=502),
            self.used(
                "globex", 18, counts(640, 210, provenance=Provenance.COUNTED), model="golden-embeddings"
            ),
            self.used("acme", 19, counts(640, 77, provenance=Provenance.ESTIMATED)),
            self.used("initech", 11, counts(2_048, 12), "gpu-2"),
        ]


def counts(
    input_tokens: int | None,
    output_tokens: int | None,
    *,
    cached: int | None = None,
    reasoning: int | None = None,
    provenance: Provenance = Provenance.REPORTED,
) -> TokenUsage:
    """Counts known in one way; None is not known."""

    def count(value: int | None) -> Count:
        return UNKNOWN if value is None else Count(value, provenance, "usage")

    within = None if input_tokens is None or cached is None else min(cached, input_tokens)
    return TokenUsage(count(input_tokens), count(within), UNKNOWN, count(output_tokens), count(reasoning))


def stored_record(at_us: int) -> StoredRecord:
    """A record as it is stored: 1,013 of input, 1,008 of them cached, 53 of output, 20 of them reasoning."""
    known = {name: StoredCount(value, "reported", "usage") for name, value in
             (("input", 1_013), ("cached_input", 1_008), ("output", 53), ("reasoning", 20))}  # fmt: skip
    return StoredRecord(
        tenant_id=UUID(int=1), id=uuid7(at_us, bytes(RANDOM_BYTES)), project_id=None, key_id=UUID(int=2),
        model="golden", backend_id=UUID(int=3), engine="llama.cpp", operation="chat", stream=True,
        service_tier="standard", outcome="complete", status=200, provenance="reported", **known,
        cache_write=StoredCount(None, None, None), input_estimate=17, ttft_us=12_345, itl_us=4_190,
        duration_us=230_456, response_model="golden-f16.gguf", response_id="chatcmpl-1", error=None,
        end_user="user-17", idempotency_key=None, tags={}, collection=1, payload_hash=b"", spool_id=None,
        recorded_us=at_us,
    )  # fmt: skip


async def no_sleep(_seconds: float) -> None:
    """A delay that a test need not wait for."""


async def no_engine(_url: str) -> str:
    """An engine without a page."""
    return ""


def application(
    shop: Shop, watch: EngineWatch, *, token_hash: str | None = hash_of(TOKEN), session_s: int = 3_600
) -> Litestar:
    """The pages as an application of their own."""
    pages = Pages(
        shop.usage, RecentService(shop.database, zone_of, shop.clock), shop.invoicing, watch, shop.clock
    )
    access = Access(token_hash, session_s, shop.clock, Gate(shop.clock, no_sleep))
    return Litestar(dashboard_handlers(pages, access, GATEWAY_URL), openapi_config=None, logging_config=None)


@asynccontextmanager
async def shop_at(url: str, clock: Callable[[], int]) -> AsyncIterator[Shop]:
    """A shop whose database is closed at the end."""
    shop = Shop(url, clock)
    try:
        yield shop
    finally:
        await shop.database.close()


def watch_of(shop: Shop, fetch: Callable[[str], Awaitable[str]] = no_engine) -> EngineWatch:
    """A watch that looks when a test says so."""
    return EngineWatch(shop.fleet, shop.usage, shop.clock, fetch)
