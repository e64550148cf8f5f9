"""Limits on a real Postgres: set twice is once, a change keeps the limit, and a gateway's directory follows."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from billing.directory.service import DirectoryService
from billing.errors import InvalidInput, NotFound
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import monotonic_us, new_id, now_us, random_bytes
from billing.limits.limit import Enforce, Meter, OnFailure
from billing.limits.service import LimitService
from billing.tenants.service import TenantService
from tests.metering_kit import ask


@pytest.fixture
async def control(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, role="control", pool_size=4)
    yield database
    await database.close()


@pytest.fixture
async def limits(control: Database) -> LimitService:
    """Limits of tenant acme with project web and a model golden."""
    tenants = TenantService(control, now_us, new_id, random_bytes)
    await tenants.create_tenant("acme")
    await tenants.create_project("acme", "web")
    await tenants.create_tenant("globex")
    fleet = FleetService(control, now_us, new_id)
    await fleet.add_backend("local", "http://127.0.0.1:1", "vllm")
    await fleet.add_model("golden", [DeploymentRequest("local", "weights")], aliases=("alias",))
    return LimitService(control, now_us, new_id)


async def new_key(control: Database, project: str | None = None) -> tuple[str, bytes]:
    tenants = TenantService(control, now_us, new_id, random_bytes)
    made = await tenants.create_key("acme", "test", project_slug=project)
    return made.key.prefix, b"Bearer " + made.secret.text.encode()


async def version(url: str) -> int:
    return int((await ask(url, "SELECT version FROM directory_version"))[0][0])


async def test_a_limit_set_twice_is_one_limit_and_a_change_keeps_its_id(
    migrated_url: str, limits: LimitService
) -> None:
    first = await limits.set("acme", Meter.REQUESTS, 50)
    assert (first.is_new, first.is_changed, first.limit.capacity) == (True, True, 50)
    before = await version(migrated_url)
    again = await limits.set("acme", Meter.REQUESTS, 50)
    assert (again.is_new, again.is_changed, again.limit) == (False, False, first.limit)
    assert await version(migrated_url) == before  # gateways need not hear of it
    changed = await limits.set(
        "acme", Meter.REQUESTS, 80, burst=10, enforce=Enforce.SHADOW, on_failure=OnFailure.OPEN
    )
    assert (changed.is_new, changed.is_changed, changed.limit.id) == (False, True, first.limit.id)
    assert [named.limit for named in await limits.list("acme", 10)] == [changed.limit]


async def test_owner_model_and_meter_tell_limits_apart(control: Database, limits: LimitService) -> None:
    prefix, _ = await new_key(control)
    made = [
        await limits.set("acme", Meter.REQUESTS, 1),
        await limits.set("acme", Meter.TOKENS, 2),
        await limits.set("acme", Meter.CONCURRENCY, 3),
        await limits.set("acme", Meter.REQUESTS, 4, model="golden"),
        await limits.set("acme", Meter.REQUESTS, 5, project_slug="web"),
        await limits.set("acme", Meter.REQUESTS, 6, key=prefix),
        await limits.set("globex", Meter.REQUESTS, 7),
    ]
    assert all(each.is_new for each in made)
    listed = await limits.list(None, 10)
    assert [each.limit.amount for each in listed] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.owner for each in listed[3:]] == [
        "tenant acme",
        "project web",
        f"key {prefix}…",
        "tenant globex",
    ]
    assert [each.limit.amount for each in await limits.list("acme", 2, after=listed[1].limit.id)] == [3, 4]
    assert made[5].limit == (await limits.set("acme", Meter.REQUESTS, 6, key=str(made[5].limit.key_id))).limit


async def test_a_removed_limit_is_gone_and_may_be_set_anew(limits: LimitService) -> None:
    old = await limits.set("acme", Meter.TOKENS, 9)
    assert (await limits.archive("acme", old.limit.id)).limit == old.limit
    assert await limits.list("acme", 10) == []
    with pytest.raises(NotFound) as refusal:
        await limits.archive("acme", old.limit.id)
    assert refusal.value.param == "limit"
    assert (await limits.set("acme", Meter.TOKENS, 9)).is_new


async def test_nobody_elses_limit_can_be_removed(limits: LimitService) -> None:
    theirs = await limits.set("globex", Meter.TOKENS, 9)
    with pytest.raises(NotFound):
        await limits.archive("acme", theirs.limit.id)


WRONG = {
    "no such tenant": ({"tenant_slug": "nobody"}, NotFound, "tenant"),
    "no such project": ({"project_slug": "nothing"}, NotFound, "project"),
    "no such key": ({"key": "sk-00000000"}, NotFound, "key"),
    "a word as key": ({"key": "mine"}, NotFound, "key"),
    "a key's secret text": ({"key": "sk-" + "a" * 59}, InvalidInput, "key"),
    "project and key": ({"project_slug": "web", "key": "sk-00000000"}, InvalidInput, "key"),
    "no such model": ({"model": "nothing"}, NotFound, "model"),
    "an alias as model": ({"model": "alias"}, NotFound, "model"),
    "nothing at all": ({"amount": 0}, InvalidInput, "amount"),
    "a burst of slots": ({"meter": Meter.CONCURRENCY, "burst": 5}, InvalidInput, "burst"),
}


@pytest.mark.parametrize(("changes", "kind", "param"), WRONG.values(), ids=WRONG)
async def test_refusals_name_what_is_wrong(
    limits: LimitService, changes: dict[str, object], kind: type[NotFound | InvalidInput], param: str
) -> None:
    with pytest.raises(kind) as refusal:
        await limits.set(**{"tenant_slug": "acme", "meter": Meter.REQUESTS, "amount": 5, **changes})
    assert refusal.value.param == param
    assert "aaaa" not in str(refusal.value)


async def test_a_gateway_learns_of_limits_and_of_their_end(
    migrated_url: str, control: Database, limits: LimitService, tmp_path: Path
) -> None:
    prefix, secret = await new_key(control, "web")
    _, other = await new_key(control)
    gateway = Database(migrated_url, role="gateway", pool_size=1)
    directory = DirectoryService(
        gateway, tmp_path / "copy", now_us, monotonic_us, poll_interval_s=9, stale_max_s=9
    )
    await directory.load()
    caller = directory.caller(secret, now_us())
    assert directory.limits(caller, "golden") == ()
    made = [
        await limits.set("acme", Meter.REQUESTS, 1),
        await limits.set("acme", Meter.REQUESTS, 2, project_slug="web", model="golden"),
        await limits.set("acme", Meter.CONCURRENCY, 3, key=prefix),
    ]
    await limits.set("globex", Meter.REQUESTS, 4)
    await directory.refresh()
    assert directory.limits(caller, "golden") == tuple(each.limit for each in made)
    assert [limit.amount for limit in directory.limits(caller, "other")] == [1, 3]
    assert [limit.amount for limit in directory.limits(directory.caller(other, now_us()), "golden")] == [1]
    await limits.set("acme", Meter.REQUESTS, 11)
    await limits.archive("acme", made[2].limit.id)
    await directory.refresh()
    assert [limit.amount for limit in directory.limits(caller, "golden")] == [11, 2]
    orphan = DirectoryService(Database("postgresql://postgres@/x?host=/nonexistent"), tmp_path / "copy", now_us,
                              monotonic_us, poll_interval_s=9, stale_max_s=9)  # fmt: skip
    await orphan.load()
    assert [limit.amount for limit in orphan.limits(caller, "golden")] == [11, 2]
    await gateway.close()


async def test_a_boost_reaches_gateways_and_ends(
    limits: LimitService, control: Database, tmp_path: Path, migrated_url: str
) -> None:
    _, secret = await new_key(control)
    made = await limits.set("acme", Meter.TOKENS, 100)
    until_us = now_us() + 60_000_000
    boosted = await limits.boost("acme", made.limit.id, 400, until_us)
    assert (boosted.limit.boost, boosted.limit.boost_until_us) == (400, until_us)
    gateway = Database(migrated_url, role="gateway", pool_size=1)
    directory = DirectoryService(
        gateway, tmp_path / "copy", now_us, monotonic_us, poll_interval_s=9, stale_max_s=9
    )
    await directory.load()
    (known,) = directory.limits(directory.caller(secret, now_us()), "golden")
    assert (known.at(now_us()).amount, known.at(until_us).amount) == (400, 100)
    await gateway.close()
    assert (await limits.boost("acme", made.limit.id, None, None)).limit.boost is None
    with pytest.raises(InvalidInput, match="has an amount and an end"):
        await limits.boost("acme", made.limit.id, 400, None)
    with pytest.raises(NotFound):
        await limits.boost("acme", UUID(int=1), 400, until_us)
