"""The last event with usage waits for the cost, in every dialect and however the bytes come; nothing else is changed."""

from typing import Any

import msgspec
import pytest

from billing.errors import UpstreamBroken
from billing.gateway.telling import TellingLineRelay, TellingRelay, telling_relay
from billing.tokens.fixed import UnstreamedMeter
from billing.tokens.operation import Dialect, Framing
from billing.tokens.usage import Outcome
from tests.gateway.fakes import APART, FakeReply, World, json_reply, snapshot

DONE = b"data: [DONE]\n\n"
ASKS = {b"x-billing-usage": b"true"}
TIERS = '{model: "*", input: 1, output: {tiers: [{up_to: 10, price: 3}, {price: 2}]}}'


def event(**members: Any) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(members)


SAID = event(choices=[{"index": 0, "delta": {"content": "a"}}])
FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USED = event(choices=[], usage={"prompt_tokens": 1000, "completion_tokens": 100})
COST = {"amount": "1.2", "currency": "USD", "estimate": False}


def told(data: bytes) -> Any:
    """The last event but ``[DONE]``."""
    lines = [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith((b"data: ", b"{"))]
    return msgspec.json.decode(lines[-2 if lines[-1] == b"[DONE]" else -1])


def body(**members: Any) -> bytes:
    return msgspec.json.encode({"model": "tiny", "messages": [], "stream": True} | members)


async def asked(world: World, sent: bytes = b"", path: str = "/v1/chat/completions") -> World:
    await world.serve(sent or body(), path, headers=ASKS)
    return world


@pytest.mark.parametrize("cut", [1, 7, 10_000])
async def test_a_client_that_asks_for_cost_is_told_usage_and_cost(cut: int) -> None:
    stream = SAID + FINISH + USED + DONE
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    world = await asked(World(FakeReply(*pieces), directory=snapshot("vllm", rates=APART)))
    assert told(world.client.body)["usage"] == {"prompt_tokens": 1000, "completion_tokens": 100, "cost": COST}
    assert world.client.body.startswith(SAID + FINISH)
    assert world.client.body.endswith(DONE)
    names = world.journal.names
    assert names.index("synced") < names.index("end")
    assert b"usage" not in b"".join(world.journal.values("chunk")), "it waits for the record"


async def test_nobody_is_told_who_did_not_ask() -> None:
    world = World(FakeReply(SAID + FINISH + USED + DONE), directory=snapshot("vllm", rates=APART))
    await world.serve(body())
    assert world.client.body == SAID + FINISH + DONE
    whole = World(
        json_reply(b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}'), directory=snapshot(rates=APART)
    )
    await whole.serve(body(stream=False))
    assert not [name for name in whole.client.headers if name.startswith(b"x-billing")]


async def test_what_a_tokenizer_counted_is_in_the_cost() -> None:
    thought = event(choices=[{"index": 0, "delta": {"reasoning_content": "hm"}}])
    directory = snapshot("nim-1", rates=APART, tokenizer="qwen3")
    world = await asked(
        World(FakeReply(thought + SAID + FINISH + USED + DONE), directory=directory, tokens=40)
    )
    assert told(world.client.body)["usage"]["cost"] == COST | {"amount": "1.14"}


async def test_tiers_are_marked_estimate() -> None:
    world = await asked(
        World(FakeReply(SAID + FINISH + USED + DONE), directory=snapshot("vllm", rates=TIERS))
    )
    assert told(world.client.body)["usage"]["cost"] == {"amount": "1.3", "currency": "USD", "estimate": True}


async def test_a_tenant_without_a_plan_is_told_that_nothing_has_a_rate() -> None:
    world = await asked(World(FakeReply(SAID + FINISH + USED + DONE), directory=snapshot("vllm")))
    assert told(world.client.body)["usage"]["cost"] == {
        "amount": None, "currency": None, "estimate": False, "unrated": True,
    }  # fmt: skip


