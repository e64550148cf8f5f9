"""A token limit is used up and never exceeded, over two gateways, whatever ``max_tokens`` clients send.

Clients that always want more ask for answers of 96 tokens, and come back when they are told to: 12 for three seconds of a
limit a second, or with ``LIMIT_WINDOW_S=60`` 50 for three minutes of a limit a minute.
"""

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from billing.limits.limit import Meter
from tests.e2e.rig import Rig, running
from tests.gateway.scripted_engine import Received, ScriptedEngine, Send, Step, sized

WINDOW_S = int(os.environ.get("LIMIT_WINDOW_S", "1"))
WINDOWS = 3
CLIENTS = 50 if WINDOW_S > 1 else 12
LIMIT = 1_000
ANSWER = 96
PATIENT = ("--limits-timeout-ms", "5000")
"""What is counted exactly must not depend on a policy's 50 ms, on a busy machine."""
pytestmark = pytest.mark.timeout(90 + (WINDOWS + 1) * WINDOW_S)
JITTER_S = 0.15
"""How far apart two admissions and their arrivals at the engine may lie."""


class Engine:
    """Answers with 96 tokens, and notes when it was asked."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    def __call__(self, _: Received) -> list[Step]:
        self.asked_s.append(time.time())
        usage = {"prompt_tokens": 7, "completion_tokens": ANSWER, "total_tokens": 7 + ANSWER}
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        return [
            Send(sized(json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode()))
        ]


@pytest.fixture
async def engine() -> AsyncIterator[tuple[Engine, int]]:
    answers = Engine()
    async with ScriptedEngine(answers) as scripted:
        yield answers, scripted.port


@pytest.fixture
async def rig(tmp_path: Path, engine: tuple[Engine, int]) -> AsyncIterator[Rig]:
    models = {"m": ("vllm", f"http://127.0.0.1:{engine[1]}")}
    async with running(tmp_path / "data", models, options=PATIENT) as machine:
        await machine.start_second_gateway()
        yield machine


async def keep_asking(client: httpx2.AsyncClient, body: dict[str, Any], until_s: float) -> Counter[int]:
    """Ask again and again, as soon as is allowed; how often each status came."""
    statuses: Counter[int] = Counter()
    while time.time() < until_s:
        reply = await client.post("/v1/chat/completions", json=body)
        statuses[reply.status_code] += 1
        if reply.status_code == 429:
            await asyncio.sleep(int(reply.headers["retry-after-ms"]) / 1000)
    return statuses


async def load(rig: Rig, **members: Any) -> Counter[int]:
    """All clients on both gateways for three windows and a little more."""
    body = {"model": "m", "messages": [{"role": "user", "content": "go"}]} | members
    until_s = time.time() + WINDOWS * WINDOW_S + 0.2
    async with rig.client() as first, rig.client(base_url=rig.second_url) as second:
        counts = await asyncio.gather(
            *(keep_asking((first, second)[n % 2], body, until_s) for n in range(CLIENTS))
        )
    return sum(counts, Counter())


def most(asked_s: list[float], within_s: float) -> int:
    """Tokens of the answers asked for within the first seconds."""
    return ANSWER * sum(at <= asked_s[0] + within_s for at in asked_s)


@pytest.mark.parametrize("members", [{}, {"max_tokens": 4_096}], ids=["no max_tokens", "max_tokens"])
async def test_a_bucket_is_used_up_and_never_exceeded(
    rig: Rig, engine: tuple[Engine, int], members: dict[str, Any]
) -> None:
    await rig.limit(Meter.OUTPUT_TOKENS, LIMIT, window_s=WINDOW_S)
    statuses = await load(rig, **members)
    assert set(statuses) == {200, 429}
    asked_s = sorted(engine[0].asked_s)
    for (first, since), (last, at) in itertools.combinations(enumerate(asked_s), 2):
        assert ANSWER * (last - first + 1) <= LIMIT + LIMIT * (at - since + JITTER_S) / WINDOW_S
    assert most(asked_s, WINDOWS * WINDOW_S) >= 0.95 * LIMIT * (1 + WINDOWS)


async def test_no_window_of_a_strict_limit_sees_more_and_what_never_fits_is_told_at_once(
    rig: Rig, engine: tuple[Engine, int]
) -> None:
    await rig.limit(Meter.OUTPUT_TOKENS, LIMIT, window_s=WINDOW_S, strict=True)
    async with rig.client() as client:
        for members, most_of_it in (
            ({"max_tokens": 1_001}, 1_000),
            ({}, 1_000),
            ({"max_tokens": 600, "n": 2}, 500),
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "go"}], **members}
            refused = await client.post("/v1/chat/completions", json=body)
            assert refused.status_code == 400
            error = refused.json()["error"]
            assert error["param"] == "max_tokens"
            assert f"set `max_tokens` to at most {most_of_it}" in error["message"]
    assert engine[0].asked_s == []
    statuses = await load(rig, max_tokens=100)
    assert set(statuses) == {200, 429}
    # What arrives at the engine as a window begins may have been admitted in the one before.
    surely = Counter(int(at // WINDOW_S) for at in engine[0].asked_s if at % WINDOW_S > JITTER_S)
    assert all(ANSWER * count <= LIMIT for count in surely.values())
    # 10 fit of which each reserves 100, and use 960: in all but the windows at both ends.
    windows = Counter(int(at // WINDOW_S) for at in engine[0].asked_s)
    assert ANSWER * windows.total() >= 0.95 * LIMIT * (len(windows) - 2)
    assert ANSWER * windows.total() <= LIMIT * len(windows)
