"""Pages tile: every entry that was there throughout stands in exactly one page, whatever is added meanwhile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.admin_kit import Api, admin_api
from tests.invoice_kit import at, record, save, usage, usage_id

COUNT = 11
PAGE = 3
BACKEND = {"url": "http://10.0.0.7:8000", "engine": "vllm"}
PLAN = "plan: {}\ncurrency: USD\nversions:\n  - effective: 2026-11-01T00:00:00Z\n    per: 1\n    rates: [{{model: m, output: free}}]\n"

Add = Callable[[str], Awaitable[object]]


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        await made.made("/tenants", {"slug": "m-acme"})
        await made.ok("PUT", "/backends/m-gpu", BACKEND)
        yield made


def lists(api: Api) -> dict[str, Add]:
    """Each list by its path, and how an entry of a name is added to it."""
    of_acme = "/tenants/m-acme"
    return {
        "/tenants": lambda name: api.made("/tenants", {"slug": name}),
        f"{of_acme}/projects": lambda name: api.made(f"{of_acme}/projects", {"slug": name}),
        f"{of_acme}/keys": lambda name: api.made(f"{of_acme}/keys", {"name": name}),
        "/plans": lambda name: api.ok("POST", "/plans", {"yaml": PLAN.format(name)}),
        "/models": lambda name: api.made("/models", {"name": name, "deployments": [{"backend": "m-gpu"}]}),
        "/backends": lambda name: api.ok("PUT", f"/backends/{name}", BACKEND),
        "/audit": lambda name: api.made("/tenants", {"slug": f"audit-{name}"}),
    }


PATHS = [
    "/tenants",
    "/tenants/m-acme/projects",
    "/tenants/m-acme/keys",
    "/plans",
    "/models",
    "/backends",
    "/audit",
]


@pytest.mark.parametrize("path", PATHS)
async def test_pages_tile_while_entries_are_added(api: Api, path: str) -> None:
    add = lists(api)[path]
    for number in range(COUNT):
        await add(f"n-{number:02}")
    before = [each["id"] for each in await api.pages(path, 200)]
    seen: list[Any] = []
    after = ""
    for turn in range(20):
        page = await api.ok("GET", f"{path}?limit={PAGE}{after}")
        seen += [each["id"] for each in page["data"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
        # One that sorts before everything shown, and one that sorts behind.
        await add(f"a-{turn:02}")
        await add(f"z-{turn:02}")
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in set(before)] == before
    assert len(before) >= COUNT


async def test_usage_records_tile_by_arrival_while_requests_arrive(api: Api, migrated_url: str) -> None:
    tenant = await api.ok("GET", "/tenants/m-acme")
    owned = {"tenant_id": UUID(tenant["id"])}
    moment = "2026-11-24T10:00:00Z"

    async def arrive(*numbers: int, model: str = "golden") -> None:
        records = [record(usage_id(moment, number), usage(10, 5), model=model, **owned) for number in numbers]
        await save(migrated_url, records, at(moment))

    await arrive(*range(100, 100 + COUNT))
    await arrive(50, 51, model="other")
    whole = await api.pages("/usage/records?tenant=m-acme", 200)
    assert len(whole) == COUNT + 2
    first = await api.ok("GET", f"/usage/records?limit={PAGE}")
    await arrive(500, 1)
    rest = await api.pages(f"/usage/records?after={first['next']}", PAGE)
    seen = [each["id"] for each in first["data"] + rest]
    assert seen == [each["id"] for each in whole] + [str(usage_id(moment, 1))]
    assert [each["model"] for each in await api.pages("/usage/records?model=other&tenant=m-acme", 1)] == [
        "other"
    ] * 2
    assert whole[0]["at"] == moment
    assert whole[0]["input"] == {"value": 10, "provenance": "reported", "method": "usage"}
    assert whole[0]["reasoning"] == {"value": None, "provenance": None, "method": None}
    await api.refused(404, "GET", "/usage/records?tenant=nobody")