async def test_running_usage_of_one_choice_does_not_keep_the_other_waiting() -> None:
    def choice(index: int, **members: Any) -> bytes:
        usage = {"prompt_tokens": 10, "completion_tokens": 50}
        return event(choices=[{"index": index, "delta": {}} | members], usage=usage)

    pieces = (choice(0, finish_reason="stop"), choice(1), choice(1, finish_reason="stop"), USED, DONE)
    world = await asked(
        World(FakeReply(*pieces), directory=snapshot("vllm", rates=APART)),
        body(n=2, stream_options={"include_usage": True, "continuous_usage_stats": True}),
    )
    assert len(world.journal.values("chunk")) >= 3
    assert b"".join(world.journal.values("chunk")) == b"".join(pieces[:3])
    assert told(world.client.body)["usage"]["cost"] == COST


MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1000,"output_tokens":1}}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":100}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
RESPONSES = (
    event(type="response.output_text.delta", delta="a"),
    event(type="response.completed", response={"id": "r", "status": "completed", "usage": {"input_tokens": 1000, "output_tokens": 100}}),
)  # fmt: skip
LINES = (
    b'{"message":{"content":"a"},"done":false}\n',
    b'{"message":{"content":""},"done":true,"prompt_eval_count":1000,"eval_count":100}\n',
)


async def test_messages_are_told_in_their_last_usage() -> None:
    world = World(FakeReply(*MESSAGES), directory=snapshot("vllm", rates=APART))
    await asked(world, body(max_tokens=5), "/v1/messages")
    assert world.client.body.startswith(b"".join(MESSAGES[:2]) + b"event: message_delta\ndata: ")
    assert world.client.body.endswith(b"\n\n" + MESSAGES[3])
    delta = world.client.body.split(b"\n\n")[2].splitlines()[1].removeprefix(b"data: ")
    assert msgspec.json.decode(delta)["usage"] == {"output_tokens": 100, "cost": COST}


async def test_a_response_is_told_in_its_last_event() -> None:
    world = World(FakeReply(*RESPONSES), directory=snapshot("vllm", rates=APART))
    await asked(world, msgspec.json.encode({"model": "tiny", "input": "a", "stream": True}), "/v1/responses")
    assert told(world.client.body)["response"]["usage"]["cost"] == COST
    assert world.client.body.startswith(RESPONSES[0])


async def test_ollama_is_told_in_its_last_line() -> None:
    ndjson = [(b"content-type", b"application/x-ndjson")]
    world = World(FakeReply(*LINES, headers=ndjson), directory=snapshot("ollama", rates=APART))
    await asked(world, body(), "/api/chat")
    assert world.client.body.startswith(LINES[0])
    assert world.client.body.endswith(b"\n")
    assert told(world.client.body) == msgspec.json.decode(LINES[1]) | {"cost": COST}


async def test_a_whole_reply_is_told_in_headers_and_its_body_is_as_it_was() -> None:
    reply = b'{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100}}'
    world = await asked(World(json_reply(reply), directory=snapshot(rates=APART)), body(stream=False))
    assert world.client.body == reply
    headers = {name: value for name, value in world.client.headers.items() if name.startswith(b"x-billing")}
    assert headers == {b"x-billing-cost": b"1.2", b"x-billing-currency": b"USD"}


async def test_speech_is_told_in_headers_because_its_bytes_hold_no_events() -> None:
    audio = FakeReply(b"RIFF", headers=[(b"content-type", b"audio/wav")])
    world = World(audio, directory=snapshot("openai", rates='{model: "*", character: 2}'))
    await asked(
        world, msgspec.json.encode({"model": "tiny", "input": "hello", "voice": "a"}), "/v1/audio/speech"
    )
    assert (world.client.body, world.client.headers[b"x-billing-cost"]) == (b"RIFF", b"10")


async def test_a_request_that_the_engine_refused_is_told_no_cost() -> None:
    reply = json_reply(b'{"error":{"message":"too long"}}', status=400)
    world = await asked(World(reply, directory=snapshot(rates=APART)), body(stream=False))
    assert b"x-billing-cost" not in world.client.headers


async def test_what_was_kept_back_of_a_broken_stream_comes_before_the_error() -> None:
    broken = UpstreamBroken("gone")
    finish_used = SAID + USED
    world = await asked(World(FakeReply(finish_used, broken), directory=snapshot("vllm", rates=APART)))
    assert world.record.outcome is Outcome.TRUNCATED
    assert world.client.body.startswith(SAID + USED + b"data: ")
    assert b"cost" not in world.client.body
    half = await asked(World(FakeReply(SAID + USED[:-2], broken), directory=snapshot("vllm", rates=APART)))
    assert half.client.body.startswith(SAID + b'data: {"error"')


