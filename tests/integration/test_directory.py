"""A worker's directory against real Postgres: it survives whatever Postgres answers, and a start without it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from billing.directory.service import DirectoryService
from billing.errors import Unauthenticated, Unavailable
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.model import ReasoningTags
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.pricing import store
from billing.pricing.service import PricingService
from billing.pricing.term import Term
from billing.tenants.service import TenantService

NOWHERE = "postgresql://postgres@/nothing?host=/nonexistent"


class FakeTime:
    def __init__(self) -> None:
        self.us = 1_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
async def control(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, role="control", pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def gateway(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, role="gateway", pool_size=1)
    yield database
    await database.close()


def service(database: Database, copy: Path, time: FakeTime | None = None) -> DirectoryService:
    return DirectoryService(
        database, copy, now_us, time or FakeTime(), poll_interval_s=0.05, stale_max_s=10.0
    )


async def new_key(control: Database, tenant: str) -> bytes:
    tenants = TenantService(control, now_us, new_id, random_bytes)
    await tenants.create_tenant(tenant)
    return b"Bearer " + (await tenants.create_key(tenant, "test")).secret.text.encode()


async def run_sql(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


async def test_changes_arrive_and_a_revoked_key_is_refused(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    key = await new_key(control, "acme")
    with pytest.raises(Unauthenticated):
        directory.caller(key, now_us())
    assert await directory.refresh()
    assert directory.caller(key, now_us()).tenant == "acme"
    await TenantService(control, now_us, new_id, random_bytes).revoke_key("acme", key.decode()[7:18])
    await directory.refresh()
    with pytest.raises(Unauthenticated, match="revoked"):
        directory.caller(key, now_us())


async def test_what_is_set_of_backends_and_models_arrives_and_so_does_its_change(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    fleet = FleetService(control, now_us, new_id)
    await fleet.add_backend("gpu-1", "http://127.0.0.1:8000", "sglang", on_hang_up="drain")
    tags = ReasoningTags("<think>", "</think>")
    await fleet.add_model("qwen", [DeploymentRequest("gpu-1")], reasoning_tags=tags, tokenizer="qwen3")
    await directory.refresh()
    model = directory.model("qwen")
    [target] = directory.targets(model)
    assert (target.backend.engine, target.backend.on_hang_up) == ("sglang", "drain")
    assert (model.reasoning_start, model.reasoning_end, model.tokenizer) == ("<think>", "</think>", "qwen3")
    await fleet.change_backend("gpu-1", on_hang_up="abort")
    await fleet.change_model("qwen", reasoning_tags=None)
    await directory.refresh()
    model = directory.model("qwen")
    assert directory.targets(model)[0].backend.on_hang_up == "abort"
    assert (model.reasoning_start, model.reasoning_end, model.tokenizer) == (None, None, "qwen3")


PLAN = """
plan: gold
currency: USD
versions:
  - {effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{model: "*", input: "0.50", output: "1.5"}]}
"""
APART = """
  - {effective: 2026-02-01T00:00:00Z, per: 1000, rates: [{model: "*", output: "1.5", reasoning: "0.123456789"}]}
