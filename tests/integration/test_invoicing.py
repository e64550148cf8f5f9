"""Previews, usage and traces from records that went in by the recorder's own statement."""

from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from billing.errors import InvalidInput, NotFound
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import random_bytes
from billing.infra.zones import zone_of
from billing.invoicing.service import InvoicingService
from billing.metering.event import UsageRecord
from billing.pricing.billable import Disposition
from billing.pricing.rating import Unpriced
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService
from billing.tokens.components import Component, Components
from billing.tokens.usage import Outcome, Provenance
from tests.invoice_kit import at, record, save, usage, usage_id
from tests.metering_kit import id_maker

NOW = at("2026-11-24T10:00:00Z")
PLAN = """\
plan: demo
currency: USD
label: Demo prices, per 1,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: 0.50, cached_input: 0.05, output: 1.50, reasoning: 1.00}
  - effective: 2026-11-15T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: 0.40, cached_input: 0.04, output: 1.20, reasoning: 0.80}
"""
FIRST = usage_id("2026-11-01T00:00:00Z", 1)
LAST = usage_id("2026-11-30T23:59:59.999Z", 1)
KILLED = usage_id("2026-11-20T12:00:00Z", 9)


class House:
    """A database with a tenant that used something, and the services that look at it."""

    def __init__(self, database: Database, url: str) -> None:
        self.url = url
        self.tenants = TenantService(database, lambda: NOW, id_maker(), random_bytes)
        self.fleet = FleetService(database, lambda: NOW, id_maker(1))
        self.pricing = PricingService(database, lambda: NOW, id_maker(2))
        self.invoicing = InvoicingService(database, lambda: NOW, id_maker(3), zone_of)

    async def furnish(self) -> None:
        self.tenant = await self.tenants.create_tenant("acme", "Acme Inference Ltd")
        await self.tenants.create_tenant("globex")
        self.project = await self.tenants.create_project("acme", "web")
        self.key = (await self.tenants.create_key("acme", "laptop", project_slug="web")).key
        self.backend = await self.fleet.add_backend("local", "http://127.0.0.1:8080", "llama.cpp")
        await save(self.url, self.records(), NOW)

    def records(self) -> list[UsageRecord]:
        made = [
            record(FIRST, usage(1_013, 53, cached=1_008, reasoning=20)),
            record(usage_id("2026-11-14T23:59:59.999Z"), usage(18, 53, reasoning=20)),
            record(usage_id("2026-11-15T00:00:00Z"), usage(18, 53, reasoning=20)),
            record(
                LAST, usage(18, 10, provenance=Provenance.RUNNING), outcome=Outcome.CLIENT_CLOSED, status=499
            ),
            record(usage_id("2026-12-01T00:00:00Z"), usage(9_999, 9_999)),
            record(usage_id("2026-10-31T23:59:59.999Z"), usage(9_999, 9_999)),
            record(usage_id("2026-11-10T12:00:00Z", 1), usage(100, 50, provenance=Provenance.ESTIMATED)),
            record(usage_id("2026-11-10T12:00:00Z", 2), usage(None, None)),
            record(
                KILLED, usage(None, 30, provenance=Provenance.RUNNING), outcome=Outcome.INTERRUPTED, status=0
            ),
            record(usage_id("2026-11-11T12:00:00Z"), usage(7, 0), model="embed"),
        ]
        return [self.owned(each) for each in made]

    def owned(self, made: UsageRecord) -> UsageRecord:
        owner = {
            "tenant_id": self.tenant.id, "project_id": self.project.id, "key_id": self.key.id, "backend_id": self.backend.id,
        }  # fmt: skip
        return msgspec.structs.replace(made, opened=msgspec.structs.replace(made.opened, **owner))


@pytest.fixture
async def house(migrated_url: str) -> AsyncIterator[House]:
    database = Database(migrated_url, role="control", pool_size=2)
    made = House(database, migrated_url)
    await made.furnish()
    yield made
    await database.close()


@pytest.fixture
async def priced(house: House) -> House:
    await house.pricing.apply(PLAN)
    await house.pricing.subscribe(house.tenant.id, "demo")
    return house


async def test_acme_s_preview_equals_what_was_calculated_by_hand(priced: House) -> None:
    preview = await priced.invoicing.preview("acme")
    lines = [
        (each.version, each.model, each.component, each.quantity, each.amount)
        for each in preview.draft.billed.lines
    ]
    assert lines == [
        (1, "golden", "uncached_input", 23, Decimal("0.0115")),  # (5 + 18) × 0.50 / 1,000
        (2, "golden", "uncached_input", 36, Decimal("0.0144")),  # (18 + 18) × 0.40 / 1,000
        (1, "golden", "cached_input", 1_008, Decimal("0.0504")),  # 1,008 × 0.05 / 1,000
        (1, "golden", "answer_output", 66, Decimal("0.099")),  # (33 + 33) × 1.50 / 1,000
        (2, "golden", "answer_output", 43, Decimal("0.0516")),  # (33 + 10) × 1.20 / 1,000
        (1, "golden", "reasoning", 40, Decimal("0.04")),  # (20 + 20) × 1.00 / 1,000
        (2, "golden", "reasoning", 20, Decimal("0.016")),  # 20 × 0.80 / 1,000
    ]
    assert (preview.draft.subtotal, preview.draft.total) == (Decimal("0.2829"), Decimal("0.28"))
    assert (preview.tenant.slug, preview.as_of_us, str(preview.draft.period)) == ("acme", NOW, "2026-11")
    assert preview.draft.waived.amount == Decimal("0.036")  # 30 × 1.20 / 1,000
    assert preview.draft.review.amount == Decimal("0.125")  # 100 × 0.50 / 1,000 + 50 × 1.50 / 1,000
    assert [(each.model, each.quantity, each.reason) for each in preview.draft.billed.unrated] == [
        ("embed", 7, Unpriced.NO_RATE)
    ]


