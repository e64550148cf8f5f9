"""Bad input from the network: precise errors in OpenAI's envelope, and nothing on record that should not be."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.system import new_id, now_us, random_bytes
from billing.settings import GatewaySettings
from billing.tenants.service import TenantService
from tests.e2e.rig import Rig, running
from tests.gateway.scripted_engine import ScriptedEngine, Send, in_turn, sized

CHAT = "/v1/chat/completions"
GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
REPLY = json.dumps(
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
).encode()
LIMITS = GatewaySettings()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        ScriptedEngine(in_turn([Send(sized(REPLY))])) as engine,
        running(
            tmp_path / "data", {"m": ("llama.cpp", f"http://127.0.0.1:{engine.port}")}, workers=1
        ) as machine,
    ):
        yield machine


async def test_bad_input_is_refused_precisely_and_not_on_record(rig: Rig) -> None:
    async with rig.client() as client:
        cases: list[tuple[str, Any, int, str | None, str]] = [
            ("not JSON", b"{no", 400, None, "not JSON"),
            ("not UTF-8", b"\xff\xfe\x00", 400, None, "not JSON"),
            ("an array", b"[1]", 400, None, "must be a JSON object"),
            ("nothing", b"", 400, None, "not JSON"),
            ("no model", {"messages": []}, 400, "model", "must provide a model"),
            ("model a number", {**GOOD, "model": 7}, 400, "model", "must be a string, got 7"),
            ("no messages", {"model": "m"}, 400, "messages", "must provide messages"),
            ("messages a string", {"model": "m", "messages": "hi"}, 400, "messages", "got a string"),
            ("stream a string", {**GOOD, "stream": "yes"}, 400, "stream", "true or false"),
            ("n a string", {**GOOD, "n": "2"}, 400, "n", "whole number"),
            ("n too many", {**GOOD, "n": 129}, 400, "n", "must be 1 to 128"),
            ("best of several", {**GOOD, "best_of": 3}, 400, "best_of", "does not count several"),
            ("stream options a list", {**GOOD, "stream_options": []}, 400, "stream_options", "must be an object"),
            ("unknown model", {**GOOD, "model": "other"}, 404, "model", "does not exist"),
            ("deep nesting", b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None, "not JSON"),
            ("20 MB", b'{"model":"m","messages":["' + b"x" * 20_000_000 + b'"]}', 413, None, str(LIMITS.request_body_bytes_max)),
        ]  # fmt: skip
        for what, body, status, param, said in cases:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            reply = await client.post(CHAT, content=content)
            error = reply.json()["error"]
            assert (what, reply.status_code, error["param"]) == (what, status, param)
            assert said in error["message"], what
            assert reply.headers["x-request-id"], what
        await _assert_only_the_next_is_on_record(rig, client)


async def test_keys_paths_and_methods_are_refused_precisely(rig: Rig) -> None:
    async with rig.client() as client:
        wrong = {"authorization": f"Bearer {rig.key[:-1]}x"}
        cases = [
            (await client.post(CHAT, json=GOOD, headers={"authorization": ""}), 401, "invalid_api_key"),
            (await client.post(CHAT, json=GOOD, headers=wrong), 401, "invalid_api_key"),
            (
                await client.post(CHAT, json=GOOD, headers={"authorization": "Basic abc"}),
                401,
                "invalid_api_key",
            ),
            (await client.get(CHAT), 405, "method_not_supported"),
            (await client.post("/v1/slots", json={}), 404, "unknown_url"),
            (await client.get("/v1/stream?conv_id=1"), 404, "unknown_url"),
            (await client.get("/metrics"), 404, "unknown_url"),
            (await client.post("/v1/../slots", json={}), 404, "unknown_url"),
        ]
        for number, (reply, status, code) in enumerate(cases):
            assert (number, reply.status_code, reply.json()["error"]["code"]) == (number, status, code)
        assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == ["m"]
        await _assert_only_the_next_is_on_record(rig, client)


async def test_header_bombs_are_refused_and_the_worker_lives_on(rig: Rig) -> None:
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(LIMITS.request_header_count_max + 50))
    long = (
        b"x-long: " + b"a" * (LIMITS.request_header_bytes_max - 100) + b"\r\nx-more: " + b"b" * 500 + b"\r\n"
    )
    for bomb in (many, long):
        assert b"431" in await _raw(rig.port, _head(rig, bomb) + b"\r\n{}")
    endless = b"x-endless: " + b"c" * 1_000_000
    assert b"431 Request Header Fields Too Large" in await _raw(rig.port, _head(rig, endless))
    garbage = await _raw(rig.port, b"\x00\x01\x02 not http\r\n\r\n")
    assert b"400 Bad Request" in garbage
    assert b'"error"' in garbage
    both = _head(rig, b"transfer-encoding: chunked\r\n") + b"\r\n0\r\n\r\n"
    assert b" 400 " in await _raw(rig.port, both)
    async with rig.client() as client:
        await _assert_only_the_next_is_on_record(rig, client)


async def test_a_revoked_key_and_a_new_model_hold_within_a_second(rig: Rig) -> None:
    async with rig.client() as client, rig.database() as database:
        assert (await client.post(CHAT, json=GOOD)).status_code == 200
        await FleetService(database, now_us, new_id).add_model(
            "fresh", [DeploymentRequest(backend="m", backend_model="x")]
        )
        await asyncio.sleep(1.0)
        assert (await client.post(CHAT, json={**GOOD, "model": "fresh"})).status_code == 200
        tenants = TenantService(database, now_us, new_id, random_bytes)
        await tenants.revoke_key("acme", rig.key[:11])
        await asyncio.sleep(1.0)
        refused = await client.post(CHAT, json=GOOD)
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            401,
            "this API key has been revoked",
        )


async def _assert_only_the_next_is_on_record(rig: Rig, client: httpx2.AsyncClient) -> None:
    good = await client.post(CHAT, json=GOOD)
    assert good.status_code == 200
    assert [str(record.id) for record in await rig.records(1)] == [good.headers["x-request-id"]]


def _head(rig: Rig, more: bytes) -> bytes:
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\ncontent-length: 2\r\n".encode()
        + more
    )


async def _raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(4096), 10)
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()
