"""The API describes itself whole, and its page needs no foreign server."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin_kit import PROBLEM, Api, admin_api

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        yield made


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await api.send("GET", "/api/v1/openapi.json", headers={})).json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield f"{method.upper()} {path}", item[method]


def success(operation: dict[str, Any]) -> dict[str, Any]:
    (status,) = (status for status in operation["responses"] if status.startswith("2"))
    found: dict[str, Any] = operation["responses"][status]
    return found


async def test_it_is_openapi_3_1_and_asks_for_the_token(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["admin_token"]["scheme"] == "bearer"
    assert len(document["paths"]) > 25
    assert set(document["paths"]) >= {"/api/v1/tenants", "/api/v1/invoices/close", "/api/v1/audit"}


async def test_every_operation_has_a_summary_a_description_and_examples_of_both_ways(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document):
        assert operation["security"] == [{"admin_token": []}], name
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert operation["tags"], name
        for content in success(operation)["content"].values():
            assert content["examples"]["example"]["value"] is not None, name
        if "requestBody" in operation:
            for content in operation["requestBody"]["content"].values():
                assert content["examples"]["example"]["value"], name


async def test_every_operation_shows_the_problems_it_may_answer(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        refusals = {status: each for status, each in operation["responses"].items() if status >= "4"}
        assert {"400", "401", "503"} <= set(refusals), name
        for status, response in refusals.items():
            example = response["content"][PROBLEM]["examples"]["example"]["value"]
            assert example["status"] == int(status), name


async def test_an_example_shows_what_is_null(document: dict[str, Any]) -> None:
    listed = success(document["paths"]["/api/v1/tenants/{tenant}/projects"]["get"])
    page = listed["content"]["application/json"]["examples"]["example"]["value"]
    assert page["next"] is None
    assert page["data"][0]["archived_at"] is None


async def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), f"{name} {parameter['name']}"


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/([^\"']+)", str(document)))
    assert named
    assert named <= set(document["components"]["schemas"])


async def test_examples_of_a_body_are_accepted_as_they_stand(api: Api, document: dict[str, Any]) -> None:
    """What is refused is refused for what is not there, never for the example's own shape."""
    for name, operation in operations(document):
        method, path = name.split()
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            value = content["examples"]["example"]["value"]
            sent = {"json": value} if kind.endswith("json") else {"content": value}
            headers = api.headers | {"content-type": kind}
            answer = await api.send(method, re.sub(r"\{[^}]+\}", "acme", path), headers=headers, **sent)
            assert answer.status_code in {200, 201, 404, 409}, f"{name}: {answer.text}"


async def test_the_page_loads_from_this_machine_alone(api: Api) -> None:
    page = await api.send("GET", "/api/docs", headers={})
    assert page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(needed) == 4
    for path in needed:
        assert path.startswith("/api/docs/assets/")
        answer = await api.send("GET", path, headers={})
        assert answer.status_code == 200
        assert len(answer.content) > 100
        assert answer.headers["content-type"].split(";")[0] in {"text/css", "text/javascript", "image/png"}
    # The content security policy lets no script inside the page run.
    assert "<script>" not in page.text
    assert "://" not in page.text


@pytest.mark.parametrize("name", ["swagger-editor.js", "..%2Fcore.py", "x", "index.css"])
async def test_no_other_file_is_served(api: Api, name: str) -> None:
    assert (await api.send("GET", f"/api/docs/assets/{name}", headers={})).status_code == 404
