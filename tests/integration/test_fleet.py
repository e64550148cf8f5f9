"""Backends, models and deployments on a real Postgres, under the role that operators work with."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from billing.errors import Conflict, InvalidInput, NotFound
from billing.fleet.backend import EngineKind, OnHangUp
from billing.fleet.deployment import DeploymentRequest, Placement
from billing.fleet.model import ReasoningTags
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from tests.invoice_kit import at
from tests.metering_kit import ask, id_maker

NOW = at("2026-11-24T10:00:00Z")
URL = "http://127.0.0.1:8080"


@pytest.fixture
async def service(migrated_url: str) -> AsyncIterator[FleetService]:
    database = Database(migrated_url, role="control", pool_size=4)
    yield FleetService(database, lambda: NOW, id_maker())
    await database.close()


async def test_a_backend_is_added_once(service: FleetService) -> None:
    made = await service.add_backend("local", f"{URL}/", "llama.cpp", concurrency=8)
    assert (made.url, made.engine, made.concurrency, made.has_credential) == (
        URL,
        EngineKind.LLAMA_CPP,
        8,
        False,
    )
    assert await service.list_backends(10) == [made]
    with pytest.raises(Conflict, match="backend local exists already"):
        await service.add_backend("local", URL, "vllm")


async def test_a_credential_is_stored_for_the_gateway_and_shown_to_nobody(
    service: FleetService, migrated_url: str
) -> None:
    made = await service.add_backend("nim", "https://nim.internal", "nim", credential="hunter2")
    assert made.has_credential
    assert "hunter2" not in f"{made!r} {await service.list_backends(10)!r} {service!r}"
    assert (await ask(migrated_url, "SELECT credential FROM backend"))[0][0] == "hunter2"


async def test_a_backend_that_is_put_again_changes_and_keeps_its_id(
    service: FleetService, migrated_url: str
) -> None:
    first = await service.put_backend("local", URL, "llama.cpp", credential="old", concurrency=8)
    second = await service.put_backend("local", "http://127.0.0.1:9090", "vllm")
    assert second.id == first.id
    assert await service.list_backends(10) == [second]
    (row,) = await ask(migrated_url, "SELECT url, engine, credential, concurrency, version FROM backend")
    assert tuple(row)[:4] == ("http://127.0.0.1:9090", "vllm", None, None)
    assert row["version"] == (await ask(migrated_url, "SELECT version FROM directory_version"))[0][0]


async def test_every_engine_can_be_added(service: FleetService) -> None:
    for kind in EngineKind:
        await service.add_backend(kind.value, URL, kind)
    assert {backend.engine for backend in await service.list_backends(100)} == set(EngineKind)


async def test_what_becomes_of_a_hang_up_is_abort_until_it_is_said(service: FleetService) -> None:
    assert (await service.add_backend("a", URL, "vllm")).on_hang_up is OnHangUp.ABORT
    put = await service.put_backend("a", URL, "vllm", on_hang_up="drain")
    assert put.on_hang_up is OnHangUp.DRAIN
    assert await service.backend("a") == put
    assert (await service.put_backend("a", URL, "vllm")).on_hang_up is OnHangUp.ABORT
    with pytest.raises(InvalidInput, match="on_hang_up: 'wait' says nothing of a hang-up"):
        await service.put_backend("a", URL, "vllm", on_hang_up="wait")


async def test_parts_of_a_backend_change_and_the_others_stay(
    service: FleetService, migrated_url: str
) -> None:
    first = await service.add_backend("a", URL, "generic", credential="hunter2", concurrency=8)
    changed = await service.change_backend("a", on_hang_up="stream_and_assemble")
    assert (changed.on_hang_up, changed.engine) == (OnHangUp.STREAM_AND_ASSEMBLE, EngineKind.GENERIC)
    changed = await service.change_backend("a", engine="sglang")
    assert (changed.on_hang_up, changed.engine) == (OnHangUp.STREAM_AND_ASSEMBLE, EngineKind.SGLANG)
    assert (changed.id, changed.has_credential, changed.concurrency) == (first.id, True, 8)
    assert await service.change_backend("a") == changed == await service.backend("a")
    (row,) = await ask(migrated_url, "SELECT credential, version FROM backend")
    assert row["credential"] == "hunter2"
    assert row["version"] == (await ask(migrated_url, "SELECT version FROM directory_version"))[0][0]
    with pytest.raises(InvalidInput, match="engine: 'gpt' is not a known engine"):
        await service.change_backend("a", engine="gpt")
    with pytest.raises(NotFound, match="there is no backend 'b'"):
        await service.change_backend("b", engine="vllm")


async def test_how_a_model_s_text_is_read_is_said_changed_and_taken_away(
    service: FleetService, migrated_url: str
) -> None:
    await service.add_backend("a", URL, "vllm")
    tags = ReasoningTags("<think>", "</think>")
    added = await service.add_model(
        "qwen", [DeploymentRequest("a")], reasoning_tags=tags, tokenizer="/models/qwen/tokenizer.json"
    )
    assert await service.model("qwen") == added
    assert (added.model.reasoning_tags, added.model.tokenizer) == (tags, "/models/qwen/tokenizer.json")
    changed = await service.change_model("qwen", context_tokens=32_768, output_cap=4_096)
    assert (changed.model.context_tokens, changed.model.output_cap) == (32_768, 4_096)
    changed = await service.change_model("qwen", output_cap=None)
    assert (changed.model.context_tokens, changed.model.output_cap) == (32_768, None)
    with pytest.raises(InvalidInput, match="output_cap: 1 to 1,000,000,000 tokens, got 0"):
        await service.change_model("qwen", output_cap=0)
    changed = await service.change_model("qwen", tokenizer="qwen3")
    assert (changed.model.reasoning_tags, changed.model.tokenizer) == (tags, "qwen3")
    changed = await service.change_model("qwen", reasoning_tags=None)
    assert (changed.model.reasoning_tags, changed.model.tokenizer) == (None, "qwen3")
    changed = await service.change_model("qwen", reasoning_tags=tags, tokenizer=None)
    assert (changed.model.reasoning_tags, changed.model.tokenizer) == (tags, None)
    assert await service.change_model("qwen") == changed == await service.model("qwen")
    (row,) = await ask(migrated_url, "SELECT version FROM model")
    assert row["version"] == (await ask(migrated_url, "SELECT version FROM directory_version"))[0][0]


async def test_what_cannot_be_read_by_is_refused(service: FleetService) -> None:
    await service.add_backend("a", URL, "vllm")
    with pytest.raises(InvalidInput, match="start and end must differ"):
        await service.add_model("qwen", [DeploymentRequest("a")], reasoning_tags=ReasoningTags("a", "a"))
    with pytest.raises(InvalidInput, match="is neither the absolute path"):
        await service.add_model("qwen", [DeploymentRequest("a")], tokenizer="tokenizer.json")
    await service.add_model("qwen", [DeploymentRequest("a")])
    with pytest.raises(InvalidInput, match=r"reasoning_tags\.end: 1 to 64 printable characters"):
        await service.change_model("qwen", reasoning_tags=ReasoningTags("a", ""))
    with pytest.raises(NotFound, match="there is no model 'mistral'"):
        await service.change_model("mistral", tokenizer=None)


async def test_a_model_is_answered_by_its_backends_in_the_order_they_are_tried(service: FleetService) -> None:
    for name in ("a", "b", "c"):
        await service.add_backend(name, URL, "vllm")
    requests = [
        DeploymentRequest("c", priority=1),
        DeploymentRequest("a", "meta/llama", weight=3),
        DeploymentRequest("b", weight=7),
    ]
    listed = await service.add_model("llama", requests, aliases=["llama-latest"])
    assert listed.model.names == ("llama", "llama-latest")
    assert listed.placements == (
        Placement("llama", "b", "llama", 7, 0),
        Placement("llama", "a", "meta/llama", 3, 0),
        Placement("llama", "c", "llama", 1, 1),
    )
    assert await service.list_models(10) == [listed]


async def test_a_model_may_be_deployed_on_one_more_backend(service: FleetService) -> None:
    for name in ("a", "b"):
        await service.add_backend(name, URL, "vllm")
    await service.add_model("llama", [DeploymentRequest("a")])
    listed = await service.deploy("llama", DeploymentRequest("b"))
    assert [placement.backend for placement in listed.placements] == ["a", "b"]
    with pytest.raises(Conflict, match="model llama is deployed on b as llama already"):
        await service.deploy("llama", DeploymentRequest("b"))
    with pytest.raises(NotFound, match="there is no model 'mistral'"):
        await service.deploy("mistral", DeploymentRequest("a"))


async def test_a_model_on_an_unknown_backend_leaves_nothing_behind(service: FleetService) -> None:
    await service.add_backend("a", URL, "vllm")
    with pytest.raises(NotFound, match="there is no backend 'b'"):
        await service.add_model("llama", [DeploymentRequest("a"), DeploymentRequest("b")])
    with pytest.raises(InvalidInput, match="deployments: 1 to 64 backends, got 0"):
        await service.add_model("llama", [])
    assert await service.list_models(10) == []


async def test_no_two_models_answer_to_one_name(service: FleetService) -> None:
    await service.add_backend("a", URL, "vllm")
    await service.add_model("llama", [DeploymentRequest("a")], aliases=["gpt-4"])
    for name, aliases in (("llama", ()), ("gpt-4", ()), ("new", ("llama",)), ("new", ("gpt-4",))):
        with pytest.raises(Conflict, match="belongs to model llama already"):
            await service.add_model(name, [DeploymentRequest("a")], aliases=aliases)


async def test_of_two_models_added_at_once_one_gets_the_alias(service: FleetService) -> None:
    await service.add_backend("a", URL, "vllm")
    attempts = [
        service.add_model(f"model-{number}", [DeploymentRequest("a")], ["best"]) for number in range(4)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["ListedModel"]
    assert len(await service.list_models(10)) == 1


async def test_an_archived_backend_answers_nothing_until_it_is_put_again(
    service: FleetService, migrated_url: str
) -> None:
    made = await service.add_backend("a", URL, "vllm")
    archived = await service.archive_backend("a")
    assert (archived.id, archived.archived_at_us) == (made.id, NOW)
    assert await service.archive_backend("a") == archived == await service.backend("a")
    (row,) = await ask(migrated_url, "SELECT version FROM backend")
    assert row["version"] == (await ask(migrated_url, "SELECT version FROM directory_version"))[0][0]
    assert (await service.put_backend("a", URL, "vllm")).archived_at_us is None
    with pytest.raises(NotFound, match="there is no backend 'b'"):
        await service.archive_backend("b")


async def test_an_archived_model_keeps_its_names_and_takes_no_deployment(service: FleetService) -> None:
    for name in ("a", "b"):
        await service.add_backend(name, URL, "vllm")
    await service.add_model("llama", [DeploymentRequest("a")], aliases=["best"])
    archived = await service.archive_model("llama")
    assert archived.model.archived_at_us == NOW
    assert await service.archive_model("llama") == archived == await service.model("llama")
    with pytest.raises(Conflict, match="model llama is archived"):
        await service.deploy("llama", DeploymentRequest("b"))
    with pytest.raises(Conflict, match="best belongs to model llama already"):
        await service.add_model("best", [DeploymentRequest("a")])
    with pytest.raises(NotFound, match="there is no model 'mistral'"):
        await service.archive_model("mistral")


async def test_lists_go_on_after_a_name(service: FleetService) -> None:
    for name in ("a", "b", "c"):
        await service.add_backend(name, URL, "vllm")
        await service.add_model(f"m-{name}", [DeploymentRequest(name)])
    assert [backend.name for backend in await service.list_backends(2, "a")] == ["b", "c"]
    assert [listed.model.name for listed in await service.list_models(1, "m-a")] == ["m-b"]
