"""One request from its key to its cost, as the API shows it: with the names that the command line uses."""

from uuid import UUID

import msgspec

from billing import money
from billing.admin.moment import written
from billing.invoicing.trace import Cost, Trace
from billing.metering.stored import StoredCount
from billing.pricing.billable import Disposition
from billing.pricing.measure import TOKENS, unit_of
from billing.tokens.components import Component


class TracedKey(msgspec.Struct, frozen=True):
    """The key that a request came with; without prefix and name it is no more there. Usage told by an event has none."""

    id: UUID | None
    prefix: str | None
    name: str | None


class TracedBackend(msgspec.Struct, frozen=True):
    """The model server that answered; without a name it is no more there."""

    id: UUID | None
    name: str | None
    engine: str


class CountDocument(msgspec.Struct, frozen=True):
    """A count and how it is known; null is unknown. It is counted in ``unit``, which is ``tokens`` of all but units."""

    value: int | None
    unit: str
    provenance: str | None
    method: str | None


class CostDocument(msgspec.Struct, frozen=True, kw_only=True):
    """quantity × price ÷ per = amount, exact; without a rate, ``unrated`` says why.

    Of a component, or of the ``request`` itself where a plan prices it. The quantity is counted in ``unit``.

    ``is_marginal`` where tiers or an allowance count over a whole period: the price is what the next token costs now.
    """

    component: str
    quantity: int
    unit: str
    price: str | None
    per: int | None
    amount: str | None
    plan: str | None
    version: int | None
    pattern: str | None
    priced_as: str | None
    unrated: str | None
    is_marginal: bool
    tier: int | None
    included: bool


class TraceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A request with how each count is known and what it costs; a count that is null is unknown.

    ``amount`` is an estimate until the period is closed, computed on reading and stored nowhere.
    """

    id: UUID
    arrived_at: str
    tenant: str
    project: str | None
    key: TracedKey
    end_user: str | None
    tags: dict[str, str]
    idempotency_key: str | None
    model: str
    operation: str
    stream: bool
    service_tier: str
    backend: TracedBackend
    response_model: str | None
    response_id: str | None
    outcome: str
    status: int
    error: str | None
    ttft_us: int | None
    itl_us: int | None
    duration_us: int | None
    collection: int
    recorded_at: str
    counts: dict[str, CountDocument]
    input_estimate: int | None
    disposition: Disposition
    currency: str | None
    costs: list[CostDocument]
    amount: str | None
    amount_is_estimate: bool


TRACE = TraceDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000011"),
    arrived_at="2026-11-24T10:00:00Z",
    tenant="acme",
    project="search",
    key=TracedKey(UUID("019ab3f4-8c00-7000-8000-00000000000c"), "sk-0aB3dE5g", "laptop"),
    end_user="user-17",
    tags={"team": "search"},
    idempotency_key=None,
    model="llama-3.1-70b",
    operation="chat",
    stream=True,
    service_tier="standard",
    backend=TracedBackend(UUID("019ab3f4-8c00-7000-8000-00000000000d"), "gpu-1", "vllm"),
    response_model="meta/llama-3.1-70b-instruct",
    response_id="chatcmpl-1",
    outcome="complete",
    status=200,
    error=None,
    ttft_us=12_345,
    itl_us=4_190,
    duration_us=230_456,
    collection=1,
    recorded_at="2026-11-24T10:00:00.512000Z",
    counts={
        "input": CountDocument(1_000, TOKENS, "reported", "usage"),
        "output": CountDocument(200, TOKENS, "reported", "usage"),
    },
    input_estimate=None,
    disposition=Disposition.BILL,
    currency="USD",
    costs=[
        CostDocument(
            component=component.value,
            quantity=quantity,
            unit=TOKENS,
            price=price,
            per=1_000_000,
            amount=amount,
            plan="standard",
            version=1,
            pattern="llama-3.1-70b",
            priced_as=component.value,
            unrated=None,
            is_marginal=False,
            tier=None,
            included=False,
        )
        for component, quantity, price, amount in (
            (Component.UNCACHED_INPUT, 1_000, "0.5", "0.0005"),
            (Component.ANSWER_OUTPUT, 200, "1.5", "0.0003"),
        )
    ],
    amount="0.0008",
    amount_is_estimate=True,
)


def trace_document(found: Trace) -> TraceDocument:
    """A trace as the API shows it."""
    record, parties = found.record, found.parties
    return TraceDocument(
        **{name: getattr(record, name) for name in _OF_RECORD},
        arrived_at=written(found.at_us),
        tenant=parties.tenant,
        project=parties.project,
        key=TracedKey(record.key_id, parties.key_prefix, parties.key_name),
        backend=TracedBackend(record.backend_id, parties.backend, record.engine),
        recorded_at=written(record.recorded_us),
        counts={name: _count(name, count) for name, count in found.counts},
        disposition=found.disposition,
        currency=found.currency,
        costs=[_cost(each) for each in found.costs],
        amount=None if found.amount is None else money.plain(found.amount),
        amount_is_estimate=True,
    )


_OF_RECORD = (
    "id", "end_user", "tags", "idempotency_key", "model", "operation", "stream", "service_tier", "response_model",
    "response_id", "outcome", "status", "error", "ttft_us", "itl_us", "duration_us", "collection", "input_estimate",
)  # fmt: skip
"""What a trace says in the record's own words."""


def _count(name: str, count: StoredCount) -> CountDocument:
    return CountDocument(count.value, unit_of(name), count.provenance, count.method)


def _cost(cost: Cost) -> CostDocument:
    return CostDocument(
        component=str(cost.component),
        quantity=cost.quantity,
        unit=cost.unit,
        price=money.plain(cost.price.price) if cost.price else None,
        per=cost.price.per if cost.price else None,
        amount=None if cost.amount is None else money.plain(cost.amount),
        plan=cost.plan or None,
        version=cost.version or None,
        pattern=cost.pattern or None,
        priced_as=cost.priced_as,
        unrated=cost.unpriced,
        is_marginal=cost.is_marginal,
        tier=cost.tier,
        included=cost.included,
    )