async def test_a_stream_without_usage_passes_as_it_is() -> None:
    world = await asked(World(FakeReply(SAID + FINISH + DONE), directory=snapshot("vllm", rates=APART)))
    assert world.client.body == SAID + FINISH + DONE


async def test_an_end_without_its_marker_is_told_too() -> None:
    world = await asked(World(FakeReply(SAID + FINISH + USED), directory=snapshot("vllm", rates=APART)))
    assert told(world.client.body)["usage"]["cost"] == COST


async def test_what_follows_the_end_stays_behind_it() -> None:
    after = b": bye\n\n"
    world = await asked(
        World(FakeReply(SAID + FINISH + USED + DONE + after), directory=snapshot("vllm", rates=APART))
    )
    assert world.client.body.endswith(DONE + after)
    response = World(FakeReply(b"".join(RESPONSES) + after), directory=snapshot("vllm", rates=APART))
    await asked(
        response, msgspec.json.encode({"model": "tiny", "input": "a", "stream": True}), "/v1/responses"
    )
    assert response.client.body.endswith(b"}\n\n" + after)


def test_the_relay_of_a_framing() -> None:
    meter = UnstreamedMeter()
    assert type(telling_relay(Framing.NDJSON, meter, Dialect.OLLAMA)) is TellingLineRelay
    assert type(telling_relay(Framing.SSE, meter, Dialect.OPENAI)) is TellingRelay


def used(prompt: int, completion: int) -> bytes:
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion})


async def test_the_usage_of_the_first_of_several_choices_does_not_keep_the_text_of_the_others() -> None:
    first = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    text = event(choices=[{"index": 1, "delta": {"content": "b"}}])
    last = event(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}])
    world = await asked(
        World(
            FakeReply(SAID, first, used(1000, 40), text, text, last, used(1000, 60), DONE),
            directory=snapshot("llama.cpp", rates=APART),
        ),
        body(n=2, stream_options={"include_usage": True}),
    )
    chunks = [chunk for chunk in world.journal.values("chunk") if chunk]
    assert chunks == [SAID, first, text, text, last, used(1000, 40)]
    assert told(world.client.body)["usage"] == {"prompt_tokens": 1000, "completion_tokens": 60, "cost": COST}
    assert world.client.body.endswith(DONE)


async def test_nothing_but_the_event_with_usage_waits_however_much_follows_it() -> None:
    after = [SAID] * 5_000
    world = await asked(
        World(FakeReply(FINISH, USED, *after, DONE), directory=snapshot("vllm", rates=APART)),
        body(stream_options={"include_usage": True}),
    )
    assert [chunk for chunk in world.journal.values("chunk") if chunk] == [FINISH, *after]
    assert told(world.client.body)["usage"]["cost"] == COST


async def test_an_event_without_its_end_stays_behind_the_one_that_is_told() -> None:
    half = b": b"
    world = await asked(World(FakeReply(SAID, FINISH, USED, half), directory=snapshot("vllm", rates=APART)))
    assert world.client.body.startswith(SAID + FINISH + b"data: ")
    assert world.client.body.endswith(b"\n\n" + half)
    assert told(world.client.body.removesuffix(half) + DONE)["usage"]["cost"] == COST


async def test_a_part_of_an_event_is_dropped_where_an_error_follows_what_was_kept_back() -> None:
    reply = FakeReply(SAID, USED, b": b", UpstreamBroken("gone"))
    world = await asked(World(reply, directory=snapshot("vllm", rates=APART)))
    assert world.client.body.startswith(SAID + USED + b'data: {"error"')


async def test_an_event_with_usage_that_lacks_its_end_is_told() -> None:
    reply = FakeReply(SAID, FINISH, used(1, 1), USED.rstrip())
    world = await asked(World(reply, directory=snapshot("vllm", rates=APART)))
    assert world.client.body.startswith(SAID + FINISH + used(1, 1) + b"data: ")
    assert told(world.client.body + DONE)["usage"]["cost"] == COST
