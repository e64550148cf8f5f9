"""What a tenant's own key opens at the control process, on a real Postgres and Valkey: its own usage, limits and prices."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from billing.access import token
from billing.app.control_child import application
from billing.directory.service import DirectoryService
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import monotonic_us, new_id, now_us, random_bytes
from billing.infra.valkey import Valkey
from billing.limits.admission import Admission
from billing.limits.cache import LimitCache
from billing.limits.limit import Meter
from billing.limits.service import LimitService
from billing.portal.services import Portal
from billing.pricing.service import PricingService
from billing.settings import LimitsSettings, Settings
from billing.tenants.service import TenantService
from billing.tokens.usage import Outcome
from tests.admin_kit import TOKEN
from tests.invoice_kit import record, save, usage
from tests.limits_kit import need, settled, used
from tests.metering_kit import id_maker

PLAN = """
plan: portal
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000000
    rates:
      - model: "*"
        input: "1"
        cached_input: "0.5"
        output: "2"
"""


class World(NamedTuple):
    """Two tenants, their keys, and the application."""

    url: str
    client: httpx.AsyncClient
    tenants: dict[str, UUID]
    keys: dict[str, str]
    directory: DirectoryService
    control: Database
    admission: Admission

    async def ask(self, path: str, who: str = "acme", **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        return await self.client.request(options.pop("method", "GET"), path, headers=headers, **options)

    async def told(self, path: str, who: str = "acme", **options: Any) -> Any:
        answer = await self.ask(path, who, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def world(migrated_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[World]:
    control, owner = Database(migrated_url, role="control"), Database(migrated_url, pool_size=1)
    own = Database(migrated_url, role="portal", pool_size=2)
    tenants, keys = TenantService(control, now_us, new_id, random_bytes), {}
    ids = {}
    for slug in ("acme", "globex"):
        ids[slug] = (await tenants.create_tenant(slug, timezone="Asia/Kolkata")).id
        keys[slug] = (await tenants.create_key(slug, "program")).secret.text
    fleet = FleetService(control, now_us, new_id)
    await fleet.add_backend("gpu-1", "http://127.0.0.1:9", "vllm")
    await fleet.add_model("golden", [DeploymentRequest("gpu-1")], ["alias"])
    pricing = PricingService(control, now_us, new_id)
    await pricing.subscribe(ids["acme"], (await pricing.apply(PLAN)).plan)
    directory = DirectoryService(
        control, tmp_path / "copy", now_us, monotonic_us, poll_interval_s=9, stale_max_s=99
    )
    await directory.load()
    valkey = Valkey(valkey_url, timeout_s=2.0, queue_max=1_000)
    cache = LimitCache(valkey)
    admission = Admission(cache, now_us, monotonic_us, LimitsSettings(timeout_s=2.0))
    await valkey.connect()
    await admission.renew()
    settings = Settings(data_dir=tmp_path, database_url=migrated_url, admin_token_hash=token.hash_of(TOKEN))
    app = application(control, owner, settings, portal=Portal(own, directory, cache, now_us))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # Litestar's own types
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield World(migrated_url, client, ids, keys, directory, control, admission)
    await valkey.close()
    for database in (own, owner, control):
        await database.close()


async def arrive(world: World, who: str, number: int, *counts: int | None, **options: Any) -> UUID:
    ids = id_maker(seed=number)
    made = record(
        ids(), usage(*counts, cached=options.pop("cached", None)), tenant_id=world.tenants[who], **options
    )
    await save(world.url, [made], now_us())
    return made.opened.id


async def test_a_month_is_summed_up_for_its_own_tenant(world: World) -> None:
    for number in range(3):
        await arrive(world, "acme", number, 100, 50)
    await arrive(world, "globex", 9, 7, 7)
    summary = await world.told("/v1/usage")
    assert (summary["tenant"], summary["requests"], summary["tokens"]) == ("acme", 3, 450)
    assert summary["start"].endswith("T18:30:00Z")  # the first of the month in Kolkata
    assert [line["model"] for line in summary["lines"]] == ["golden"]
    admin = {"authorization": f"Bearer {TOKEN}"}
    other = (await world.client.get("/api/v1/tenants/acme/usage", headers=admin)).json()
    assert {name: summary[name] for name in summary if name != "as_of"} == {
        name: other[name] for name in other if name != "as_of"
    }
    assert (await world.told("/v1/usage?period=2026-01"))["requests"] == 0
    refused = await world.ask("/v1/usage?period=january")
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")


async def test_one_request_is_shown_with_its_cost_and_nobody_sees_anothers(world: World) -> None:
    mine = await arrive(world, "acme", 1, 1_000, 500, cached=200)
    theirs = await arrive(world, "globex", 2, 5, 5)
    shown = await world.told(f"/v1/usage/{mine}")
    assert (shown["id"], shown["model"], shown["input"]["value"], shown["output"]["value"]) == (
        str(mine), "golden", 1_000, 500,
    )  # fmt: skip
    assert shown["cost"] == {
        "amount": "0.0019", "currency": "USD", "estimate": False, "disposition": "bill", "unrated": [],
    }  # fmt: skip
    assert "backend_id" not in shown
    for path in (f"/v1/usage/{theirs}", f"/v1/usage/{UUID(int=7)}", "/v1/usage/nonsense"):
        assert (await world.ask(path)).status_code == 404
    assert (await world.told(f"/v1/usage/{theirs}", "globex"))["cost"]["amount"] is None


async def test_what_failed_is_waived(world: World) -> None:
    failed = await arrive(world, "acme", 3, 10, 0, outcome=Outcome.UPSTREAM_ERROR, status=502)
    assert (await world.told(f"/v1/usage/{failed}"))["cost"]["disposition"] == "waive"


async def test_the_database_itself_keeps_tenants_apart(world: World) -> None:
    await arrive(world, "globex", 4, 5, 5)
    own = Database(world.url, role="portal", pool_size=1)

    for database, count in (
        (own, 0),
        (own.for_tenant(world.tenants["acme"]), 0),
        (own.for_tenant(world.tenants["globex"]), 1),
    ):
        async with database.transaction() as connection:
            found = (await connection.execute(text("SELECT count(*) FROM usage_record"))).scalar_one()
            assert found == count
            names = (await connection.execute(text("SELECT count(*) FROM tenant"))).scalar_one()
            assert names == (0 if database is own else 1)
    await own.close()


async def test_limits_say_what_is_left_and_looking_takes_nothing(world: World) -> None:
    service = LimitService(world.control, now_us, new_id)
    await service.set("acme", Meter.TOKENS, 1_000)
    await service.set("acme", Meter.CONCURRENCY, 3)
    await service.set("acme", Meter.REQUESTS, 5, per_end_user=True)
    await service.set("acme", Meter.OUTPUT_TOKENS, 100, model="golden", strict=True, window_s=86_400)
    await service.set("globex", Meter.REQUESTS, 7)
    await world.directory.refresh()
    caller = world.directory.caller(f"Bearer {world.keys['acme']}".encode(), now_us())
    limits = [each for each in world.directory.limits_of(caller) if not each.per_end_user]
    untouched = {each["meter"]: each["remaining"] for each in (await world.told("/v1/limits"))["limits"]}
    assert untouched == {"tokens": 1_000, "concurrency": 3, "requests": None, "output_tokens": 100}
    permit = await world.admission.admit(new_id(), limits, need(300))
    for _ in range(3):
        told = (await world.told("/v1/limits"))["limits"]
    left = {(each["meter"], each["scope"]): each["remaining"] for each in told}
    assert 700 <= left.pop(("tokens", "tenant")) <= 750
    assert left == {
        ("concurrency", "tenant"): 2,
        ("requests", "end_user"): None,
        ("output_tokens", "tenant"): 99,
    }
    world.admission.settle(permit, used(200))
    await settled(world.admission)
    told = (await world.told("/v1/limits"))["limits"]
    assert {each["meter"]: each["remaining"] for each in told}["concurrency"] == 3
    assert [each["amount"] for each in (await world.told("/v1/limits", "globex"))["limits"]] == [7]


async def test_a_request_is_priced_before_it_is_made(world: World) -> None:
    body = {"model": "alias", "input_tokens": 1_000, "cached_input_tokens": 200, "output_tokens": 500}
    told = await world.told("/v1/estimate", method="POST", json=body)
    assert (told["model"], told["currency"], told["amount"], told["estimate"]) == (
        "golden",
        "USD",
        "0.0019",
        False,
    )
    assert [(line["component"], line["quantity"], line["amount"]) for line in told["lines"]] == [
        ("uncached_input", 800, "0.0008"), ("cached_input", 200, "0.0001"), ("answer_output", 500, "0.001"),
    ]  # fmt: skip
    assert (await world.told("/v1/estimate", "globex", method="POST", json=body))["amount"] is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "golden", "input_tokens": -1}, "input_tokens"),
        ({"model": "golden", "input_tokens": 1, "cached_input_tokens": 2}, "cached_input_tokens"),
        ({"model": "golden", "output_tokens": 1, "reasoning_tokens": 2}, "reasoning_tokens"),
    ],
)
async def test_what_cannot_be_priced_is_said(world: World, body: dict[str, Any], param: str) -> None:
    refused = await world.ask("/v1/estimate", method="POST", json=body)
    assert (refused.status_code, refused.json()["param"]) == (400, param)


async def test_only_a_tenants_key_opens_it(world: World) -> None:
    for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"authorization": "Bearer sk-unknown"}):
        refused = await world.client.get("/v1/limits", headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    by_name = await world.client.get("/v1/limits", headers={"x-api-key": world.keys["acme"]})
    assert by_name.status_code == 200
    assert (await world.ask("/v1/estimate", method="POST", json={"model": "nobody"})).status_code == 404
    assert (await world.ask("/api/v1/tenants")).status_code == 401