"""


async def told(database: Database, tenant_id: UUID) -> list[Term]:
    """What a close would price the tenant by."""
    async with database.transaction() as connection:
        return await store.terms(connection, tenant_id, 0, 2**53)


async def test_plans_and_subscriptions_arrive_as_they_are_and_so_do_their_changes(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    caller_key = await new_key(control, "acme")
    pricing = PricingService(control, now_us, new_id)
    await pricing.apply(PLAN)
    await directory.refresh()
    tenant_id = directory.caller(caller_key, now_us()).tenant_id
    assert directory.terms(tenant_id) == ()
    held = await pricing.subscribe(tenant_id, "gold", 0)
    await directory.refresh()
    assert list(directory.terms(tenant_id)) == await told(control, tenant_id) != []
    assert not directory.prices_reasoning_apart(tenant_id, "m", now_us())
    await pricing.apply(PLAN + APART)
    await directory.refresh()
    assert list(directory.terms(tenant_id)) == await told(control, tenant_id)
    assert directory.prices_reasoning_apart(tenant_id, "m", now_us())
    nowhere = Database(NOWHERE, pool_size=1)
    orphan = service(nowhere, tmp_path / "copy")
    await orphan.load()
    assert orphan.terms(tenant_id) == directory.terms(tenant_id)
    await nowhere.close()
    await pricing.end_subscription(tenant_id, held.starts_us)
    await directory.refresh()
    assert directory.terms(tenant_id) == ()


async def test_a_plan_that_a_newer_program_wrote_leaves_everything_else_served(
    migrated_url: str, control: Database, gateway: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = await new_key(control, "acme")
    pricing = PricingService(control, now_us, new_id)
    await pricing.apply(PLAN)
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    caller = directory.caller(key, now_us())
    await pricing.subscribe(caller.tenant_id, "gold", 0)
    await run_sql(
        migrated_url,
        "INSERT INTO price_plan_version (plan_id, number, effective_at, content, content_hash, created_at)"
        """ SELECT id, 2, '2026-03-01', '{"label": "", "rates": [{"model": "*", "prices": {"input": {}}}]}', '', now()"""
        " FROM price_plan",
    )
    await directory.refresh()
    assert (directory.failures, directory.terms(caller.tenant_id)) == (0, ())
    assert "newer program, which price nothing on this worker: gold" in caplog.text


async def test_whatever_postgres_answers_the_next_poll_asks_again(
    migrated_url: str, control: Database, gateway: Database, tmp_path: Path
) -> None:
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    following = asyncio.create_task(directory.follow())
    await run_sql(migrated_url, "REVOKE SELECT ON directory_version FROM gateway")
    for _ in range(250):
        if directory.failures:
            break
        await asyncio.sleep(0.02)
    await run_sql(migrated_url, "GRANT SELECT ON directory_version TO gateway")
    key = await new_key(control, "acme")
    await asyncio.sleep(0.5)
    assert directory.caller(key, now_us()).tenant == "acme"
    following.cancel()


async def test_a_restored_older_database_is_the_truth(
    migrated_url: str, control: Database, gateway: Database, tmp_path: Path
) -> None:
    lost = await new_key(control, "lost")
    directory = service(gateway, tmp_path / "copy")
    await directory.load()
    assert directory.caller(lost, now_us()).tenant == "lost"
    await run_sql(
        migrated_url, "DELETE FROM api_key; DELETE FROM tenant; UPDATE directory_version SET version = 0"
    )
    kept = await new_key(control, "kept")
    await run_sql(
        migrated_url,
        "UPDATE directory_version SET version = 1; UPDATE api_key SET version = 1; UPDATE tenant SET version = 1",
    )
    await directory.refresh()
    assert directory.caller(kept, now_us()).tenant == "kept"
    with pytest.raises(Unauthenticated):
        directory.caller(lost, now_us())


async def test_a_start_without_postgres_knows_its_callers_from_the_copy(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    key = await new_key(control, "acme")
    await service(gateway, tmp_path / "copy").load()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    nowhere = Database(NOWHERE, pool_size=1)
    orphan = service(nowhere, tmp_path / "copy")
    await orphan.load()
    assert orphan.caller(key, now_us()).tenant == "acme"
    without = service(nowhere, tmp_path / "none")
    await without.load()
    with pytest.raises(Unavailable):
        without.caller(key, now_us())
    await nowhere.close()


async def test_a_copy_that_cannot_be_written_costs_nothing_else_and_is_said_once(
    control: Database, gateway: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = await new_key(control, "acme")
    directory = service(gateway, tmp_path / "no" / "such" / "folder")
    await directory.load()
    for _ in range(3):
        await directory.refresh()
    assert directory.caller(key, now_us()).tenant == "acme"
    assert caplog.text.count("copy on disk cannot be written") == 1


async def test_nobody_is_served_on_a_directory_that_was_not_confirmed_for_too_long(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    key = await new_key(control, "acme")
    time = FakeTime()
    directory = service(gateway, tmp_path / "copy", time)
    await directory.load()
    time.us += 10_000_000
    assert directory.caller(key, now_us()).tenant == "acme"
    time.us += 1
    with pytest.raises(Unavailable, match="cannot be checked"):
        directory.caller(key, now_us())
    await directory.refresh()
    assert directory.caller(key, now_us()).tenant == "acme"
