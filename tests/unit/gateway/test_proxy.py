"""A request is a straight line: admitted and on record before the engine hears of it, on disk before its reply has ended."""

from typing import Any

import msgspec
import pytest

from billing.errors import SpoolFull, Unavailable
from billing.ids import instant_of
from billing.settings import Durability
from billing.tokens.usage import Count, Outcome, Provenance, TokenUsage
from tests.gateway.fakes import (
    APART,
    BACKEND_ID,
    CALLER,
    KEY,
    NOW_US,
    USAGE_ID,
    FakeReply,
    World,
    json_reply,
    snapshot,
)
from tests.gateway.recordings import recording

DONE = b"data: [DONE]\n\n"


def body(**members: Any) -> bytes:
    return msgspec.json.encode({"model": "tiny", "messages": [], **members})


STREAM = body(stream=True)


def thought(text: str, tokens: int) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"%s"}}],"timings":{"prompt_n":4,"predicted_n":%d}}\n\n' % (
        text.encode(), tokens,
    )  # fmt: skip


def said(text: str, tokens: int) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}],"timings":{"prompt_n":4,"predicted_n":%d}}\n\n' % (
        text.encode(), tokens,
    )  # fmt: skip


def bare(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":3},"timings":{"prompt_n":4,"predicted_n":3}}\n\n'
WHOLE = b'{"id":"c-1","model":"weights","choices":[{"index":0,"message":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":3}}'
REASONED = WHOLE.replace(b'"content":"a"', b'"content":"a","reasoning_content":"because"')
REASONED_AND_COUNTED = REASONED.replace(
    b'"completion_tokens":3', b'"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}'
)


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    return tuple(part.value for part in (usage.input, usage.cached_input, usage.output, usage.reasoning))


def in_order(world: World, *names: str) -> bool:
    """Whether the first lines of these names stand in this order."""
    places = [world.journal.names.index(name) for name in names]
    return places == sorted(places)


async def test_a_stream_is_on_record_before_the_engine_hears_of_it_and_on_disk_before_its_end() -> None:
    world = World(FakeReply(said("a", 1), said("b", 2) + FINISH, USED + DONE))
    await world.serve(STREAM)
    assert in_order(world, "open", "send", "head", "chunk", "close", "synced", "end", "released")
    assert world.journal.names.count("close") == 1
    assert b"[DONE]" not in b"".join(world.journal.values("chunk"))
    assert world.journal.values("end") == [DONE]
    assert world.client.body == bare("a") + bare("b") + FINISH + DONE
    assert (world.record.outcome, world.record.status, world.record.error) == (Outcome.COMPLETE, 200, None)
    assert values(world.record.usage) == (4, None, 3, 0)


async def test_a_whole_reply_is_on_disk_before_its_first_byte_leaves() -> None:
    world = World(json_reply(WHOLE))
    await world.serve(body())
    assert in_order(world, "open", "send", "close", "synced", "head", "end", "released")
    assert world.client.body == WHOLE
    assert world.client.headers[b"content-length"] == str(len(WHOLE)).encode()
    assert world.record.response_id == "c-1"
    assert world.record.response_model == "weights"
    assert values(world.record.usage) == (4, None, 3, None)


@pytest.mark.parametrize(
    ("sent", "reply"), [(STREAM, FakeReply(said("a", 1) + FINISH + DONE)), (body(), json_reply(WHOLE))]
)
async def test_after_reply_waits_for_no_disk(sent: bytes, reply: FakeReply) -> None:
    world = World(reply, durability=Durability.AFTER_REPLY)
    await world.serve(sent)
    assert "syncing" not in world.journal.names
    assert in_order(world, "close", "end")
    assert world.record.outcome is Outcome.COMPLETE


async def test_the_open_entry_says_who_and_what() -> None:
    world = World(json_reply(WHOLE))
    sent = msgspec.json.encode({"model": "small", "messages": [], "user": "ada"})
    await world.serve(sent, headers={b"idempotency-key": b"k\x9b" * 300})
    (opened,) = world.spool.opened
    assert (opened.id, instant_of(opened.id)) == (USAGE_ID, NOW_US)
    assert (opened.tenant_id, opened.project_id, opened.key_id) == (CALLER.tenant_id, None, CALLER.key_id)
    assert (opened.model, opened.backend_id, opened.engine) == ("tiny", BACKEND_ID, "llama.cpp")
    assert (opened.operation, opened.stream, opened.end_user) == ("chat", False, "ada")
    assert opened.input_estimate == len(sent) // 4
    assert opened.idempotency_key == "k" * 128, "256 characters, control characters taken out"
    assert opened.tags == {"team": "a"}


async def test_what_goes_to_the_engine() -> None:
    world = World(
        FakeReply(DONE), directory=snapshot(credential="sk-engine", url="http://engine:8000/llm/v1")
    )
    await world.serve(STREAM, headers={b"x-conversation-id": b"7", b"cookie": b"c", b"user-agent": b"x/1"})
    (sent,) = world.journal.values("send")
    assert sent.head.startswith(b"POST /llm/v1/chat/completions HTTP/1.1\r\nhost: engine:8000\r\n")
    assert b"authorization: Bearer sk-engine\r\n" in sent.head
    assert b"content-length: %d\r\n" % len(sent.body) in sent.head
    assert b"x-request-id: %s\r\n" % str(USAGE_ID).encode() in sent.head
    for secret in (b"x-conversation-id", b"cookie", KEY):
        assert secret not in sent.head
    assert msgspec.json.decode(sent.body) == {
        "model": "weights", "messages": [], "stream": True, "timings_per_token": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


async def test_the_usage_id_is_the_request_id_of_every_reply() -> None:
    for world, sent in (
        (
            World(
                FakeReply(
                    DONE, headers=[(b"content-type", b"text/event-stream"), (b"x-request-id", b"theirs")]
                )
            ),
            STREAM,
        ),
        (World(json_reply(WHOLE)), body()),
        (World(json_reply(b"{}", status=500)), body()),
        (World(Unavailable("gone")), body()),
        (World(), b"no JSON"),
        (World(full=("open",)), body()),
    ):
        await world.serve(sent)
        assert world.client.headers[b"x-request-id"] == str(USAGE_ID).encode()


async def test_several_choices_are_served_where_they_are_counted() -> None:
    recorded = recording("vllm", "chat_stream_n2_usage_true")
    world = World(FakeReply(recorded.body), engine="vllm")
    await world.serve(recorded.request)
    assert values(world.record.usage) == (32, 0, 106, 40)
    assert world.client.body == recorded.body


async def test_cached_tokens_of_an_array_of_prompts_are_not_vllms_to_say() -> None:
    recorded = recording("vllm", "completions_batch_prompts")
    world = World(json_reply(recorded.body), engine="vllm")
    await world.serve(recorded.request, path=recorded.path)
    assert values(world.record.usage) == (9, None, 106, None)


async def test_models_are_listed_and_shown_to_callers_only() -> None:
    card = {"id": "tiny", "object": "model", "created": NOW_US // 1_000_000, "owned_by": "gateway"}
    for path, shown in (
        ("/v1/models", {"object": "list", "data": [card]}),
        ("/v1/models/tiny", card),
        ("/v1/models/small", card),
    ):
        world = World()
        await world.serve(path=path, method="GET")
        assert (world.client.status, msgspec.json.decode(world.client.body)) == (200, shown)
        assert world.journal.names == ["head", "end"]
        stranger = World()
        await stranger.serve(path=path, method="GET", authorization=None)
        assert stranger.client.status == 401


@pytest.mark.parametrize("directory", [None, snapshot(served=False)])
async def test_a_model_that_is_unknown_or_not_served_is_not_found(directory: Any) -> None:
    world = World(directory=directory)
    await world.serve(path="/v1/models/tiny" if directory else "/v1/models/other", method="GET")
    assert (world.client.status, world.error["code"], world.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (2, Count(2, Provenance.COUNTED, "/tokenize of the reasoning text at the backend")),
        (None, Count(1, Provenance.ESTIMATED, "4 bytes a token")),
        (9, Count(3, Provenance.COUNTED, "/tokenize of the reasoning text at the backend, clamped from 9")),
    ],
)
async def test_reasoning_of_a_whole_reply_is_counted_by_the_engine_or_estimated(
    tokens: int | None, expected: Count
) -> None:
    world = World(json_reply(REASONED), tokens=tokens, directory=snapshot(rates=APART))
    await world.serve(body())
    assert in_order(world, "count", "close", "end")
    assert world.journal.values("count") == [("/tokenize", "because")]
    assert world.record.usage.reasoning == expected
    assert world.record.usage.output.value == 3
    assert world.client.body == REASONED


@pytest.mark.parametrize(
    ("engine", "reply", "reasoning"),
    [
        ("vllm", REASONED_AND_COUNTED, 2),
        ("llama.cpp", WHOLE, None),
        ("llama.cpp", b"{}", None),
        ("llama.cpp", b"x", None),
    ],
)
async def test_nothing_is_tokenized_that_is_reported_or_absent(
    engine: str, reply: bytes, reasoning: int | None
) -> None:
    world = World(json_reply(reply), directory=snapshot(engine, rates=APART))
    await world.serve(body())
    assert "count" not in world.journal.names
    assert world.record.usage.reasoning.value == reasoning
    assert world.client.body == reply


async def test_an_error_under_a_status_of_success_reaches_the_client_and_is_no_complete_reply() -> None:
    error = b'{"error":{"message":"no","code":500}}'
    world = World(json_reply(error))
    await world.serve(body())
    assert (world.client.status, world.client.body) == (200, error)
    assert (world.record.outcome, world.record.error) == (Outcome.UPSTREAM_ERROR, "upstream_error")
    assert world.record.usage == TokenUsage()


async def test_the_times_are_exact() -> None:
    world = World()

    def at(seconds: float) -> Any:
        return lambda: setattr(world.clock, "now_us", NOW_US + round(seconds * 1_000_000))

    reply = FakeReply(
        b": ping\n\n", at(0.250), thought("r", 1), at(0.5), said("a", 2), at(1.0), said("b", 3), at(1.1), FINISH, at(1.2),
        USED, at(1.25), DONE,
    )  # fmt: skip
    world.upstream._answers.append(reply)
    await world.serve(STREAM)
    assert world.record.ttft_us == 250_000
    assert world.record.itl_us == 375_000  # (1.0 − 0.25) / (3 − 1)
    assert world.record.duration_us == 1_250_000


async def test_progress_is_written_with_the_first_token_and_then_at_most_once_a_second() -> None:
    world = World()
    steps: list[Any] = [b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n']
    for tokens in range(1, 32):
        steps += [lambda: world.clock.advance(0.25), said("a", tokens)]
    world.upstream._answers.append(FakeReply(*steps, FINISH, DONE))
    await world.serve(STREAM)
    assert [entry.duration_us for entry in world.spool.progressed] == [
        250_000 + 1_000_000 * n for n in range(8)
    ]
    assert [entry.usage.output.value for entry in world.spool.progressed] == [1 + 4 * n for n in range(8)]
    assert {entry.ttft_us for entry in world.spool.progressed} == {250_000}
    assert {entry.id for entry in world.spool.progressed} == {USAGE_ID}


async def test_a_whole_reply_has_no_progress_and_no_first_token() -> None:
    world = World(json_reply(WHOLE))
    await world.serve(body())
    assert (world.spool.progressed, world.record.ttft_us, world.record.itl_us) == ([], None, None)


@pytest.mark.parametrize("fault", [SpoolFull("no room"), Unavailable("the disk failed")])
@pytest.mark.parametrize(
    ("sent", "reply"), [(STREAM, [said("a", 1), FINISH + DONE]), (body(), [WHOLE])], ids=["stream", "whole"]
)
async def test_a_reply_whose_record_is_not_on_disk_does_not_end_well(
    sent: bytes, reply: list[bytes], fault: Unavailable
) -> None:
    content_type = b"text/event-stream" if sent == STREAM else b"application/json"
    world = World(FakeReply(*reply, headers=[(b"content-type", content_type)]), unsynced=fault)
    await world.serve(sent)
    assert world.record.outcome is Outcome.COMPLETE
    assert b"[DONE]" not in world.client.body
    assert WHOLE not in world.client.body
    last = world.client.body.rstrip(b"\n").rsplit(b"data: ", 1)[-1]
    assert msgspec.json.decode(last)["error"]["code"] == {"spool_full": "spool_full"}.get(
        fault.kind, "unavailable"
    )
    assert world.client.ended
