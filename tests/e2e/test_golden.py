"""The golden numbers through the whole product: real llama.cpp, gateway, recorder, Postgres."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from billing.app.demo_check import count_of, settled
from billing.fleet.model import ReasoningTags
from billing.fleet.service import FleetService
from billing.infra.golden.model import GOLDEN, SLOW, model_path
from billing.infra.golden.runner import LlamaServer
from billing.infra.system import new_id, now_us
from billing.metering.stored import StoredRecord
from billing.tokens.prometheus import parse_counters
from tests.e2e.rig import output_of, running

MESSAGES = [
    {"role": "system", "content": "You answer in one paragraph."},
    {"role": "user", "content": "How are the tokens of an answer counted?"},
]
INPUT_TOKENS = 41
"""What `/apply-template` + `/tokenize`, HF tokenizers and the server's usage say of these messages (test_golden_model)."""
OUTPUT_TOKENS = 53
REASONING_TOKENS = 20
HANG_UPS = 6
REASONING_APART = """
plan: apart
currency: USD
versions:
  - {effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{model: "*", input: "0.50", output: "1.50", reasoning: "1.00"}]}
"""
"""Only such a plan has the reasoning of whole replies counted; that of streams is counted by the engine's counter."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def golden(models: Path, tmp_path: Path) -> Iterator[LlamaServer]:
    server = LlamaServer.start(model_path(models, GOLDEN), "golden", log_path=tmp_path / "llama.log", slots=1)
    yield server
    server.stop()


@pytest.fixture
def slow(models: Path, tmp_path: Path) -> Iterator[LlamaServer]:
    server = LlamaServer.start(model_path(models, SLOW), "slow", log_path=tmp_path / "llama.log", slots=1)
    yield server
    server.stop()


def chat(**options: Any) -> dict[str, Any]:
    return {"model": "golden", "messages": MESSAGES} | options


async def events(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[str]:
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.status_code == 200
        return [line.removeprefix("data: ") async for line in reply.aiter_lines() if line]


def counts(record: StoredRecord) -> tuple[int | None, int | None, int | None]:
    return record.input.value, record.output.value, record.reasoning.value


async def test_every_way_of_asking_is_counted_alike(golden: LlamaServer, tmp_path: Path) -> None:
    async with running(tmp_path / "data", {"golden": ("llama.cpp", golden.url)}) as rig:
        await rig.price(REASONING_APART)
        async with rig.client() as client:
            for temperature in (0, 2):
                plain = await client.post("/v1/chat/completions", json=chat(temperature=temperature))
                assert plain.json()["usage"]["completion_tokens"] == OUTPUT_TOKENS
                assert "timings" in plain.json()
                asked = await events(
                    client, chat(temperature=temperature, stream=True, stream_options={"include_usage": True})
                )
                assert json.loads(asked[-2])["usage"]["completion_tokens"] == OUTPUT_TOKENS
                assert asked[-1] == "[DONE]"
                unasked = await events(client, chat(temperature=temperature, stream=True))
                assert not [event for event in asked[:-2] + unasked if "usage" in event]
                assert not [event for event in asked + unasked if "timings" in event]
                assert len(unasked) == len(asked) - 1
        records = await rig.records(6)
    assert {counts(record) for record in records} == {(INPUT_TOKENS, OUTPUT_TOKENS, REASONING_TOKENS)}
    assert {record.outcome for record in records} == {"complete"}
    by_stream = {(record.stream, record.reasoning.provenance, record.output.provenance) for record in records}
    assert by_stream == {(True, "running", "reported"), (False, "counted", "reported")}
    streamed = [record for record in records if record.stream]
    assert all(record.ttft_us and record.ttft_us < (record.duration_us or 0) for record in streamed)
    # A stream that comes in one read has all its tokens at one instant: the mean between two is 0 then.
    assert all(record.itl_us is not None for record in streamed)


async def test_reasoning_between_raw_tags_is_split_off(golden: LlamaServer, tmp_path: Path) -> None:
    raw = {"reasoning_format": "none"}
    async with running(tmp_path / "data", {"golden": ("llama.cpp", golden.url)}) as rig:
        async with rig.database() as database:
            tags = ReasoningTags("<think>", "</think>")
            await FleetService(database, now_us, new_id).change_model("golden", reasoning_tags=tags)
        await rig.price(REASONING_APART)
        async with rig.client() as client:
            whole = (await client.post("/v1/chat/completions", json=chat(**raw))).json()
            assert "<think>" in whole["choices"][0]["message"]["content"]
            assert "</think>" in "".join(await events(client, chat(stream=True, **raw)))
        records = await rig.records(2)
    assert {counts(record)[:2] for record in records} == {(INPUT_TOKENS, OUTPUT_TOKENS)}
    reasoning = {record.stream: (record.reasoning.value, record.reasoning.provenance) for record in records}
    assert reasoning == {True: (REASONING_TOKENS, "running"), False: (REASONING_TOKENS, "counted")}


async def test_a_client_that_asks_for_timings_sees_what_the_engine_sends(
    golden: LlamaServer, tmp_path: Path
) -> None:
    body = chat(stream=True, timings_per_token=True, stream_options={"include_usage": True})
    async with running(tmp_path / "data", {"golden": ("llama.cpp", golden.url)}) as rig:
        async with rig.client() as client, httpx2.AsyncClient(base_url=golden.url, trust_env=False) as direct:
            through, without = await events(client, body), await events(direct, body)
        await rig.records(1)
    shapes = [[_shape(event) for event in side] for side in (through, without)]
    assert shapes[0] == shapes[1]


async def test_completions_are_counted_and_so_are_several_choices_and_prompts(
    golden: LlamaServer, tmp_path: Path
) -> None:
    async with running(tmp_path / "data", {"golden": ("llama.cpp", golden.url)}) as rig:
        async with rig.client() as client:
            path = "/v1/completions"
            whole = await client.post(path, json={"model": "golden", "prompt": "Counting", "max_tokens": 200})
            tokenized = await client.post(
                path, json={"model": "golden", "prompt": [9, 10, 11], "max_tokens": 5}
            )
            assert (whole.status_code, tokenized.status_code) == (200, 200)
            two = (
                await client.post(path, json={"model": "golden", "prompt": ["a", "b c"], "max_tokens": 7})
            ).json()
            # This server has one slot: it says itself that it makes one choice at a time.
            alone = await client.post("/v1/chat/completions", json=chat(n=2))
            assert (alone.status_code, alone.json()["error"]["type"]) == (400, "invalid_request_error")
        records = await rig.records(4)
    assert [choice["index"] for choice in two["choices"]] == [0, 1]
    assert two["usage"]["completion_tokens"] == 14
    told = [whole.json()["usage"], {"prompt_tokens": 3, "completion_tokens": 5}, two["usage"]]
    assert sorted((record.input.value, record.output.value) for record in records) == sorted(
        [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in told] + [(0, 0)]
    )


async def test_a_hang_up_is_counted_within_one_token(slow: LlamaServer, tmp_path: Path) -> None:
    async with running(tmp_path / "data", {"slow": ("llama.cpp", slow.url)}) as rig:
        before = count_of(parse_counters(slow.metrics()))
        async with rig.client() as client:
            for number in range(HANG_UPS):
                await _hang_up(client, after=10 + 7 * number)
        records = await rig.records(HANG_UPS)
        after = await settled(slow)
    assert {record.outcome for record in records} == {"client_closed"}
    assert {record.output.provenance for record in records} == {"running"}
    assert sum(record.input.value or 0 for record in records) == after.input - before.input
    difference = after.output - before.output - sum(map(output_of, records))
    assert 0 <= difference <= HANG_UPS


async def test_a_non_streamed_hang_up_is_on_record_with_unknown_counts_or_the_engines_own(
    slow: LlamaServer, tmp_path: Path
) -> None:
    async with running(tmp_path / "data", {"slow": ("llama.cpp", slow.url)}) as rig:
        async with rig.client(timeout=0.3) as client:
            with pytest.raises(httpx2.TimeoutException):
                await client.post("/v1/chat/completions", json={"model": "slow", "messages": MESSAGES})
        record = (await rig.records(1))[0]
    assert (record.outcome, record.status) == ("client_closed", 499)
    assert record.output.value is None
    assert record.input_estimate


async def _hang_up(client: httpx2.AsyncClient, *, after: int) -> None:
    body = {"model": "slow", "messages": MESSAGES, "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        seen = 0
        async for line in reply.aiter_lines():
            seen += line.startswith("data: ")
            if seen == after:
                return


def _shape(event: str) -> object:
    """An event without what differs from run to run: ids, instants, durations, cache."""
    if event == "[DONE]":
        return event
    body = json.loads(event)
    for name in ("id", "created"):
        body.pop(name)
    if "timings" in body:
        body["timings"] = sorted(body["timings"])
    if "usage" in body:
        body["usage"].pop("prompt_tokens_details")
    return body
