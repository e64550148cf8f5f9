"""Reasoning is counted by a tokenizer where a plan prices it apart and no counter says it; nobody is asked otherwise."""

from typing import Any

import msgspec
import pytest

from billing.directory.snapshot import Snapshot
from billing.tokens.usage import Count, Outcome, Provenance
from tests.gateway.fakes import APART, FakeReply, World, json_reply, snapshot

DONE = b"data: [DONE]\n\n"
AT_BACKEND = Count(2, Provenance.COUNTED, "/tokenize of the reasoning text at the backend")
HERE = Count(2, Provenance.COUNTED, "the model's own vocabulary over the reasoning text")
TOGETHER = '{model: "*", input: 1, output: 2}'


def event(**members: Any) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(members)


def delta(**members: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": members}])


def asked(path: str = "/v1/chat/completions", **members: Any) -> tuple[bytes, str]:
    subject: dict[str, Any] = {"prompt": "a"} if path == "/v1/completions" else {"messages": []}
    return msgspec.json.encode({"model": "tiny", "stream": True} | subject | members), path


FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USED = event(choices=[], usage={"prompt_tokens": 4, "completion_tokens": 9})
THOUGHT = (
    delta(reasoning_content="be"),
    delta(reasoning_content="cause"),
    delta(content="so"),
    FINISH + USED + DONE,
)
RAW = (delta(content="<thi"), delta(content="nk>because</think>so"), FINISH + USED + DONE)
TAGS = ("<think>", "</think>")


async def streamed(directory: Snapshot, *pieces: bytes, tokens: int | None = 2) -> World:
    world = World(FakeReply(*pieces), directory=directory, tokens=tokens)
    await world.serve(*asked())
    assert world.record.outcome is Outcome.COMPLETE
    return world


async def test_a_stream_without_a_counter_is_counted_before_its_close_record() -> None:
    world = await streamed(snapshot("sglang", rates=APART), *THOUGHT)
    assert world.journal.values("count") == [("/v1/tokenize", "because")]
    names = world.journal.names
    assert names.index("count") < names.index("close") < names.index("end")
    assert world.record.usage.reasoning.value == 2
    assert world.client.body.endswith(DONE)


@pytest.mark.parametrize("rates", ["", TOGETHER], ids=["no plan", "one price for all output"])
@pytest.mark.parametrize("reply", [THOUGHT, RAW], ids=["told apart", "raw tags"])
async def test_where_it_changes_no_invoice_it_stays_unknown_and_nobody_is_asked(
    rates: str, reply: tuple[bytes, ...]
) -> None:
    world = await streamed(snapshot("tgi", rates=rates, tags=TAGS, tokenizer="qwen3"), *reply)
    assert "count" not in world.journal.names
    assert world.record.usage.reasoning.value is None


async def test_raw_tags_are_split_and_counted() -> None:
    world = await streamed(snapshot("tgi", rates=APART, tags=TAGS), *RAW)
    assert world.journal.values("count") == [("/tokenize", "because")]
    assert world.record.usage.reasoning == AT_BACKEND


async def test_an_engine_without_a_tokenizer_leaves_it_to_the_models_vocabulary() -> None:
    world = await streamed(snapshot("nim-1", rates=APART, tokenizer="qwen3"), *THOUGHT)
    assert world.journal.values("count") == [("qwen3", "because")]
    assert world.record.usage.reasoning == HERE


@pytest.mark.parametrize(("tokenizer", "asks"), [(None, 0), ("qwen3", 1)])
async def test_what_nobody_counts_in_time_is_estimated_and_says_so(tokenizer: str | None, asks: int) -> None:
    world = await streamed(snapshot("nim-1", rates=APART, tokenizer=tokenizer), *THOUGHT, tokens=None)
    assert world.journal.names.count("count") == asks
    assert world.record.usage.reasoning == Count(1, Provenance.ESTIMATED, "4 bytes a token")


async def test_ollamas_own_dialect_is_estimated_by_its_share_of_the_text() -> None:
    lines = (
        b'{"message":{"content":"","thinking":"because"},"done":false}\n{"message":{"content":"yes"},"done":false}\n',
        b'{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":20}\n',
    )
    ndjson = [(b"content-type", b"application/x-ndjson")]
    world = World(FakeReply(*lines, headers=ndjson), directory=snapshot("ollama", rates=APART))
    await world.serve(*asked("/api/chat"))
    assert world.record.usage.reasoning == Count(
        14, Provenance.ESTIMATED, "share of eval_count by length of text"
    )


async def test_a_counter_of_the_engine_goes_before_any_tokenizer() -> None:
    timed = event(
        choices=[{"index": 0, "delta": {"content": "<think>"}}], timings={"prompt_n": 4, "predicted_n": 1}
    ) + event(choices=[{"index": 0, "delta": {"content": "hm"}}], timings={"prompt_n": 4, "predicted_n": 3})
    world = await streamed(snapshot(rates=APART, tags=TAGS), timed, FINISH + USED + DONE)
    assert "count" not in world.journal.names
    assert (world.record.usage.reasoning.value, world.record.usage.reasoning.provenance) == (
        2,
        Provenance.RUNNING,
    )


async def test_a_whole_reply_is_split_at_raw_tags() -> None:
    choice = {"index": 0, "message": {"content": "because</think>so"}}
    reply = msgspec.json.encode({"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 9}})
    world = World(json_reply(reply), directory=snapshot("vllm", rates=APART, tags=TAGS), tokens=2)
    await world.serve(*asked(stream=False))
    assert (world.record.usage.reasoning, world.client.body) == (AT_BACKEND, reply)


async def test_nothing_is_counted_of_an_answer_whose_length_is_unknown() -> None:
    world = World(FakeReply(THOUGHT[0], whole=False), directory=snapshot("nim-1", rates=APART))
    await world.serve(*asked())
    assert "count" not in world.journal.names
    assert (world.record.outcome, world.record.usage.reasoning.value) == (Outcome.TRUNCATED, None)
