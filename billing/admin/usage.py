"""``/api/v1/usage``: what was used, request by request, and a tenant's month in sums."""

from uuid import UUID

import msgspec
from litestar import Controller, get

from billing.admin.describe import described
from billing.admin.moment import written
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_id
from billing.admin.parameters import InMonth, OfModel, OfTenant, TenantSlug, UsageId
from billing.admin.services import Services
from billing.admin.trace import TRACE, TraceDocument, trace_document
from billing.ids import instant_of
from billing.invoicing.usage_document import UsageLineDocument, UsageSummaryDocument, usage_document
from billing.metering.stored import StoredCount, StoredRecord
from billing.tokens.components import Component


class UsageRecordDocument(msgspec.Struct, frozen=True):
    """One request. ``input`` holds ``cached_input``, ``output`` holds ``reasoning``; a count that is null is unknown.

    ``parts`` are kinds of input and output (``audio_input``) and what stands beside them (``training``, ``second``).
    """

    id: UUID
    at: str
    tenant_id: UUID
    project_id: UUID | None
    key_id: UUID | None
    model: str
    backend_id: UUID | None
    engine: str
    operation: str
    stream: bool
    service_tier: str
    outcome: str
    status: int
    provenance: str
    input: StoredCount
    cached_input: StoredCount
    cache_write: StoredCount
    output: StoredCount
    reasoning: StoredCount
    parts: dict[str, StoredCount]
    ttft_us: int | None
    itl_us: int | None
    ttfa_us: int | None
    gap_max_us: int | None
    overhead_us: int | None
    duration_us: int | None
    error: str | None
    end_user: str | None
    tags: dict[str, str]
    recorded_at: str


_COMPONENTS = dict.fromkeys([part.value for part in Component], 0) | {
    "uncached_input": 5, "cached_input": 1008, "answer_output": 33, "reasoning": 20,
}  # fmt: skip
RECORD = UsageRecordDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000011"),
    at="2026-11-24T10:00:00Z",
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    project_id=None,
    key_id=UUID("019ab3f4-8c00-7000-8000-00000000000c"),
    model="llama-3.1-70b",
    backend_id=UUID("019ab3f4-8c00-7000-8000-00000000000d"),
    engine="vllm",
    operation="chat",
    stream=True,
    service_tier="standard",
    outcome="complete",
    status=200,
    provenance="reported",
    input=StoredCount(1013, "reported", "usage"),
    cached_input=StoredCount(1008, "reported", "usage"),
    cache_write=StoredCount(None, None, None),
    output=StoredCount(53, "reported", "usage"),
    reasoning=StoredCount(20, "reported", "usage"),
    parts={},
    ttft_us=12_345,
    itl_us=4_190,
    ttfa_us=184_000,
    gap_max_us=6_100,
    overhead_us=410,
    duration_us=230_456,
    error=None,
    end_user="user-17",
    tags={"team": "search"},
    recorded_at="2026-11-24T10:00:00.512Z",
)
SUMMARY = UsageSummaryDocument(
    tenant="acme",
    period="2026-11",
    start="2026-10-31T18:30:00Z",
    end="2026-11-30T18:30:00Z",
    as_of="2026-11-24T10:00:00Z",
    requests=1,
    requests_unknown=0,
    tokens=1066,
    components=_COMPONENTS,
    outcomes={"complete": 1},
    lines=[UsageLineDocument("llama-3.1-70b", "reported", 1, 1066, dict(_COMPONENTS))],
)


class UsageController(Controller):
    """Usage."""

    tags = ("Usage",)

    @get("/usage/records", **described("List usage records", Page([RECORD], None), refusals=(404,)))
    async def list_records(
        self,
        services: Services,
        tenant: OfTenant = None,
        model: OfModel = None,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
    ) -> Page[UsageRecordDocument]:
        """Requests by their arrival, newest first. A request has its record within seconds of its end."""
        before = read_id(after)
        owner = await services.tenants.tenant(tenant) if tenant is not None else None
        found = await services.usage.recent(
            owner.id if owner else None, limit + 1, model=model, before=before
        )
        return page(found, limit, document, lambda record: (str(record.id),))

    @get("/usage/records/{usage_id:str}/trace", **described("Trace a request", TRACE, refusals=(404,)))
    async def trace(self, services: Services, usage_id: UsageId) -> TraceDocument:
        """One request from its key to its cost, by what its reply carried as `x-request-id`.

        The amount is an estimate until the month is closed. A request that was refused has no record.
        """
        return trace_document(await services.invoicing.trace(usage_id))

    @get("/tenants/{tenant:str}/usage", **described("Sum up a tenant's month", SUMMARY, refusals=(404,)))
    async def summary(
        self, services: Services, tenant: TenantSlug, period: InMonth = None
    ) -> UsageSummaryDocument:
        """Tokens and units by model, component and provenance, from the rollups that invoices are made of."""
        found = await services.invoicing.usage(tenant, period)
        return usage_document(found.tenant.slug, found.period, found.summary, found.as_of_us)


def document(record: StoredRecord) -> UsageRecordDocument:
    """A record as the API shows it."""
    shown = {name: getattr(record, name) for name in _SHARED}
    return UsageRecordDocument(
        **shown, at=written(instant_of(record.id)), recorded_at=written(record.recorded_us)
    )


_SHARED = tuple(name for name in UsageRecordDocument.__struct_fields__ if name not in {"at", "recorded_at"})
