"""Gathers what the pages show from the services. Everybody who looks at once is shown the same values."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND, Clock, month_start, next_month_start
from billing.dashboard import format as written
from billing.dashboard import view
from billing.dashboard.engine_view import EngineRow, engine_row
from billing.dashboard.invoice_view import InvoicePage, InvoiceRow, invoice_page, issued_row, preview_row
from billing.dashboard.kept import Kept
from billing.dashboard.limit_view import Decisions, LimitRow, limit_rows
from billing.dashboard.trace_view import TracePage, trace_page
from billing.dashboard.watch import EngineState
from billing.invoicing.invoice import InvoiceDocument, InvoiceSummary
from billing.invoicing.late import LateUsage
from billing.invoicing.service import Preview
from billing.invoicing.trace import Trace
from billing.metering.totals.total import Pace, UsageTotal

REQUESTS_SHOWN = 20
FIRST_TOKENS_MAX = 100
PREVIEWS_MAX = 8
"""Tenants whose present month is shown as it stands: those with most requests in it that have no invoice of it yet."""
ISSUED_MAX = 8
PACE_WINDOW_US = 60 * MICROSECONDS_PER_SECOND
DAY_US = 86_400 * MICROSECONDS_PER_SECOND
REQUESTS_AGE_US = MICROSECONDS_PER_SECOND // 2
INVOICES_AGE_US = LIMITS_AGE_US = 3 * MICROSECONDS_PER_SECOND


class Usage(Protocol):
    """What was used; ``UsageService`` is one."""

    async def totals(self, tenant_id: UUID | None, start_us: int, end_us: int) -> list[UsageTotal]:
        """Sums of the rollup in ``[start, end)``."""
        ...

    async def pace(self, since_us: int, first_tokens_max: int) -> Pace:
        """What arrived since an instant."""
        ...


class Recent(Protocol):
    """The latest requests; ``RecentService`` is one."""

    async def recent(self, rows_max: int) -> list[Trace]:
        """Latest first."""
        ...


class Invoicing(Protocol):
    """Traces and invoices; ``InvoicingService`` is one."""

    async def trace(self, usage_id_text: str) -> Trace:
        """One request."""
        ...

    async def preview(self, tenant_slug: str, month: str | None = None) -> Preview:
        """What a tenant owes so far."""
        ...

    async def tenants_not_invoiced(self, start_us: int, end_us: int, rows_max: int) -> list[str]:
        """Tenants with usage in ``[start, end)`` whose present month has no invoice, most requests first."""
        ...

    async def invoices(
        self,
        tenant_slug: str | None = None,
        month: str | None = None,
        *,
        after: UUID | None = None,
        rows_max: int,
    ) -> list[InvoiceSummary]:
        """Invoices, newest first."""
        ...

    async def invoice(self, number: str) -> InvoiceDocument:
        """An issued invoice."""
        ...

    async def late(self, number: str) -> LateUsage:
        """What came too late for it."""
        ...


class Engines(Protocol):
    """The engines at the last look; ``EngineWatch`` is one."""

    states: tuple[EngineState, ...]
    looked_us: int | None


Decided = Callable[[], Decisions]
"""What limits decided on this machine; reads files, so it is called in a thread."""


class Requests(msgspec.Struct, frozen=True):
    """The upper part of the first page, gathered at one instant."""

    rows: tuple[view.RequestRow, ...]
    totals: tuple[view.TotalsRow, ...]
    outcomes: tuple[view.OutcomeShare, ...]
    speed: view.Speed


class Home(msgspec.Struct, frozen=True):
    """The first page."""

    now: str
    requests: Requests
    engines: tuple[EngineRow, ...]
    engines_looked: str
    limits: tuple[LimitRow, ...]
    invoices: tuple[InvoiceRow, ...]


class Pages:
    """What each page shows. Raises what the services raise."""

    def __init__(
        self,
        usage: Usage,
        recent: Recent,
        invoicing: Invoicing,
        engines: Engines,
        clock: Clock,
        decided: Decided = dict,
    ) -> None:
        self._usage = usage
        self._recent = recent
        self._invoicing = invoicing
        self._engines = engines
        self._clock = clock
        self._requests = Kept(self._gather_requests, REQUESTS_AGE_US, clock)
        self._decided = decided
        self._limits = Kept(self._gather_limits, LIMITS_AGE_US, clock)
        self._invoices = Kept(self._gather_invoices, INVOICES_AGE_US, clock)

    def __repr__(self) -> str:
        return f"<Pages requests={self._requests!r} invoices={self._invoices!r}>"

    async def home(self) -> Home:
        """The first page as things stand."""
        looked_us = self._engines.looked_us
        requests, invoices = await self._requests.get(), await self._invoices.get()
        limits = await self._limits.get()
        return Home(
            now=f"{written.clock(self._clock())} UTC",
            requests=requests,
            engines=tuple(map(engine_row, self._engines.states)),
            engines_looked="" if looked_us is None else written.ago(looked_us, self._clock()),
            limits=limits,
            invoices=invoices,
        )

    async def trace(self, usage_id: str) -> TracePage:
        """The page of a request."""
        return trace_page(await self._invoicing.trace(usage_id))

    async def invoice(self, number: str) -> InvoicePage:
        """The page of an issued invoice."""
        return invoice_page(await self._invoicing.invoice(number), await self._invoicing.late(number))

    async def invoice_document(self, number: str) -> InvoiceDocument:
        """An issued invoice, to be sent in another format."""
        return await self._invoicing.invoice(number)

    async def _gather_requests(self) -> Requests:
        now_us = self._clock()
        day_us, month_us = now_us - now_us % DAY_US, month_start(now_us)
        # Up to the month's end, as an invoice's period is: a clock that differs makes no request vanish.
        end_us = next_month_start(now_us)
        today = await self._usage.totals(None, day_us, end_us)
        month = await self._usage.totals(None, month_us, end_us)
        pace = await self._usage.pace(now_us - PACE_WINDOW_US, FIRST_TOKENS_MAX)
        return Requests(
            rows=view.request_rows(await self._recent.recent(REQUESTS_SHOWN), now_us),
            totals=(
                view.totals_row("Today", day_us, today),
                view.totals_row(view.month_title(now_us), month_us, month),
            ),
            outcomes=view.outcome_shares(today),
            speed=view.speed(pace, PACE_WINDOW_US),
        )

    async def _gather_limits(self) -> tuple[LimitRow, ...]:
        return limit_rows(await asyncio.to_thread(self._decided))

    async def _gather_invoices(self) -> tuple[InvoiceRow, ...]:
        now_us = self._clock()
        found = await self._invoicing.invoices(rows_max=ISSUED_MAX)
        issued = [issued_row(each, await self._late(each)) for each in found]
        slugs = await self._invoicing.tenants_not_invoiced(
            month_start(now_us), next_month_start(now_us), PREVIEWS_MAX
        )
        return (*issued, *await self._so_far(slugs))

    async def _so_far(self, slugs: Sequence[str]) -> list[InvoiceRow]:
        """What the present months come to, of tenants that have no invoice of theirs.

        What a month comes to is on its invoice once there is one, shown in the list or older than what the list holds;
        what came after it is that invoice's late usage. One that is issued between two looks is left out.
        """
        found = [await self._invoicing.preview(slug) for slug in slugs]
        return [preview_row(each) for each in found if each.invoice is None]

    async def _late(self, found: InvoiceSummary) -> LateUsage | None:
        return None if found.number is None else await self._invoicing.late(found.number)
