"""Plans and subscriptions on a real Postgres, under the role that operators work with."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from billing.errors import Conflict, InvalidInput, NotFound
from billing.infra.postgres import Database
from billing.pricing import store
from billing.pricing.parse import parse
from billing.pricing.revision import Change
from billing.pricing.service import PricingService
from tests.invoice_kit import TENANT, at
from tests.metering_kit import OTHER_TENANT, add_tenants, ask, id_maker

NOW = at("2026-11-24T10:00:00Z")
NOVEMBER, DECEMBER = at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")
JANUARY = (
    "  - {effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{model: golden, input: 0.50, output: free}]}\n"
)
LATER = (
    "  - {effective: 2027-01-01T00:00:00Z, per: 1000, rates: [{model: golden, input: 0.40, output: free}]}\n"
)


def text(*versions: str, name: str = "demo", currency: str = "USD") -> str:
    return f"plan: {name}\ncurrency: {currency}\nlabel: list\nversions:\n{''.join(versions)}"


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    opened = Database(migrated_url, role="control", pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
def service(database: Database) -> PricingService:
    return PricingService(database, lambda: NOW, id_maker())


async def test_a_plan_is_stored_as_it_was_written(service: PricingService) -> None:
    applied = await service.apply(text(JANUARY, LATER))
    assert (applied.plan, applied.currency, applied.is_new, applied.changed) == ("demo", "USD", True, True)
    assert [(step.change, step.version.number) for step in applied.steps] == [
        (Change.ADDED, 1),
        (Change.ADDED, 2),
    ]
    plan = await service.plan("demo")
    assert [version.content for version in plan.versions] == [
        v.content for v in parse(text(JANUARY, LATER)).versions
    ]
    assert await service.list_plans(10) == [plan]


def counting(day: str, model: str, price: str = "{price: 0.4, allowance: 1000}") -> str:
    return f'  - {{effective: {day}T00:00:00Z, per: 1000, rates: [{{model: "{model}", input: {price}, output: free}}]}}\n'


PLAIN = "0.4"


async def test_an_allowance_given_again_over_a_version_without_one_is_warned_of(
    service: PricingService,
) -> None:
    january = counting("2026-01-05", "*"), counting("2026-01-10", "*", PLAIN)
    months = counting("2026-02-01", "*"), counting("2026-03-01", "*", PLAIN), counting("2026-04-01", "gol*")
    first = await service.apply(text(*january, counting("2026-01-20", "gol*"), name="in-a-month"))
    assert [each.where for each in first.warnings] == ["from 2026-01-20T00:00:00Z, gol* input"]
    assert "what * input has counted before does not count here" in first.warnings[0].text
    assert (await service.apply(text(*months, name="over-months"))).warnings == ()
    await service.apply(text(*january, name="added-to"))
    added = await service.apply(text(counting("2026-01-20", "gol*"), name="added-to"))
    assert added.warnings == first.warnings
    later = await service.apply(text(counting("2026-06-01", "gol*"), name="added-to"))
    assert later.warnings == (), "of the stored ones it was told when they came"


async def test_applying_a_file_again_changes_nothing(service: PricingService, migrated_url: str) -> None:
    await service.apply(text(JANUARY))
    rows = await ask(migrated_url, "SELECT * FROM price_plan_version")
    again = await service.apply(text(JANUARY).replace("0.50", '"0.5000"'))
    assert (again.is_new, again.changed, [step.change for step in again.steps]) == (
        False,
        False,
        [Change.UNCHANGED],
    )
    assert await ask(migrated_url, "SELECT * FROM price_plan_version") == rows


async def test_versions_are_added_and_never_edited(service: PricingService, migrated_url: str) -> None:
    await service.apply(text(JANUARY))
    with pytest.raises(Conflict, match=r"golden uncached_input 0\.5 per 1,000 → 0\.6 per 1,000"):
        await service.apply(text(JANUARY.replace("0.50", "0.60"), LATER))
    assert len((await service.plan("demo")).versions) == 1
    added = await service.apply(text(LATER))
    assert [step.change for step in added.steps] == [Change.KEPT, Change.ADDED]
    hashes = await ask(migrated_url, "SELECT length(content_hash) FROM price_plan_version")
    assert [row[0] for row in hashes] == [32, 32]


async def test_a_version_added_in_the_past_of_a_plan_in_use_is_called_retroactive(
    service: PricingService,
) -> None:
    first = await service.apply(text(JANUARY))
    assert not any(first.is_retroactive(step) for step in first.steps)
    july = JANUARY.replace("2026-01", "2026-07").replace("0.50", "0.45")
    more = await service.apply(text(july, LATER))
    assert [more.is_retroactive(step) for step in more.steps] == [False, True, False]


async def test_operators_may_not_touch_a_stored_version(database: Database, service: PricingService) -> None:
    await service.apply(text(JANUARY))
    for statement in ("UPDATE price_plan_version SET number = 9", "DELETE FROM price_plan_version"):
        with pytest.raises(Exception, match="permission denied for table price_plan_version"):
            await run(database, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE price_plan SET currency = 'EUR'",
        "UPDATE price_plan SET name = 'other'",
        "SELECT FROM price_plan FOR UPDATE",
        "UPDATE subscription SET plan_id = tenant_id",
        "UPDATE subscription SET starts_at = '2020-01-01'",
        "UPDATE tenant SET slug = 'other'",
        "UPDATE api_key SET hash = ''",
        "UPDATE backend SET name = 'other'",
        "UPDATE project SET tenant_id = id",
        "UPDATE usage_quarantine SET payload = ''",
        "DELETE FROM subscription",
    ],
)
async def test_operators_may_change_only_what_a_service_changes(database: Database, statement: str) -> None:
    with pytest.raises(Exception, match="permission denied for table"):
        await run(database, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE subscription SET ends_at = NULL",
        "UPDATE tenant SET collection = collection + 1",
        "UPDATE api_key SET revoked_at = now()",
        "SELECT FROM api_key FOR UPDATE",
        "UPDATE backend SET url = '', engine = '', credential = NULL, concurrency = NULL, archived_at = NULL",
        "UPDATE directory_version SET version = version + 1",
        "UPDATE usage_quarantine SET released_at = now()",
    ],
)
async def test_operators_may_change_what_a_service_changes(database: Database, statement: str) -> None:
    await run(database, statement)


async def run(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.exec_driver_sql(statement)


async def test_a_bad_file_stores_nothing(service: PricingService) -> None:
    with pytest.raises(
        InvalidInput, match=r"versions\[1\]\.rates\[0\]\.input: a price cannot be negative, got -0\.40"
    ):
        await service.apply(text(JANUARY, LATER.replace("0.40", "-0.40")))
    assert await service.list_plans(10) == []


async def test_a_currency_stays(service: PricingService) -> None:
    await service.apply(text(JANUARY))
    with pytest.raises(Conflict, match="plan demo is in USD and stays so; the file says EUR"):
        await service.apply(text(JANUARY, currency="EUR"))


async def test_one_file_applied_by_several_at_once_is_one_plan(service: PricingService) -> None:
    results = await asyncio.gather(*(service.apply(text(JANUARY, LATER)) for _ in range(6)))
    assert sorted(result.is_new for result in results) == [False] * 5 + [True]
    assert [version.number for version in (await service.plan("demo")).versions] == [1, 2]


@pytest.fixture
async def subscribed(service: PricingService, migrated_url: str) -> PricingService:
    await add_tenants(migrated_url, TENANT, OTHER_TENANT)
    for name, currency in (("demo", "USD"), ("next", "USD"), ("euro", "EUR")):
        await service.apply(text(JANUARY, name=name, currency=currency))
    return service


async def test_a_subscription_begins_with_the_present_month_unless_said(subscribed: PricingService) -> None:
    made = await subscribed.subscribe(TENANT, "demo")
    assert (made.plan, made.currency, made.starts_us, made.ends_us) == ("demo", "USD", NOVEMBER, None)
    assert await subscribed.list_subscriptions(TENANT) == [made]
    assert await subscribed.list_subscriptions(OTHER_TENANT) == []
    with pytest.raises(NotFound, match="there is no plan 'nothing'"):
        await subscribed.subscribe(OTHER_TENANT, "nothing")


async def test_a_tenant_has_one_plan_at_a_time(subscribed: PricingService) -> None:
    first = await subscribed.subscribe(TENANT, "demo")
    with pytest.raises(
        Conflict, match="the tenant has plan demo from 2026-11-01T00:00:00Z with no end already"
    ):
        await subscribed.subscribe(TENANT, "next", DECEMBER)
    ended = await subscribed.end_subscription(TENANT, DECEMBER)
    assert (ended.id, ended.ends_us) == (first.id, DECEMBER)
    second = await subscribed.subscribe(TENANT, "next", DECEMBER)
    assert await subscribed.list_subscriptions(TENANT) == [ended, second]


async def test_a_tenant_is_billed_in_one_currency(subscribed: PricingService) -> None:
    await subscribed.subscribe(TENANT, "demo", NOVEMBER, DECEMBER)
    with pytest.raises(Conflict, match="plan euro is in EUR, the tenant is billed in USD"):
        await subscribed.subscribe(TENANT, "euro", DECEMBER)


async def test_an_end_lies_on_the_grid_after_the_start_and_is_set_once(subscribed: PricingService) -> None:
    with pytest.raises(NotFound, match="the tenant has no subscription without an end"):
        await subscribed.end_subscription(TENANT, DECEMBER)
    await subscribed.subscribe(TENANT, "demo")
    with pytest.raises(InvalidInput, match="ends_at: 2026-12-01T00:00:00Z is not a multiple of 15 minutes"):
        await subscribed.end_subscription(TENANT, DECEMBER + 1)
    with pytest.raises(InvalidInput, match="is not after the start"):
        await subscribed.end_subscription(TENANT, at("2026-10-31T23:45:00Z"))
    await subscribed.end_subscription(TENANT, DECEMBER)
    with pytest.raises(NotFound):
        await subscribed.end_subscription(TENANT, DECEMBER)


async def test_of_several_subscriptions_at_once_one_is_made(subscribed: PricingService) -> None:
    attempts = [subscribed.subscribe(TENANT, name) for name in ("demo", "next", "demo", "next")]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["Subscription"]


async def test_the_database_itself_refuses_an_overlap(
    subscribed: PricingService, database: Database, migrated_url: str
) -> None:
    made = await subscribed.subscribe(TENANT, "demo")
    async with database.transaction() as connection:
        assert not await store.insert_subscription(connection, made)
    with pytest.raises(asyncpg.ExclusionViolationError, match="ex_subscription_overlap"):
        await ask(
            migrated_url,
            "INSERT INTO subscription SELECT tenant_id, $1, plan_id, starts_at, NULL, created_at FROM subscription",
            UUID(int=1),
        )


async def test_terms_are_those_that_touch_a_period(subscribed: PricingService, database: Database) -> None:
    await subscribed.subscribe(TENANT, "demo", NOVEMBER, DECEMBER)
    await subscribed.subscribe(TENANT, "next", DECEMBER)
    cases = [
        (NOVEMBER, DECEMBER, ["demo"]),
        (DECEMBER, DECEMBER + 1, ["next"]),
        (0, NOVEMBER, []),
        (0, at("2030-01-01T00:00:00Z"), ["demo", "next"]),
    ]
    async with database.transaction() as connection:
        for start_us, end_us, names in cases:
            found = await store.terms(connection, TENANT, start_us, end_us)
            assert [term.plan.name for term in found] == names
