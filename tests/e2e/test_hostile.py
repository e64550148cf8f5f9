"""Callers and engines that would like usage for nothing, and an orderly stop in the middle of it."""

import asyncio
import json
import signal
from pathlib import Path

import httpx2

from tests.e2e.rig import free_port, kill, running
from tests.gateway.scripted_engine import (
    Received,
    ScriptedEngine,
    Send,
    Stall,
    Step,
    chunk,
    chunked_head,
    in_turn,
    sized,
)

CHAT = "/v1/chat/completions"
TOKENS = 60
GAP_S = 0.03
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def paced(_: Received) -> list[Step]:
    """A stream with continuous usage, a token at a time."""
    steps: list[Step] = [Send(chunked_head("Content-Type: text/event-stream"))]
    for number in range(1, TOKENS + 1):
        usage = {"prompt_tokens": 5, "completion_tokens": number, "total_tokens": 5 + number}
        reason = "stop" if number == TOKENS else None
        event = {
            "choices": [{"index": 0, "delta": {"content": "t"}, "finish_reason": reason}],
            "usage": usage,
        }
        steps += [Send(chunk(b"data: " + json.dumps(event).encode() + b"\n\n")), Stall(GAP_S)]
    final = {
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": TOKENS, "total_tokens": 5 + TOKENS},
    }
    return [
        *steps,
        Send(chunk(b"data: " + json.dumps(final).encode() + b"\n\ndata: [DONE]\n\n") + b"0\r\n\r\n"),
    ]


def request(key: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


STREAM: dict[str, object] = {"model": "m", "messages": [], "stream": True}


async def test_a_hang_up_behind_a_pipelined_request_is_billed_like_any_other(tmp_path: Path) -> None:
    async with (
        ScriptedEngine(paced) as engine,
        running(tmp_path / "data", {"m": ("vllm", f"http://127.0.0.1:{engine.port}")}, workers=1) as rig,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(request(rig.key, STREAM) + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(20):
            await reader.readuntil(b"data: ")
        writer.close()
        (record,) = await rig.records(1)
        assert (record.outcome, record.output.provenance) == ("client_closed", "running")
        assert (record.output.value or 0) >= 19


async def test_what_postgres_cannot_hold_is_refused_or_cleaned_but_never_unrecorded(tmp_path: Path) -> None:
    answer = sized(json.dumps({"id": "a\0b", "model": "m\0" * 300, "choices": [], "usage": USAGE}).encode())
    async with (
        ScriptedEngine(in_turn([Send(answer)])) as engine,
        running(tmp_path / "data", {"m": ("vllm", f"http://127.0.0.1:{engine.port}")}, workers=1) as rig,
    ):
        async with rig.client() as client:
            refused = await client.post(CHAT, json={"model": "m", "messages": [], "user": "a\0b"})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "user")
            assert (await client.post(CHAT, json={"model": "m", "messages": []})).status_code == 200
        (record,) = await rig.records(1)
        assert (record.output.value, record.response_id, len(record.response_model or "")) == (2, "ab", 128)


async def test_a_stranger_is_refused_before_its_body_is_taken_in(tmp_path: Path) -> None:
    async with running(
        tmp_path / "data", {"m": ("vllm", f"http://127.0.0.1:{free_port()}")}, workers=1
    ) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-no\r\ncontent-length: 9000000\r\n\r\nx".encode()
        )
        assert b" 401 " in await asyncio.wait_for(reader.readline(), 2)
        writer.close()


async def test_a_stop_lets_streams_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    async with (
        ScriptedEngine(paced) as engine,
        running(tmp_path / "data", {"m": ("vllm", f"http://127.0.0.1:{engine.port}")}) as rig,
    ):
        async with rig.client() as client:
            streams = [asyncio.create_task(client.post(CHAT, json=STREAM)) for _ in range(6)]
            await asyncio.sleep(0.6)
            assert rig.gateway is not None
            kill(rig.gateway.pid, signal.SIGTERM)
            await asyncio.sleep(0.4)
            try:
                refused = await httpx2.AsyncClient(trust_env=False).get(f"{rig.url}/healthz")
            except httpx2.ConnectError:
                refused = None
            replies = await asyncio.gather(*streams)
        assert refused is None, "nobody takes a new connection, so it must not wait in a queue"
        assert all(reply.text.endswith("data: [DONE]\n\n") for reply in replies)
        assert {(record.outcome, record.output.value) for record in await rig.records(6)} == {
            ("complete", TOKENS)
        }
        assert await asyncio.to_thread(rig.gateway.wait, 10) == 0
        log = (rig.data_dir / "logs" / "gateway.log").read_text()
        assert log.count("worker ended") == 2
        assert "Traceback" not in log
