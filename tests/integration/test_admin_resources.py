"""What an operator does through the admin API, on a real database."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from billing.admin.plans import YAML
from tests.admin_kit import Api, admin_api
from tests.metering_kit import ask

UNIT = Path(__file__).parents[2] / "examples/plans/demo.yaml"


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        yield made


@pytest.fixture
async def acme(api: Api) -> dict[str, Any]:
    made: dict[str, Any] = await api.made("/tenants", {"slug": "acme", "name": "Acme Inc."})
    return made


async def test_a_tenant_is_made_changed_and_shown(api: Api) -> None:
    made = await api.made("/tenants", {"slug": "acme", "name": "Acme Inc.", "timezone": "Asia/Kolkata"})
    assert (made["slug"], made["timezone"], made["status"]) == ("acme", "Asia/Kolkata", "active")
    assert made["created_at"].endswith("Z")
    changed = await api.ok("PATCH", "/tenants/acme", {"status": "suspended"})
    assert changed == made | {"status": "suspended"}
    changed = await api.ok(
        "PATCH", "/tenants/acme", {"name": "Acme Ltd", "timezone": "UTC", "status": "active"}
    )
    assert await api.ok("GET", "/tenants/acme") == changed == made | {"name": "Acme Ltd", "timezone": "UTC"}
    assert (await api.refused(409, "POST", "/tenants", {"slug": "acme"}))[
        "detail"
    ] == "tenant acme exists already"
    assert (await api.refused(400, "PATCH", "/tenants/acme", {"status": "gone"}))["param"] == "status"
    await api.refused(404, "PATCH", "/tenants/nobody", {"name": "x"})


async def test_a_project_is_made_and_archived_once(api: Api, acme: dict[str, Any]) -> None:
    made = await api.made("/tenants/acme/projects", {"slug": "search"})
    assert (made["tenant_id"], made["archived_at"]) == (acme["id"], None)
    archived = await api.ok("POST", "/tenants/acme/projects/search/archive")
    assert archived["archived_at"] is not None
    assert await api.ok("POST", "/tenants/acme/projects/search/archive") == archived
    assert await api.pages("/tenants/acme/projects", 10) == [archived]
    await api.refused(404, "POST", "/tenants/acme/projects/nothing/archive")
    await api.refused(409, "POST", "/tenants/acme/projects", {"slug": "search"})


async def test_a_key_is_shown_once_and_revoked(api: Api, acme: dict[str, Any]) -> None:
    await api.made("/tenants/acme/projects", {"slug": "search"})
    body = {
        "name": "laptop",
        "project": "search",
        "expires_at": "2199-01-01T00:00:00Z",
        "tags": {"team": "x"},
    }
    made = await api.made("/tenants/acme/keys", body)
    text = made.pop("key")
    assert text.startswith(made["prefix"])
    assert len(text) == 62
    assert (made["state"], made["expires_at"], made["tags"]) == (
        "active",
        "2199-01-01T00:00:00Z",
        {"team": "x"},
    )
    assert await api.pages("/tenants/acme/keys", 10) == [made]
    for name in (made["prefix"], made["id"]):
        revoked = await api.ok("POST", f"/tenants/acme/keys/{name}/revoke")
        assert revoked["state"] == "revoked"
    problem = await api.refused(400, "POST", f"/tenants/acme/keys/{text}/revoke")
    assert text[11:] not in str(problem)
    assert (await api.refused(400, "POST", "/tenants/acme/keys", {"expires_at": "soon"}))[
        "param"
    ] == "expires_at"
    await api.refused(404, "POST", "/tenants/acme/keys", {"project": "nothing"})


async def test_a_plan_is_applied_as_text_or_in_json_and_says_what_it_did(api: Api) -> None:
    headers = api.headers | {"content-type": "text/yaml"}
    applied = await api.ok("POST", "/plans", headers=headers, content=YAML)
    assert (applied["is_new"], applied["changed"]) == (True, True)
    assert [step["change"] for step in applied["steps"]] == ["added"]
    again = await api.ok("POST", "/plans", {"yaml": YAML})
    assert (again["is_new"], again["changed"]) == (False, False)
    shown = await api.ok("GET", "/plans/standard")
    assert (await api.pages("/plans", 10)) == [shown]
    (version,) = shown["versions"]
    assert version["monthly_fee"] == "20"
    assert version["rates"][0]["prices"]["answer_output"] == {
        "shape": "unit", "unit": "tokens", "allowance": 0, "pool": None, "price": "1.5", "per": 1_000_000,
    }  # fmt: skip
    problem = await api.refused(409, "POST", "/plans", {"yaml": YAML.replace("1.50", "1.60")})
    assert "A version never changes" in problem["detail"]
    problem = await api.refused(400, "POST", "/plans", {"yaml": YAML.replace("0.50", "cheap")})
    assert problem["param"] == "versions[0].rates[0].uncached_input"


async def test_a_plan_that_is_hardly_meant_is_applied_with_warnings(api: Api) -> None:
    applied = await api.ok(
        "POST", "/plans", {"yaml": YAML.replace('uncached_input: "0.50"', 'input: "0.50"')}
    )
    for warning in applied["warnings"]:
        assert set(warning) == {"where", "text"}


async def test_a_tenant_subscribes_and_ends(api: Api, acme: dict[str, Any]) -> None:
    await api.ok("POST", "/plans", {"yaml": YAML})
    path = "/tenants/acme/subscriptions"
    made = await api.made(path, {"plan": "standard", "starts_at": "2026-11-01T05:30:00+05:30"})
    assert (made["starts_at"], made["ends_at"], made["plan"]) == ("2026-11-01T00:00:00Z", None, "standard")
    await api.refused(409, "POST", path, {"plan": "standard"})
    assert (await api.refused(400, "POST", f"{path}/end", {"ends_at": "2026-12-01T00:07:00Z"}))[
        "param"
    ] == "ends_at"
    ended = await api.ok("POST", f"{path}/end", {"ends_at": "2026-12-01T00:00:00Z"})
    assert ended == made | {"ends_at": "2026-12-01T00:00:00Z"}
    later = await api.made(path, {"plan": "standard", "starts_at": "2026-12-01T00:00:00Z"})
    assert await api.pages(path, 1) == [ended, later]
    await api.refused(404, "POST", path, {"plan": "none"})


async def test_backends_and_models_are_put_deployed_and_archived(api: Api) -> None:
    body = {"url": "http://10.0.0.7:8000/", "engine": "vllm", "credential": "hunter2", "concurrency": 8}
    made = await api.ok("PUT", "/backends/gpu-1", body)
    assert (made["url"], made["has_credential"], made["archived_at"]) == ("http://10.0.0.7:8000", True, None)
    assert "hunter2" not in str(made)
    changed = await api.ok("PUT", "/backends/gpu-1", {"url": "http://10.0.0.8:8000", "engine": "nim"})
    assert (changed["id"], changed["engine"], changed["has_credential"]) == (made["id"], "nim", False)
    assert (await api.refused(400, "PUT", "/backends/gpu-2", body | {"engine": "gpt"}))["param"] == "engine"

    model = await api.made(
        "/models", {"name": "meta/llama", "deployments": [{"backend": "gpu-1"}], "aliases": ["llama"]}
    )
    assert model["deployments"] == [
        {"backend": "gpu-1", "backend_model": "meta/llama", "weight": 1, "priority": 0}
    ]
    await api.ok("PUT", "/backends/gpu-2", {"url": "http://10.0.0.9:8000", "engine": "vllm"})
    deployed = await api.ok(
        "POST", "/models/deploy", {"model": "meta/llama", "backend": "gpu-2", "priority": 1}
    )
    assert [each["backend"] for each in deployed["deployments"]] == ["gpu-1", "gpu-2"]
    archived = await api.ok("POST", "/models/archive", {"model": "meta/llama"})
    assert archived["archived_at"] is not None
    assert await api.ok("POST", "/models/archive", {"model": "meta/llama"}) == archived
    assert (
        "archived"
        in (await api.refused(409, "POST", "/models/deploy", {"model": "meta/llama", "backend": "gpu-1"}))[
            "detail"
        ]
    )
    await api.refused(409, "POST", "/models", {"name": "llama", "deployments": [{"backend": "gpu-1"}]})
    await api.refused(404, "POST", "/models/archive", {"model": "none"})

    gone = await api.ok("POST", "/backends/gpu-1/archive")
    assert await api.ok("POST", "/backends/gpu-1/archive") == gone
    assert gone["archived_at"] is not None
    back = await api.ok("PUT", "/backends/gpu-1", {"url": "http://10.0.0.8:8000", "engine": "nim"})
    assert back["archived_at"] is None
    await api.refused(404, "POST", "/backends/none/archive")


async def test_a_backend_s_parts_are_changed_and_its_credential_stays(api: Api) -> None:
    body = {"url": "http://10.0.0.7:8000", "engine": "generic", "credential": "hunter2"}
    made = await api.ok("PUT", "/backends/gpu-1", body)
    assert made["on_hang_up"] == "abort"
    changed = await api.ok(
        "PATCH", "/backends/gpu-1", {"engine": "sglang", "on_hang_up": "stream_and_assemble"}
    )
    assert changed == made | {"engine": "sglang", "on_hang_up": "stream_and_assemble"}
    assert await api.ok("PATCH", "/backends/gpu-1", {}) == changed
    assert await api.pages("/backends", 10) == [changed]
    put = await api.ok("PUT", "/backends/gpu-1", body | {"on_hang_up": "drain"})
    assert (put["on_hang_up"], put["engine"]) == ("drain", "generic")
    for refused in ({"on_hang_up": "wait"}, {"engine": "gpt"}, {"url": "http://10.0.0.8:8000"}):
        await api.refused(400, "PATCH", "/backends/gpu-1", refused)
    assert (await api.refused(400, "PUT", "/backends/gpu-2", body | {"on_hang_up": "wait"}))["param"] == (
        "on_hang_up"
    )
    await api.refused(404, "PATCH", "/backends/none", {"on_hang_up": "drain"})
    [entry, *_] = await api.pages("/audit?subject=backend", 10)
    assert set(entry["changed"]) >= {"on_hang_up", "engine"}


async def test_how_a_model_s_text_is_read_is_set_and_changed(api: Api) -> None:
    await api.ok("PUT", "/backends/gpu-1", {"url": "http://10.0.0.7:8000", "engine": "ollama"})
    tags = {"start": "<think>", "end": "</think>"}
    body = {"name": "org/qwen", "deployments": [{"backend": "gpu-1"}]}
    made = await api.made(
        "/models", body | {"reasoning_tags": tags, "tokenizer": "/models/qwen/tokenizer.json"}
    )
    assert (made["reasoning_tags"], made["tokenizer"]) == (tags, "/models/qwen/tokenizer.json")
    changed = await api.ok("POST", "/models/change", {"model": "org/qwen", "tokenizer": "qwen3"})
    assert changed == made | {"tokenizer": "qwen3"}
    changed = await api.ok("POST", "/models/change", {"model": "org/qwen", "reasoning_tags": None})
    assert changed == made | {"tokenizer": "qwen3", "reasoning_tags": None}
    assert await api.pages("/models", 10) == [changed]
    for body, param in (
        ({"tokenizer": "tokenizer.json"}, "tokenizer"),
        ({"reasoning_tags": {"start": "a", "end": "a"}}, "reasoning_tags"),
        ({"reasoning_tags": {"start": "a\n", "end": "b"}}, "reasoning_tags.start"),
    ):
        problem = await api.refused(400, "POST", "/models/change", {"model": "org/qwen", **body})
        assert problem["param"] == param
    await api.refused(404, "POST", "/models/change", {"model": "none", "tokenizer": None})
    [entry, *_] = await api.pages("/audit?subject=model", 10)
    assert set(entry["changed"]) >= {"reasoning_start", "reasoning_end"}


async def test_a_limit_is_set_changed_and_removed(api: Api, acme: dict[str, Any]) -> None:
    key = await api.made("/tenants/acme/keys", {})
    body = {"meter": "requests", "amount": 50, "key": key["prefix"]}
    made = await api.ok("PUT", "/tenants/acme/limits", body)
    assert (made["scope"], made["key"], made["window_s"], made["enforce"]) == (
        "key",
        key["prefix"],
        60,
        "enforced",
    )
    changed = await api.ok("PUT", "/tenants/acme/limits", body | {"amount": 60, "on_failure": "open"})
    assert changed == made | {"amount": 60, "on_failure": "open"}
    whole = await api.ok(
        "PUT", "/tenants/acme/limits", {"meter": "concurrency", "amount": 8, "enforce": "shadow"}
    )
    assert (whole["scope"], whole["window_s"]) == ("tenant", None)
    assert await api.pages("/limits?tenant=acme", 1) == await api.pages("/limits", 1) == [changed, whole]
    removed = await api.ok("DELETE", f"/tenants/acme/limits/{made['id']}")
    assert removed["id"] == made["id"]
    assert await api.pages("/limits", 10) == [whole]
    await api.refused(404, "DELETE", f"/tenants/acme/limits/{made['id']}")
    await api.refused(404, "DELETE", "/tenants/acme/limits/x")
    assert (await api.refused(400, "PUT", "/tenants/acme/limits", {"meter": "requests", "amount": 0}))[
        "param"
    ] == "amount"
    assert (await api.refused(400, "PUT", "/tenants/acme/limits", {"meter": "lines", "amount": 1}))[
        "param"
    ] == "meter"


async def test_the_audit_log_names_the_operator_and_hides_secrets(
    api: Api, acme: dict[str, Any], migrated_url: str
) -> None:
    await api.ok(
        "PUT", "/backends/gpu-1", {"url": "http://10.0.0.7:8000", "engine": "vllm", "credential": "hunter2"}
    )
    await api.ok(
        "PUT", "/backends/gpu-1", {"url": "http://10.0.0.7:8000", "engine": "vllm", "credential": "hunter3"}
    )
    made = await api.made("/tenants/acme/keys", {})
    await api.ok("PATCH", "/tenants/acme", {"status": "suspended"})
    await ask(migrated_url, "UPDATE tenant SET name = 'By hand' WHERE slug = 'acme'")
    entries = await api.pages("/audit", 2)
    assert [(each["actor"], each["subject"], each["action"], each["changed"]) for each in entries][:2] == [
        ("sql:postgres", "tenant", "update", ["name"]),
        ("admin", "tenant", "update", ["status"]),
    ]
    assert entries[3]["changed"] == ["credential"]
    assert [each["id"] for each in entries] == sorted((each["id"] for each in entries), reverse=True)
    text = str(entries)
    assert "hunter" not in text
    assert made["key"] not in text
    assert entries[0]["at"].endswith("Z")

    of_acme = await api.pages("/audit?tenant=acme&subject=tenant&actor=admin", 10)
    assert [each["action"] for each in of_acme] == ["update", "insert"]
    assert {UUID(each["tenant_id"]) for each in of_acme} == {UUID(acme["id"])}
    assert (await api.refused(400, "GET", "/audit?subject=secrets"))["param"] == "subject"
    await api.refused(404, "GET", "/audit?tenant=nobody")
