"""A worker's directory against real Postgres: it survives whatever Postgres answers, and a start without it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from billing.directory.service import DirectoryService
from billing.errors import Unauthenticated, Unavailable
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.model import ReasoningTags
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
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


async def test_a_copy_that_cannot_be_written_costs_nothing_else(
    control: Database, gateway: Database, tmp_path: Path
) -> None:
    key = await new_key(control, "acme")
    directory = service(gateway, tmp_path / "no" / "such" / "folder")
    await directory.load()
    assert directory.caller(key, now_us()).tenant == "acme"


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
