"""Tenants with plans and usage on a real Postgres, and services that close their months."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import text

from billing.infra.postgres import Database
from billing.infra.system import new_id, random_bytes
from billing.infra.zones import zone_of
from billing.invoicing.close import CloseResult
from billing.invoicing.service import InvoicingService
from billing.ledger.service import LedgerService
from billing.metering import store
from billing.metering.event import UsageRecord
from billing.metering.journal import Cursor
from billing.metering.rows import sort_out
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService
from billing.tenants.tenant import Tenant
from tests.invoice_kit import SPOOL, at, record, usage, usage_id

DECEMBER = at("2026-12-02T00:00:00Z")
"""After November has ended in every zone."""
UNIT_PLAN = """\
plan: unit
currency: USD
label: Unit prices
versions:
  - effective: 2025-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: "*", input: 0.50, cached_input: 0.05, output: 1.50, reasoning: 1.00}
"""
GRADUATED_PLAN = """\
plan: graduated
currency: USD
label: Graduated prices with a fee
versions:
  - effective: 2025-01-01T00:00:00Z
    per: 1000
    monthly_fee: "20.00"
    rates:
      - model: "*"
        input: {price: "0.40", allowance: 100}
        output:
          allowance: 10
          tiers:
            - {up_to: 100, price: "2.00"}
            - {price: "1.20"}
"""


class Office:
    """A database seen as an operator does, at an instant that the test sets."""

    def __init__(self, url: str, operator: Database | None = None) -> None:
        self.url = url
        self.now_us = DECEMBER
        self.operator = operator or Database(url, role="control", pool_size=2)
        self.recorder = Database(url, role="recorder", pool_size=2)
        acting = self.operator.acting_as("cli:test")
        self.tenants = TenantService(acting, self.clock, new_id, random_bytes)
        self.pricing = PricingService(acting, self.clock, new_id)
        self.invoicing = InvoicingService(acting, self.clock, new_id, zone_of)
        self.ledger = LedgerService(acting)

    def clock(self) -> int:
        return self.now_us

    async def close_pools(self) -> None:
        await self.operator.close()
        await self.recorder.close()

    async def execute(self, *statements: str, **values: object) -> None:
        """Statements in one transaction, under the operator's role."""
        async with self.operator.transaction() as connection:
            for statement in statements:
                await connection.execute(text(statement), values)

    async def tenant(self, slug: str, plan: str | None = None, timezone: str = "UTC") -> Tenant:
        made = await self.tenants.create_tenant(slug, slug.title(), timezone)
        if plan is not None:
            await self.pricing.subscribe(made.id, plan, at("2026-01-01T00:00:00Z"))
        return made

    async def plans(self) -> None:
        await self.pricing.apply(UNIT_PLAN)
        await self.pricing.apply(GRADUATED_PLAN)

    async def save(self, records: Sequence[UsageRecord]) -> None:
        """Records in one transaction, by the recorder's own statements and under its locks."""
        async with self.recorder.transaction() as connection:
            await store.partitions_ensure(connection, self.now_us)
            ids = [each.opened.tenant_id for each in records]
            collections = await store.collections_read(connection, ids)
            rows = sort_out(records, collections, await store.partitions_covered(connection))
            assert not rows.rejected, rows.rejected
            await store.records_insert(connection, rows.rows, SPOOL, self.now_us)

    async def use(self, tenant: Tenant, *instants: str, number: int = 0, **fields: int) -> None:
        """One request at each instant: 1,000 tokens in and 100 out unless said."""
        used = usage(fields.get("input_tokens", 1_000), fields.get("output_tokens", 100))
        await self.save([record(usage_id(each, number), used, tenant_id=tenant.id) for each in instants])

    async def close(self, slug: str | None = None, **options: bool) -> list[CloseResult]:
        return await self.invoicing.close("2026-11", slug, wait_s=None, **options)

    async def issue(self, slug: str, **options: bool) -> str:
        """Close November of a tenant and return the number of its invoice."""
        [result] = await self.close(slug, **options)
        assert result.invoice is not None, result
        assert result.invoice.number is not None
        return result.invoice.number

    async def spool(self, spool_id: UUID, through_us: int | None, *, closed: bool = False) -> None:
        """A spool of another host, recorded through an instant."""
        async with self.recorder.transaction() as connection:
            await store.spools_register(connection, [spool_id], "gpu-7", self.now_us)
            cursor = Cursor()
            await store.cursor_move(connection, spool_id, cursor, self.now_us if closed else None, through_us)


class Killed(BaseException):
    """The process died here. No error: whoever handles errors is dead as well."""


class DyingDatabase(Database):
    """A database whose process dies just before it would begin its ``number``-th transaction."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(url, role="control")
        self.left = number

    def transaction(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as the method it stands for
        self.left -= 1
        if self.left == 0:
            raise Killed
        return super().transaction()


def totals(results: Iterable[CloseResult]) -> dict[str, int | None]:
    """What each tenant owes by its slug."""
    return {each.tenant: each.invoice.total_minor if each.invoice else None for each in results}