async def test_recording_the_same_requests_again_changes_no_preview(priced: House) -> None:
    before = await priced.invoicing.preview("acme")
    await save(priced.url, priced.records()[::-1], NOW)
    assert await priced.invoicing.preview("acme") == before


@pytest.mark.parametrize(("period", "tokens"), [("2026-10", 19_998), ("2026-12", 19_998), ("2026-09", 0)])
async def test_a_month_ends_where_the_next_begins(priced: House, period: str, tokens: int) -> None:
    preview = await priced.invoicing.preview("acme", period)
    assert sum(section.tokens for section in preview.draft.sections) == tokens


async def test_usage_without_a_plan_is_unrated(house: House) -> None:
    draft = (await house.invoicing.preview("acme")).draft
    assert (draft.currency, draft.total, draft.billed.lines) == (None, None, ())
    assert {each.reason for each in draft.billed.unrated} == {Unpriced.NO_PLAN}


async def test_another_tenant_has_used_nothing(priced: House) -> None:
    assert not any(section.requests for section in (await priced.invoicing.preview("globex")).draft.sections)
    assert (await priced.invoicing.usage("globex")).summary.requests == 0


async def test_usage_and_preview_count_the_same(priced: House) -> None:
    report = await priced.invoicing.usage("acme", "2026-11")
    draft = (await priced.invoicing.preview("acme")).draft
    assert report.summary.requests == sum(section.requests for section in draft.sections) == 8
    assert report.summary.tokens.total == sum(section.tokens for section in draft.sections)
    by_line = {(each.model, each.provenance): (each.requests, each.tokens) for each in report.summary.lines}
    assert by_line == {
        ("golden", "reported"): (3, Components(41, 1_008, 0, 99, 60)),
        ("golden", "running"): (1, Components(18, 0, 0, 10, 0)),
        ("golden", "estimated"): (1, Components(100, 0, 0, 50, 0)),
        ("golden", "none"): (2, Components(0, 0, 0, 30, 0)),
        ("embed", "reported"): (1, Components(7)),
    }


async def test_a_trace_goes_from_the_key_to_the_cost(priced: House) -> None:
    found = await priced.invoicing.trace(str(FIRST))
    parties = found.parties
    assert (parties.tenant, parties.project, parties.key_prefix, parties.key_name) == (
        "acme", "web", priced.key.prefix, "laptop",
    )  # fmt: skip
    assert (parties.backend, parties.backend_url) == ("local", "http://127.0.0.1:8080")
    assert [(each.component, each.quantity, each.version, each.amount) for each in found.costs] == [
        (Component.UNCACHED_INPUT, 5, 1, Decimal("0.0025")),
        (Component.CACHED_INPUT, 1_008, 1, Decimal("0.0504")),
        (Component.ANSWER_OUTPUT, 33, 1, Decimal("0.0495")),
        (Component.REASONING, 20, 1, Decimal("0.02")),
    ]
    assert (found.amount, found.currency, found.disposition) == (Decimal("0.1224"), "USD", Disposition.BILL)


async def test_traces_of_a_month_add_up_to_its_preview(priced: House) -> None:
    draft = (await priced.invoicing.preview("acme")).draft
    traces = [await priced.invoicing.trace(str(each.id)) for each in priced.records()]
    billed = [
        each.amount or Decimal(0)
        for each in traces
        if each.disposition is Disposition.BILL and draft.period.holds(each.at_us)
    ]
    assert sum(billed, Decimal(0)) == draft.subtotal


async def test_a_killed_request_shows_what_is_known_of_it(priced: House) -> None:
    found = await priced.invoicing.trace(str(KILLED))
    assert [(name, count.value) for name, count in found.counts] == [("input", None), ("output", 30)]
    assert found.disposition is Disposition.WAIVE


async def test_what_is_not_there_is_said_so(priced: House) -> None:
    with pytest.raises(NotFound, match=r"no usage record .* \(its time is 2026-11-02 00:00:00 UTC\)"):
        await priced.invoicing.trace(str(usage_id("2026-11-02T00:00:00Z")))
    for text in ("nonsense", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"):
        with pytest.raises(InvalidInput, match="is not a usage id"):
            await priced.invoicing.trace(text)
    with pytest.raises(NotFound, match="there is no tenant 'nobody'"):
        await priced.invoicing.preview("nobody")
    with pytest.raises(InvalidInput, match="period: 'May' is not a month; write for example 2026-11"):
        await priced.invoicing.usage("acme", "May")
