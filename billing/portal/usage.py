"""``/v1/usage``: what the caller's tenant used, in sums of a month and request by request."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from billing import money
from billing.clock import rfc3339
from billing.errors import NotFound
from billing.ids import instant_of
from billing.invoicing.trace import Parties, trace
from billing.invoicing.usage_document import UsageSummaryDocument, usage_document
from billing.metering.stored import StoredCount, StoredRecord
from billing.portal.caller import Calling
from billing.portal.services import Portal
from billing.pricing.billable import Disposition


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
    async def read_usage(request: Calling, period: FromQuery[str | None] = None) -> UsageSummaryDocument:
        """The month that goes on, or the ``period`` (``2026-11``) that is asked for."""
        caller = request.user
        found = await portal.invoicing(caller).usage(caller.tenant, period)
        return usage_document(found.tenant.slug, found.period, found.summary, found.as_of_us)

    @get("/usage/{usage_id:str}", include_in_schema=False)
    async def read_record(request: Calling, usage_id: FromPath[str]) -> RecordDocument:
        """One request, by what its reply carried as ``x-request-id``."""
        caller = request.user
        record = await portal.usage(caller).record(_id(usage_id))
        if record is None:
            raise NotFound(f"there is no record of {usage_id[:80]!r} (yet)", "usage_id")
        return _record(record, _cost(portal, record))

    return [read_usage, read_record]


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(
            f"{text[:80]!r} is no usage id; a reply carries its own as x-request-id", "usage_id"
        ) from None


def _record(record: StoredRecord, cost: CostDocument) -> RecordDocument:
    shown: dict[str, Any] = {name: getattr(record, name) for name in _SHARED}
    return RecordDocument(**shown, at=rfc3339(instant_of(record.id)), cost=cost)


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
