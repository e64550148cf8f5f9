"""P1 with real processes: whatever is killed, each request whose open entry was written is on record exactly once."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from billing.metering.service import UsageService
from tests.e2e.rig import Rig, kill, running
from tests.gateway.scripted_engine import Received, ScriptedEngine, Send, Stall, Step, chunk, chunked_head

STREAMS = 20
STREAMS_PER_WORKER_MIN = 3
ROUNDS_MAX = 10
TOKENS = 160
GAP_S = 0.025
"""A stream lasts four seconds: long enough to kill something in the middle of it."""
INPUT_TOKENS = 7


def paced_stream(_: Received) -> list[Step]:
    """A vLLM-like stream with continuous usage, one token an event, every event a write of its own."""
    events = [_event({"choices": [{"index": 0, "delta": {"content": f" t{n}"}, "finish_reason": None}], "usage": _usage(n)})
              for n in range(1, TOKENS)]  # fmt: skip
    events.append(
        _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": _usage(TOKENS)})
    )
    events.append(_event({"choices": [], "usage": _usage(TOKENS)}))
    wire = [chunk(event) for event in events]
    head = Send(chunked_head("Content-Type: text/event-stream"))
    paced: list[Step] = []
    for piece in wire:
        paced.append(Send(piece))
        paced.append(Stall(GAP_S))
    return [head, *paced, Send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")]


def _usage(output: int) -> dict[str, int]:
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": output, "total_tokens": INPUT_TOKENS + output}


def _event(body: dict[str, object]) -> bytes:
    return (
        b"data: "
        + json.dumps({"id": "c1", "object": "chat.completion.chunk", "model": "m", **body}).encode()
        + b"\n\n"
    )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        ScriptedEngine(paced_stream) as engine,
        running(tmp_path / "data", {"slow": ("vllm", f"http://127.0.0.1:{engine.port}")}) as machine,
    ):
        yield machine


async def stream(client: httpx2.AsyncClient) -> tuple[str, bool, int]:
    """One stream: its usage id, whether it came to its end, and how many tokens the client saw."""
    body = {"model": "slow", "messages": [{"role": "user", "content": "go"}], "stream": True}
    usage_id, tokens, whole = "", 0, False
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            usage_id = reply.headers["x-request-id"]
            async for line in reply.aiter_lines():
                whole = whole or line == "data: [DONE]"
                tokens += '"content"' in line
    except httpx2.HTTPError:
        pass
    return usage_id, whole, tokens


async def active_streams(rig: Rig) -> dict[int, int]:
    """Requests in flight by worker, asked over connections of their own until each worker has answered."""
    active: dict[int, int] = {}
    async with rig.client(limits=httpx2.Limits(max_keepalive_connections=0)) as client:
        for _ in range(100):
            answer = (await client.get("/readyz")).json()
            active[answer["worker"]] = answer["active"]
            if len(active) == rig.workers:
                break
    return active


async def test_a_killed_worker_leaves_one_record_a_request_and_the_others_streams_go_on(rig: Rig) -> None:
    async with rig.client(limits=httpx2.Limits(max_keepalive_connections=0)) as client:
        streams = [asyncio.create_task(stream(client)) for _ in range(STREAMS)]
        await asyncio.sleep(1.2)
        # Which worker takes a connection is the kernel's choice: open more until each is in the midst of some.
        for _ in range(ROUNDS_MAX):
            if min((await active_streams(rig)).values()) >= STREAMS_PER_WORKER_MIN:
                break
            streams += [asyncio.create_task(stream(client)) for _ in range(STREAMS)]
            await asyncio.sleep(0.6)
        kill(rig.worker_pids()[0])
        ends = await asyncio.gather(*streams)
    records = {str(record.id): record for record in await rig.records(len(streams))}
    whole = [end for end in ends if end[1]]
    broken = [end for end in ends if not end[1]]
    assert whole, "no stream was on the surviving worker"
    assert broken, "no stream was on the killed worker"
    for usage_id, _, tokens in whole:
        assert (records[usage_id].outcome, records[usage_id].output.value) == ("complete", TOKENS)
        assert tokens == TOKENS - 1
    for usage_id, _, tokens in broken:
        record = records[usage_id]
        assert (record.outcome, record.error) == ("interrupted", "gateway_died")
        assert record.input.value == INPUT_TOKENS
        assert record.output.provenance == "running"
        assert record.output.value is not None
        assert 0 < record.output.value <= tokens + 1
    # The parent has started the worker again.
    await asyncio.sleep(0.5)
    await rig.ready()
    assert len(rig.worker_pids()) == rig.workers


async def test_a_stopped_worker_that_goes_on_is_recorded_complete(rig: Rig) -> None:
    async with rig.client(limits=httpx2.Limits(max_keepalive_connections=0)) as client:
        streams = [asyncio.create_task(stream(client)) for _ in range(4)]
        await asyncio.sleep(1.0)
        for pid in rig.worker_pids():
            kill(pid, signal.SIGSTOP)
        await asyncio.sleep(3.0)
        async with rig.database() as database:
            assert await UsageService(database).recent(None, 10) == []
        for pid in rig.worker_pids():
            kill(pid, signal.SIGCONT)
        ends = await asyncio.gather(*streams)
    assert all(whole for _, whole, _ in ends)
    assert {record.outcome for record in await rig.records(4)} == {"complete"}


async def test_a_killed_recorder_records_nothing_twice(rig: Rig) -> None:
    async with rig.client() as client:
        streams = [asyncio.create_task(stream(client)) for _ in range(STREAMS)]
        for _ in range(8):
            await asyncio.sleep(0.4)
            assert rig.recorder is not None
            rig.recorder.kill()
            rig.recorder.wait()
            rig.start_recorder()
        ends = await asyncio.gather(*streams)
    assert all(whole for _, whole, _ in ends)
    records = await rig.records(STREAMS)
    assert {record.output.value for record in records} == {TOKENS}
    async with rig.database() as database:
        rollup = await UsageService(database).rollup(rig.tenant_id, 0, 2**53)
        assert sum(row.requests for row in rollup) == STREAMS
        assert sum(row.components.answer_output for row in rollup) == STREAMS * TOKENS


async def test_postgres_away_for_ten_seconds_loses_nothing_and_no_client_notices(rig: Rig) -> None:
    async with rig.client() as client:
        rig.postgres.stop()
        ends = await asyncio.gather(*(stream(client) for _ in range(STREAMS)))
        await asyncio.sleep(10 - TOKENS * GAP_S)
        ends += await asyncio.gather(*(stream(client) for _ in range(4)))
        rig.postgres.start()
    assert all(whole for _, whole, _ in ends)
    records = await rig.records(STREAMS + 4)
    assert {(record.outcome, record.output.value) for record in records} == {("complete", TOKENS)}
