"""P13: no text of a prompt or an answer is in any file, table or log."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from billing.gateway.forward import destination
from billing.gateway.upstream import UpstreamPool
from billing.settings import GatewaySettings
from tests.e2e.rig import Rig, running
from tests.gateway.scripted_engine import (
    Close,
    Received,
    ScriptedEngine,
    Send,
    Step,
    chunk,
    chunked_head,
    sized,
)

CANARY_PROMPT = "canary-prompt-6f1d2c"
CANARY_ANSWER = "canary-answer-9b7e4a"
REQUESTS = 10_000
AT_ONCE = 32
KINDS = ("whole", "streamed", "refused", "broken")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def answer(received: Received) -> list[Step]:
    """An answer with the canary in it: whole, streamed, refused with the prompt repeated, or broken off."""
    asked = json.loads(received.body)
    kind = asked["messages"][0]["content"].rsplit(" ", 1)[-1]
    message = {"role": "assistant", "content": CANARY_ANSWER, "reasoning": CANARY_ANSWER}
    if kind == "refused":
        return [
            Send(
                sized(
                    json.dumps({"error": {"message": f"bad prompt {CANARY_PROMPT}"}}).encode(),
                    "400 Bad Request",
                )
            )
        ]
    if asked.get("stream"):
        events = [
            {"choices": [{"index": 0, "delta": message, "finish_reason": "stop"}]},
            {"choices": [], "usage": USAGE},
        ]
        wire = b"".join(chunk(b"data: " + json.dumps(event).encode() + b"\n\n") for event in events)
        start = chunked_head("Content-Type: text/event-stream") + wire
        return (
            [Send(start), Close()]
            if kind == "broken"
            else [Send(start + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")]
        )
    return [Send(sized(json.dumps({"choices": [{"index": 0, "message": message}], "usage": USAGE}).encode()))]


async def test_a_canary_in_ten_thousand_prompts_is_found_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with (
        ScriptedEngine(answer) as engine,
        running(data, {"m": ("vllm", f"http://127.0.0.1:{engine.port}")}) as rig,
    ):
        limits = GatewaySettings()
        pool = UpstreamPool(
            connect_timeout_s=limits.connect_timeout_s,
            head_timeout_s=30.0,
            idle_timeout_s=30.0,
            connections_idle_max=AT_ONCE,
            connection_idle_s=60.0,
        )
        numbers = iter(range(REQUESTS))
        await asyncio.gather(*(_ask(rig, pool, numbers) for _ in range(AT_ONCE)))
        await pool.close()
        await rig.recorded(REQUESTS)
        await _assert_absent_from_tables(rig)
    # The engines are stopped: everything is in the files now, write-ahead log and spools included.
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if _holds_canary(path)] == []


async def _ask(rig: Rig, pool: UpstreamPool, numbers: Iterator[int]) -> None:
    """One caller: asks for as long as there are numbers left, over the gateway's own client, which is fast."""
    for number in numbers:
        kind = KINDS[number % len(KINDS)]
        body: dict[str, object] = {
            "model": "m",
            "messages": [{"role": "user", "content": f"{CANARY_PROMPT} {number} {kind}"}],
        }
        if kind in {"streamed", "broken"}:
            body["stream"] = True
        content = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\nx-note: {CANARY_PROMPT}\r\n"
        place = destination(rig.url)
        reply = await pool.send(place, f"{head}content-length: {len(content)}\r\n\r\n".encode(), content)
        while await reply.read():
            pass
        reply.close()
        assert reply.status == (400 if kind == "refused" else 200)


async def _assert_absent_from_tables(rig: Rig) -> None:
    connection = await asyncpg.connect(rig.postgres.url)
    try:
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        assert len(tables) > 10
        for table in tables:
            found = await connection.fetchval(
                f"SELECT count(*) FROM {table['name']} AS row WHERE row::text LIKE '%canary-%'"  # noqa: S608 - a name from the catalog
            )
            assert found == 0, table["name"]
    finally:
        await connection.close()


def _holds_canary(path: Path) -> bool:
    content = path.read_bytes()
    return CANARY_PROMPT.encode() in content or CANARY_ANSWER.encode() in content
