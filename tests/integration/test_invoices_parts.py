"""Parts of months on a real Postgres: what they cost, what waits for a price, and what a closed month is shown as."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from billing.errors import Conflict
from billing.exports.invoice_csv import invoice_csv
from billing.invoicing.close import NoInvoice
from billing.invoicing.content import Line
from billing.tenants.tenant import Tenant
from billing.tokens.usage import Outcome
from tests.integration.close_kit import DECEMBER, Office, totals
from tests.invoice_kit import at, record, usage, usage_id

SUPPORTED = """\
plan: supported
currency: USD
label: A fee and a minimum
versions:
  - effective: 2025-01-01T00:00:00Z
    per: 1000
    monthly_fee: "288.00"
    minimum: "28.80"
    rates: [{model: "*", input: {price: "0.40", allowance: 100}, output: free}]
"""
LATE_PLAN = """\
plan: late
currency: USD
versions:
  - effective: EFFECTIVE
    per: 1000
    rates: [{model: "*", input: 1, output: 1}]
"""


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.plans()
    await made.pricing.apply(SUPPORTED)
    yield made
    await made.close_pools()


async def subscribed(
    office: Office,
    slug: str,
    starts: str,
    ends: str | None = None,
    *,
    zone: str = "UTC",
    plan: str = "supported",
) -> Tenant:
    tenant = await office.tenant(slug, timezone=zone)
    await office.pricing.subscribe(tenant.id, plan, at(starts), None if ends is None else at(ends))
    return tenant


async def lines(office: Office, number: str) -> list[Line]:
    """The lines of an invoice, which is the same when it is computed again."""
    assert (await office.invoicing.verify(number)).differences == ()
    return list((await office.invoicing.invoice(number)).content.lines)


def charged(found: list[Line]) -> list[tuple[str, str, str | None]]:
    return [
        (line.kind, line.amount, line.covered[0] if line.covered else None)
        for line in found
        if line.agreed is not None
    ]


async def test_the_sliver_of_a_month_costs_its_quarters_of_an_hour(office: Office) -> None:
    # The end of November in UTC lies five and a half hours within December in Kolkata.
    await subscribed(office, "acme", "2026-10-31T18:30:00Z", "2026-12-01T00:00:00Z", zone="Asia/Kolkata")
    assert charged(await lines(office, await office.issue("acme"))) == [
        ("fee", "288.00", None),
        ("minimum", "28.80", None),
    ]
    office.now_us = at("2027-01-02T00:00:00Z")
    [result] = await office.invoicing.close("2026-12", "acme", wait_s=None)
    assert result.invoice is not None
    number = result.invoice.number or ""
    fee, minimum = await lines(office, number)
    # 288 × 22 / 2,976 and 28.80 × 22 / 2,976.
    assert charged([fee, minimum]) == [("fee", "2.13", "22/2976"), ("minimum", "0.21", "22/2976")]
    assert (fee.agreed, fee.amount_exact) == ("288", "2.129032258065")
    assert fee.covered == ("22/2976", "2026-11-30T18:30:00Z", "2026-12-01T00:00:00Z")
    rows = list(csv.DictReader(io.StringIO(invoice_csv(await office.invoicing.invoice(number)), newline="")))
    assert [(row["fraction"], row["covered_start"], row["covered_end"]) for row in rows] == [fee.covered] * 2
    assert sum(Decimal(row["amount"]) for row in rows) == result.invoice.total


@pytest.mark.parametrize(
    ("zone", "month", "fraction"),
    [
        # A month with a day of 25 hours has four quarters more, one of Lord Howe's two less at the other end of the year.
        ("Europe/Berlin", "2026-10", "96/2980"),
        ("Australia/Lord_Howe", "2026-10", "96/2974"),
    ],
)
async def test_a_part_of_a_month_is_measured_by_its_clock(
    office: Office, zone: str, month: str, fraction: str
) -> None:
    begins = {"Europe/Berlin": "2026-09-30T22:00:00Z", "Australia/Lord_Howe": "2026-09-30T13:30:00Z"}[zone]
    await subscribed(office, "acme", begins, begins.replace("09-30", "10-01"), zone=zone)
    [result] = await office.invoicing.close(month, "acme", wait_s=None)
    assert result.invoice is not None
    assert charged(await lines(office, result.invoice.number or ""))[0][2] == fraction


async def test_a_zone_that_changes_charges_each_hour_once(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z")
    await office.use(acme, "2026-12-10T00:00:00Z")
    assert charged(await lines(office, await office.issue("acme")))[0] == ("fee", "288.00", None)
    await office.tenants.change_tenant("acme", timezone="Asia/Kolkata")
    office.now_us = at("2027-01-02T00:00:00Z")
    [result] = await office.invoicing.close("2026-12", "acme", wait_s=None)
    assert result.invoice is not None
    # From 00:00 UTC of the 1st to 18:30 UTC of the 31st: 5½ hours of its calendar month were November's.
    assert charged(await lines(office, result.invoice.number or ""))[0] == ("fee", "285.87", "2954/2976")


async def test_two_plans_share_a_month_and_cost_a_month_together(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z", "2026-11-11T00:00:00Z")
    await office.pricing.apply(SUPPORTED.replace("plan: supported", "plan: other"))
    await office.pricing.subscribe(acme.id, "other", at("2026-11-11T00:00:00Z"))
    found = charged(await lines(office, await office.issue("acme")))
    assert [(kind, amount) for kind, amount, _ in found] == [
        ("fee", "96.00"), ("minimum", "9.60"), ("fee", "192.00"), ("minimum", "19.20"),
    ]  # fmt: skip


async def test_included_tokens_are_those_of_a_month_also_in_a_part_of_it(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-29T00:00:00Z")
    await office.use(acme, "2026-11-29T10:00:00Z", output_tokens=0)
    found = await lines(office, await office.issue("acme"))
    assert [(line.kind, line.quantity) for line in found[:2]] == [("included", 100), ("usage", 900)]


async def test_an_early_close_takes_the_fee_of_the_month_and_gives_nothing_back(office: Office) -> None:
    globex = await subscribed(office, "globex", "2026-11-01T00:00:00Z")
    half = await subscribed(office, "hooli", "2026-11-16T00:00:00Z")
    office.now_us = at("2026-11-24T10:05:00Z")
    number = await office.issue("globex", early=True)
    assert charged(await lines(office, number))[0] == ("fee", "288.00", None)
    assert charged(await lines(office, await office.issue("hooli", early=True)))[0] == (
        "fee",
        "144.00",
        "1440/2880",
    )
    await office.pricing.end_subscription(globex.id, at("2026-11-26T00:00:00Z"))
    await office.use(globex, "2026-11-25T00:00:00Z", input_tokens=100_100, output_tokens=0)
    late = await office.invoicing.late(number)
    # 100,000 × 0.40 / 1,000 less the 28.80 of the minimum that is paid.
    assert late.amount == Decimal("11.20")
    assert half.slug == "hooli"


@pytest.mark.parametrize("used", [[], ["2026-11-27T00:00:00Z"]], ids=["not used", "used"])
async def test_the_fee_of_a_plan_that_began_after_an_early_close_is_owed_used_or_not(
    office: Office, used: list[str]
) -> None:
    await office.pricing.apply(
        SUPPORTED.replace("plan: supported", "plan: larger").replace("288.00", "576.00")
    )
    globex = await subscribed(office, "globex", "2026-11-01T00:00:00Z")
    office.now_us = at("2026-11-24T10:05:00Z")
    await office.use(globex, "2026-11-10T00:00:00Z", input_tokens=100_100, output_tokens=0)
    number = await office.issue("globex", early=True)
    assert (await office.invoicing.late(number)).is_nothing
    await office.pricing.end_subscription(globex.id, at("2026-11-26T00:00:00Z"))
    assert (await office.invoicing.late(number)).is_nothing
    await office.pricing.subscribe(globex.id, "larger", at("2026-11-26T00:00:00Z"))
    await office.use(globex, *used, input_tokens=1, output_tokens=0)
    late = await office.invoicing.late(number)
    # Five of thirty days of 576.00, and as much of the minimum of 28.80.
    assert (late.requests, late.amount, late.is_nothing) == (len(used), Decimal("100.80"), False)


async def test_usage_before_the_first_prices_keeps_its_month_waiting(office: Office) -> None:
    await office.pricing.apply(LATE_PLAN.replace("EFFECTIVE", "2026-11-15T00:00:00Z"))
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z", plan="late")
    await office.use(acme, "2026-11-10T00:00:00Z", "2026-11-20T00:00:00Z")
    [result] = await office.close("acme")
    assert (result.invoice, result.reason) == (None, NoInvoice.NO_PRICES)
    assert result.detail == (
        "plan late has no prices before 2026-11-15T00:00:00Z, and 1 request was made since 2026-11-01T00:00:00Z: add a "
        "version that is effective from 2026-11-01T00:00:00Z or earlier (billing plans apply FILE), then close again"
    )
    await office.pricing.apply(
        LATE_PLAN.replace("EFFECTIVE", "2026-11-01T00:00:00Z").replace("input: 1", "input: 2")
    )
    # 1,000 × 2 + 100 × 1 before the 15th, 1,000 × 1 + 100 × 1 after it, per 1,000.
    assert totals(await office.close("acme")) == {"acme": 320}


async def test_usage_while_there_was_no_plan_keeps_its_month_waiting(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z", "2026-11-15T00:00:00Z", plan="unit")
    await office.use(acme, "2026-11-10T00:00:00Z", "2026-11-20T00:00:00Z")
    [result] = await office.close("acme")
    assert (result.invoice, result.reason) == (None, NoInvoice.NO_PLAN)
    assert (
        "--starts-at 2026-11-15T00:00:00Z --ends-at 2026-12-01T00:00:00Z), then close again" in result.detail
    )
    await office.pricing.subscribe(
        acme.id, "unit", at("2026-11-15T00:00:00Z"), DECEMBER - DECEMBER % 86_400_000_000
    )
    assert totals(await office.close("acme")) == {"acme": 130}


async def test_what_is_waived_anyway_waits_for_no_price(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z", "2026-11-15T00:00:00Z", plan="unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    failed = record(
        usage_id("2026-11-20T00:00:00Z"), usage(9, 9), tenant_id=acme.id, outcome=Outcome.UPSTREAM_ERROR
    )
    await office.save([failed])
    assert totals(await office.close("acme")) == {"acme": 65}


async def test_without_usage_and_without_a_plan_there_is_nothing_to_bill(office: Office) -> None:
    await office.tenant("acme")
    await subscribed(office, "globex", "2026-11-01T00:00:00Z")
    results = await office.invoicing.close("2026-01", wait_s=None)
    assert [(each.tenant, each.reason, each.detail) for each in results] == [
        ("acme", NoInvoice.NOTHING_TO_BILL, "nothing was used in 2026-01 and there is no plan"),
        ("globex", NoInvoice.NOTHING_TO_BILL, "nothing was used in 2026-01 and there is no plan"),
    ]


async def test_a_month_that_is_closed_is_shown_as_its_invoice_says(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    before = await office.invoicing.preview("acme", "2026-11")
    assert before.invoice is None
    number = await office.issue("acme")
    await office.use(acme, "2026-11-11T00:00:00Z")
    await office.pricing.end_subscription(acme.id, at("2026-06-01T00:00:00Z"))
    after = await office.invoicing.preview("acme", "2026-11")
    assert after.invoice is not None
    assert (after.invoice.number, after.draft) == (number, before.draft)


async def test_a_subscription_is_taken_back_at_its_start_while_nothing_is_invoiced_for_it(
    office: Office,
) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z", plan="unit")
    ended = await office.pricing.end_subscription(acme.id, at("2026-11-01T00:00:00Z"))
    assert ended.is_void
    # It never applied, so another begins at the same instant, and only that is charged.
    held = await office.pricing.subscribe(acme.id, "supported", at("2026-11-01T00:00:00Z"))
    assert sorted(each.plan for each in await office.pricing.list_subscriptions(acme.id)) == [
        "supported",
        "unit",
    ]
    number = await office.issue("acme")
    assert charged(await lines(office, number))[0] == ("fee", "288.00", None)
    with pytest.raises(Conflict, match="something is invoiced for plan supported from 2026-11-01T00:00:00Z"):
        await office.pricing.end_subscription(acme.id, held.starts_us)
    await office.pricing.end_subscription(acme.id, at("2026-12-01T00:00:00Z"))


async def test_a_close_and_a_subscription_that_is_taken_back_wait_for_each_other(office: Office) -> None:
    acme = await subscribed(office, "acme", "2026-11-01T00:00:00Z")
    closed, ended = await asyncio.gather(
        office.close("acme"),
        office.pricing.end_subscription(acme.id, at("2026-11-01T00:00:00Z")),
        return_exceptions=True,
    )
    assert isinstance(closed, list)
    # Either the invoice is there and the subscription stays, or it was taken back and there is nothing to bill.
    assert isinstance(ended, Conflict) == (closed[0].invoice is not None)
