"""The examples of the documentation are true: played on an empty server, each is accepted and answered as shown."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin_kit import Api, admin_api

STORY = (
    "POST /tenants",
    "GET /tenants",
    "GET /tenants/{tenant}",
    "PATCH /tenants/{tenant}",
    "POST /tenants/{tenant}/projects",
    "POST /tenants/{tenant}/keys",
    "POST /plans",
    "GET /plans/{plan}",
    "POST /tenants/{tenant}/subscriptions",
    "PUT /backends/{backend}",
    "PATCH /backends/{backend}",
    "POST /models",
    "POST /models/change",
    "POST /models/deploy",
    "PUT /tenants/{tenant}/limits",
    "GET /limits",
    "POST /models/archive",
    "POST /backends/{backend}/archive",
    "POST /tenants/{tenant}/projects/{project}/archive",
)
PLACEHOLDERS = re.compile(
    r"sk-\S+.*|019ab3f4-8c00-\S+|20\d\d-\d\d-\d\dT\S+|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f-]{17}"
)
"""Ids, keys and instants, on either side."""


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        yield made


@pytest.fixture
async def paths(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await api.send("GET", "/api/v1/openapi.json", headers={})).json()["paths"]
    return found


class Operation:
    """One operation with what its documentation says to send and what it says is answered."""

    def __init__(self, paths: dict[str, Any], name: str) -> None:
        self.method, path = name.split()
        self.said = paths[f"/api/v1{path}"][self.method.lower()]
        self.path = re.sub(r"\{(\w+)\}", lambda found: self._parameter(found[1]), path)
        self.status, reply = next(each for each in self.said["responses"].items() if each[0][0] == "2")
        self.answer = _example(reply["content"]["application/json"])
        body = self.said.get("requestBody")
        self.body = None if body is None else _example(body["content"]["application/json"])

    def _parameter(self, name: str) -> str:
        (found,) = (each for each in self.said["parameters"] if each["name"] == name)
        (example,) = found["examples"].values()
        return str(example["value"])


def _example(content: dict[str, Any]) -> Any:
    return content["examples"]["example"]["value"]


def without_placeholders(value: Any) -> Any:
    """The same with one word for whatever is another on each server."""
    if isinstance(value, dict):
        return {name: without_placeholders(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_placeholders(each) for each in value]
    return "placeholder" if isinstance(value, str) and PLACEHOLDERS.fullmatch(value) else value


async def test_played_in_order_each_is_accepted_and_answered_as_shown(
    api: Api, paths: dict[str, Any]
) -> None:
    for name in STORY:
        each = Operation(paths, name)
        answer = await api.ok(each.method, each.path, each.body, int(each.status))
        assert without_placeholders(answer) == without_placeholders(each.answer), name
        if name.startswith("PUT /backends"):
            await api.ok("PUT", "/backends/gpu-2", each.body)


async def test_numbers_of_invoices_have_the_form_that_is_printed(paths: dict[str, Any]) -> None:
    numbers = set(re.findall(r"INV-\w+", str(paths)))
    assert numbers == {"INV-000001"}


async def test_no_example_sends_a_key_or_an_id_that_nobody_has(paths: dict[str, Any]) -> None:
    bodies = [
        content["examples"]
        for item in paths.values()
        for operation in item.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    assert len(bodies) > 10
    assert not re.search(r"sk-|[0-9a-f]{8}-[0-9a-f]{4}-", str(bodies))


async def test_an_invoice_s_example_is_hashed_as_it_stands(paths: dict[str, Any]) -> None:
    shown = Operation(paths, "GET /invoices/{number}").answer
    listed = Operation(paths, "GET /invoices").answer["data"][0]
    assert shown["number"] == listed["number"]
    assert shown["content"]["total"] == listed["total"] == "21.00"
    assert shown["content"]["time_zone"] == listed["time_zone"] == "Asia/Kolkata"
    assert re.fullmatch("[0-9a-f]{64}", shown["content_sha256"])
