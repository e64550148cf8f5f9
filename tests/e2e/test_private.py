"""P13: no text of a prompt or an answer is in any file, table or log."""

import asyncio
import json
from pathlib import Path

import asyncpg
import httpx2

from tests.e2e.rig import Rig, running
from tests.gateway.scripted_engine import Received, ScriptedEngine, Send, Step, chunk, chunked_head, sized

CANARY_PROMPT = "canary-prompt-6f1d2c"
CANARY_ANSWER = "canary-answer-9b7e4a"
REQUESTS = 10_000
AT_ONCE = 32
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
        end = b"" if kind == "broken" else chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        return [Send(chunked_head("Content-Type: text/event-stream") + wire + end)]
    return [Send(sized(json.dumps({"choices": [{"index": 0, "message": message}], "usage": USAGE}).encode()))]


async def test_a_canary_in_ten_thousand_prompts_is_found_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with (
        ScriptedEngine(answer) as engine,
        running(data, {"m": ("vllm", f"http://127.0.0.1:{engine.port}")}) as rig,
    ):
        async with rig.client() as client:
            gate = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(_ask(client, gate, number) for number in range(REQUESTS)))
        await rig.recorded(REQUESTS)
        await _assert_absent_from_tables(rig)
    # The engines are stopped: everything is in the files now, write-ahead log and spools included.
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if _holds_canary(path)] == []


async def _ask(client: httpx2.AsyncClient, gate: asyncio.Semaphore, number: int) -> None:
    kind = ("whole", "streamed", "refused", "invalid")[number % 4]
    body: dict[str, object] = {
        "model": "m",
        "messages": [{"role": "user", "content": f"{CANARY_PROMPT} {number} {kind}"}],
    }
    if kind == "streamed":
        body["stream"] = True
    headers = {}
    if kind == "invalid":
        body["user"] = "someone"
        headers["x-anything"] = CANARY_PROMPT
    async with gate:
        reply = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == (400 if kind == "refused" else 200)


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
