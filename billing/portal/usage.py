"""``/v1/usage``: what the caller's tenant used, in sums of a month and request by request."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from billing import money
from billing.clock import to_datetime
from billing.errors import NotFound
from billing.ids import instant_of
from billing.invoicing.service import UsageReport
from billing.invoicing.trace import Parties, trace
from billing.invoicing.usage_summary import UsageLine
from billing.metering.rollup import NO_PROVENANCE
from billing.metering.stored import StoredCount, StoredRecord
from billing.portal.caller import Calling
from billing.portal.services import Portal
from billing.pricing.billable import Disposition
from billing.tokens.components import Component, Components


class UsageLineDocument(msgspec.Struct, frozen=True):
    """One model whose counts are known in one way; ``tokens`` null where they are not known."""

    model: str
    provenance: str
    requests: int
    tokens: int | None
    components: dict[str, int | None]


class UsageDocument(msgspec.Struct, frozen=True):
    """What was used in a month of the tenant's time zone, as of an instant; ``requests_unknown`` used more than is counted."""

    tenant: str
    period: str
    start: str
    end: str
    as_of: str
    requests: int
    requests_unknown: int
    tokens: int
    components: dict[str, int]
    outcomes: dict[str, int]
    lines: list[UsageLineDocument]


class CostDocument(msgspec.Struct, frozen=True):
    """What one request costs by itself; ``estimate`` where its invoice may say something else."""

    amount: str | None
    currency: str | None
    estimate: bool
    disposition: Disposition
    """Whether it is billed, waived or reviewed, by how it ended and how its counts are known."""
    unrated: list[str]


class RecordDocument(msgspec.Struct, frozen=True):
    """One request of the tenant's. ``input`` holds ``cached_input``, ``output`` holds ``reasoning``; null is unknown."""

    id: UUID
    at: str
    model: str
    operation: str
    stream: bool
    outcome: str
    status: int
    input: StoredCount
    cached_input: StoredCount
    cache_write: StoredCount
    output: StoredCount
    reasoning: StoredCount
    parts: dict[str, StoredCount]
    ttft_us: int | None
    itl_us: int | None
    duration_us: int | None
    end_user: str | None
    tags: dict[str, str]
    cost: CostDocument


def usage_handlers(portal: Portal) -> list[HTTPRouteHandler]:
    """The routes, over what they work with."""

    @get("/usage", include_in_schema=False)
    async def read_usage(request: Calling, period: FromQuery[str | None] = None) -> UsageDocument:
        """The month that goes on, or the ``period`` (``2026-11``) that is asked for."""
        caller = request.user
        return _document(await portal.invoicing(caller).usage(caller.tenant, period))

    @get("/usage/{usage_id:str}", include_in_schema=False)
    async def read_record(request: Calling, usage_id: FromPath[str]) -> RecordDocument:
        """One request, by what its reply carried as ``x-request-id``."""
        caller = request.user
        record = await portal.usage(caller).record(_id(usage_id))
        if record is None:
            raise NotFound(f"there is no record of {usage_id[:80]!r} (yet)", "usage_id")
        return _record(record, _cost(portal, record))

    return [read_usage, read_record]


def written(instant_us: int) -> str:
    """An instant as ``2026-11-24T10:00:00Z``."""
    return to_datetime(instant_us).isoformat().replace("+00:00", "Z")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(
            f"{text[:80]!r} is no usage id; a reply carries its own as x-request-id", "usage_id"
        ) from None


def _document(report: UsageReport) -> UsageDocument:
    summary = report.summary
    return UsageDocument(
        tenant=report.tenant.slug,
        period=str(report.period),
        start=written(report.period.start_us),
        end=written(report.period.end_us),
        as_of=written(report.as_of_us),
        requests=summary.requests,
        requests_unknown=sum(line.requests for line in summary.lines if line.provenance == NO_PROVENANCE),
        tokens=summary.tokens.total,
        components=_parts(summary.tokens),
        outcomes={each.outcome: each.requests for each in summary.outcomes},
        lines=[_line(line) for line in summary.lines],
    )


def _line(line: UsageLine) -> UsageLineDocument:
    absent = None if line.provenance == NO_PROVENANCE else 0
    known = {part: tokens or absent for part, tokens in _parts(line.tokens).items()}
    return UsageLineDocument(line.model, line.provenance, line.requests, line.tokens.total or absent, known)


def _parts(tokens: Components) -> dict[str, int]:
    return {part.value: tokens.get(part) for part in Component}


def _record(record: StoredRecord, cost: CostDocument) -> RecordDocument:
    shown: dict[str, Any] = {name: getattr(record, name) for name in _SHARED}
    return RecordDocument(**shown, at=written(instant_of(record.id)), cost=cost)


_SHARED = tuple(name for name in RecordDocument.__struct_fields__ if name not in {"at", "cost"})


def _cost(portal: Portal, record: StoredRecord) -> CostDocument:
    found = trace(record, NOBODY, portal.directory.terms(record.tenant_id))
    is_known = record.input.value is not None and record.output.value is not None
    return CostDocument(
        amount=None if found.amount is None else money.plain(found.amount),
        currency=found.currency,
        estimate=not is_known or any(cost.is_marginal for cost in found.costs),
        disposition=found.disposition,
        unrated=[str(cost.component) for cost in found.costs if cost.unpriced is not None],
    )


NOBODY = Parties("", "", None, None, None, None, None)
"""Of its own request a tenant need not be told who it is."""
