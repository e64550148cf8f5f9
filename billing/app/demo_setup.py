"""The demo's two tenants, their plans and the limit of one of them."""

import contextlib
from datetime import UTC

import msgspec

from billing.app.demo_check import Totals
from billing.app.demo_engines import Engines
from billing.errors import Conflict, NotFound
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.infra.zones import zone_of
from billing.invoicing.invoice import InvoiceSummary
from billing.invoicing.period import month_of
from billing.invoicing.service.invoicing import InvoicingService
from billing.limits.limit import Meter
from billing.limits.service import LimitService
from billing.metering.service import UsageService
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService

UNIT_PLAN = """\
plan: demo-unit
currency: USD
label: Demo prices per 1,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - model: golden
        input: "0.50"
        cached_input: "0.05"
        output: "1.50"
        reasoning: "1.00"
      - model: slow
        input: "1.00"
        cached_input: "0.10"
        output: "3.00"
        reasoning: "2.00"
      - model: golden-embeddings
        input: "0.20"
        output: free
"""
GRADUATED_PLAN = """\
plan: demo-graduated
currency: USD
label: Demo prices per 1,000 tokens, graduated, with a monthly fee and included tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    monthly_fee: "20.00"
    rates:
      - model: "*"
        input:
          price: "0.40"
          allowance: 100
        output:
          allowance: 100
          tiers:
            - up_to: 100
              price: "2.00"
            - price: "1.20"
"""
UNIT_TENANT = ("acme", "Acme Inference Ltd", "demo-unit")
GRADUATED_TENANT = ("globex", "Globex Research GmbH", "demo-graduated")
LIMIT_REQUESTS_PER_MINUTE = 30
LIMIT_BURST = 4
"""Four requests at once, then one every two seconds."""
RUNS_MAX = 1_000


class Customer(msgspec.Struct, frozen=True):
    """A tenant of the demo and its new key."""

    slug: str
    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"<Customer {self.slug}>"


class DemoServices:
    """The services that the demo works with, on one database."""

    def __init__(self, database: Database) -> None:
        database = database.acting_as("demo")
        self.tenants = TenantService(database, now_us, new_id, random_bytes)
        self.pricing = PricingService(database, now_us, new_id)
        self.fleet = FleetService(database, now_us, new_id)
        self.limits = LimitService(database, now_us, new_id)
        self.usage = UsageService(database)
        self.invoicing = InvoicingService(database, now_us, new_id, zone_of)

    def __repr__(self) -> str:
        return f"<DemoServices {self.invoicing!r}>"

    def month(self) -> str:
        """The month that goes on, in UTC as both tenants have it."""
        return month_of(now_us(), UTC).month

    async def set_up(self, engines: Engines) -> tuple[Customer, Customer]:
        """Models, plans, both tenants with new keys; what an earlier run left of models and plans is used again.

        A month is closed once: while both had theirs closed already, the tenants get a number behind their name.
        """
        for name, server in engines.by_model().items():
            await self.fleet.put_backend(name, server.url, "llama.cpp")
            with contextlib.suppress(Conflict):
                await self.fleet.add_model(name, [DeploymentRequest(backend=name)])
        for plan in (UNIT_PLAN, GRADUATED_PLAN):
            await self.pricing.apply(plan)
        suffix = await self._suffix()
        acme = await self._customer(*UNIT_TENANT, suffix)
        globex = await self._customer(*GRADUATED_TENANT, suffix)
        await self.limits.set(globex.slug, Meter.REQUESTS, LIMIT_REQUESTS_PER_MINUTE, burst=LIMIT_BURST)
        return acme, globex

    async def invoice_of(self, slug: str) -> InvoiceSummary:
        """The invoice of a tenant's month that goes on."""
        found = await self.invoicing.invoices(slug, self.month(), rows_max=1)
        return found[0]

    async def totals(self, invoice: InvoiceSummary) -> Totals:
        """A tenant's tokens on every surface."""
        tenant = await self.tenants.tenant(invoice.tenant)
        month = month_of(invoice.period.start_us, zone_of(invoice.time_zone))
        rows = await self.usage.totals(tenant.id, month.start_us, month.end_us)
        placed = (await self.invoicing.reconciliation(invoice.number or "")).tokens
        return Totals(
            tenant=tenant.slug,
            records=await self.usage.recorded_tokens(tenant.id, month.start_us, month.end_us),
            rollup=sum(row.tokens.total for row in rows),
            billed=placed.billed,
            waived=placed.waived,
            review=placed.review,
            late=placed.late,
        )

    async def _suffix(self) -> str:
        for run in range(1, RUNS_MAX + 1):
            suffix = "" if run == 1 else f"-{run}"
            if not await self._is_closed(UNIT_TENANT[0] + suffix) and not await self._is_closed(
                GRADUATED_TENANT[0] + suffix
            ):
                return suffix
        raise Conflict(f"{RUNS_MAX} runs have left their tenants here; remove the demo's data folder")

    async def _is_closed(self, slug: str) -> bool:
        try:
            return bool(await self.invoicing.invoices(slug, self.month(), rows_max=1))
        except NotFound:
            return False

    async def _customer(self, slug: str, name: str, plan: str, suffix: str) -> Customer:
        slug += suffix
        with contextlib.suppress(Conflict):
            await self.tenants.create_tenant(slug, name)
        tenant = await self.tenants.tenant(slug)
        with contextlib.suppress(Conflict):
            await self.pricing.subscribe(tenant.id, plan)
        return Customer(slug, (await self.tenants.create_key(slug, "demo")).secret.text)
