"""Months of tenants' time zones on a real Postgres: where they begin and end, whole and closed early."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from billing.errors import Conflict
from billing.invoicing.close import CloseState, NoInvoice
from tests.integration.close_kit import DECEMBER, DyingDatabase, Killed, Office, totals
from tests.invoice_kit import at


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.plans()
    yield made
    await made.close_pools()


@pytest.mark.parametrize(
    ("zone", "first", "last", "next_month"),
    [
        ("Asia/Kolkata", "2026-10-31T18:30:00Z", "2026-11-30T18:29:59.999Z", "2026-11-30T18:30:00Z"),
        ("Australia/Lord_Howe", "2026-10-31T13:00:00Z", "2026-11-30T12:59:59.999Z", "2026-11-30T13:00:00Z"),
    ],
)
async def test_a_month_is_that_of_the_tenants_zone_to_the_millisecond(
    office: Office, zone: str, first: str, last: str, next_month: str
) -> None:
    acme = await office.tenant("acme", "unit", zone)
    await office.use(acme, first, last, next_month, number=1)
    await office.use(acme, "2026-10-31T12:59:59.999Z", number=2)
    assert (await office.invoicing.usage("acme", "2026-11")).summary.requests == 2
    assert (await office.invoicing.preview("acme", "2026-11")).draft.billed.requests == 2
    content = (await office.invoicing.invoice(await office.issue("acme"))).content
    assert (content.requests, content.time_zone) == (2, zone)
    assert (content.start, content.end) == (first, next_month)
    [following] = await office.invoicing.close("2026-12", "acme", early=True, wait_s=None)
    assert following.invoice is not None
    assert following.invoice.period.start_us == at(next_month)
    assert (await office.invoicing.invoice(following.invoice.number or "")).content.requests == 1


async def test_a_month_that_goes_on_is_refused_in_the_tenants_zone(office: Office) -> None:
    await office.tenant("acme", "graduated", "Asia/Kolkata")
    await office.tenant("globex", "graduated", "Asia/Tokyo")
    office.now_us = at("2026-11-30T18:29:59.999Z")
    with pytest.raises(Conflict) as caught:
        await office.close("acme")
    assert str(caught.value) == (
        "period 2026-11 has not ended: it ends at 2026-12-01 00:00 Asia/Kolkata (2026-11-30T18:30:00Z). Close it then, "
        "or close it early with --early: what comes later is late usage of that invoice"
    )
    assert [(each.tenant, each.reason) for each in await office.close()] == [
        ("acme", NoInvoice.NOT_ENDED),
        ("globex", None),
    ]
    office.now_us += 1_000
    assert totals(await office.close()) == {"acme": 2_000, "globex": 2_000}


async def test_an_early_close_ends_with_the_quarter_of_an_hour_and_the_rest_is_late(office: Office) -> None:
    globex = await office.tenant("globex", "graduated")
    await office.use(globex, "2026-11-24T10:01:00Z", input_tokens=1_100, output_tokens=0)
    office.now_us = at("2026-11-24T10:05:00Z")
    number = await office.issue("globex", early=True)
    document = await office.invoicing.invoice(number)
    assert document.summary.is_early
    assert document.content.end == "2026-11-24T10:15:00Z"
    assert document.content.note is not None
    assert document.content.note.startswith(
        "Closed early: this invoice of November 2026 ends at 2026-11-24T10:15:00Z"
    )
    # The fee in full, and 1,100 − 100 tokens × 0.40 / 1,000.
    assert document.content.total == "20.40"
    assert (await office.invoicing.late(number)).requests == 0
    # Within the quarter of an hour but after the close, later in the month, and in the next month.
    await office.use(globex, "2026-11-24T10:10:00Z", "2026-11-29T00:00:00Z", "2026-12-01T00:00:00Z",
                     number=7, input_tokens=1_000, output_tokens=0)  # fmt: skip
    late = await office.invoicing.late(number)
    # No second fee, and nothing is included a second time: 2,000 × 0.40 / 1,000.
    assert (late.requests, late.tokens, late.amount) == (2, 2_000, Decimal("0.80"))
    assert await office.invoicing.invoice(number) == document
    assert (await office.invoicing.verify(number)).is_same
    office.now_us = DECEMBER
    [again] = await office.close("globex")
    assert again.state is CloseState.ALREADY_ISSUED
    found = await office.invoicing.reconciliation(number)
    assert found.is_equal
    assert (found.tokens.used, found.tokens.billed, found.tokens.late) == (3_100, 1_100, 2_000)
    assert (found.requests.used, found.requests.late) == (3, 2)


async def test_a_month_after_an_early_one_begins_with_the_month(office: Office) -> None:
    globex = await office.tenant("globex", "graduated")
    office.now_us = at("2026-11-24T10:05:00Z")
    await office.issue("globex", early=True)
    office.now_us = at("2027-01-02T00:00:00Z")
    await office.use(globex, "2026-11-29T00:00:00Z", "2026-12-01T00:00:00Z", number=3)
    [december] = await office.invoicing.close("2026-12", "globex", wait_s=None)
    assert december.invoice is not None
    assert december.invoice.period.start_us == at("2026-12-01T00:00:00Z")
    assert (await office.invoicing.invoice(december.invoice.number or "")).content.requests == 1


@pytest.mark.parametrize(("before", "after"), [("UTC", "Asia/Kolkata"), ("Asia/Kolkata", "America/New_York")])
async def test_a_change_of_zone_bills_no_hour_twice_and_none_never(
    office: Office, before: str, after: str
) -> None:
    acme = await office.tenant("acme", "unit", before)
    hours = [f"2026-{month}T{hour:02}:00:00Z" for month in ("11-30", "12-01") for hour in range(24)]
    office.now_us = at("2027-01-03T00:00:00Z")
    await office.use(acme, *hours)
    await office.issue("acme")
    await office.tenants.change_tenant("acme", timezone=after)
    [december] = await office.invoicing.close("2026-12", "acme", wait_s=None)
    assert december.invoice is not None
    billed = [(await office.invoicing.invoice(number)).content for number in ("INV-000001", "INV-000002")]
    assert billed[1].start == billed[0].end
    assert [each.requests for each in billed] == [24, 24] if before == "UTC" else [19, 29]


async def test_a_draft_of_an_early_close_is_finished_also_without_the_flag(office: Office) -> None:
    await office.tenant("globex", "graduated")
    dying = Office(office.url, DyingDatabase(office.url, 3))
    office.now_us = dying.now_us = at("2026-11-24T10:05:00Z")
    with pytest.raises(Killed):
        await dying.close(early=True)
    await dying.close_pools()
    [result] = await office.close("globex")
    assert result.invoice is not None
    assert (result.state, result.invoice.is_early) == (CloseState.ISSUED, True)
