"""A stream becomes the reply that its engine would have sent whole: recorded ones to the byte, others by the rules."""

import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.dialects.openai_text import TextCall
from billing.tokens.dialects.openai_text_assembler import TextAssembler
from billing.tokens.engines import (
    GENERIC,
    LLAMA_CPP,
    OLLAMA,
    OPENAI,
    TENSORRT_LLM,
    TGI,
    TRANSFORMERS,
    VLLM,
    Engine,
)
from billing.tokens.operation import Operation
from billing.tokens.sse import SseFramer, data_of
from tests.call_kit import text_call
from tests.gateway.recordings import recording

CHAT, COMPLETIONS, EMBEDDINGS = Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS


def fed(assembler: TextAssembler, *events: Any) -> TextAssembler:
    """An assembler after some events, given as bytes or as what they hold."""
    for event in events:
        assembler.feed(event if isinstance(event, bytes) else msgspec.json.encode(event))
    return assembler


def assembled(assembler: TextAssembler, *events: Any) -> dict[str, Any]:
    reply: dict[str, Any] = msgspec.json.decode(fed(assembler, *events).body())
    return reply


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def message(*events: Any, engine: Engine = OPENAI) -> dict[str, Any]:
    got: dict[str, Any] = assembled(TextAssembler(engine, CHAT), *events)["choices"][0]["message"]
    return got


def replayed(engine: Engine, operation: Operation, folder: str, name: str, choices: int = 1) -> bytes:
    events = SseFramer().feed(recording(folder, name).body)
    return fed(TextAssembler(engine, operation, choices), *map(data_of, events)).body()


def unnamed(body: bytes) -> bytes:
    """A body without what differs from one answer to the next: its id, when it was made and how long that took."""
    body = re.sub(rb'"id":"[^"]*"|"created":\d+|"cached_tokens":\d+', b"", body)
    return re.sub(rb',"timings":\{.*?\}', b"", body)


SAME_REQUEST = [
    (LLAMA_CPP, CHAT, "llamacpp", "chat_stream_usage_true", "chat_nonstream"),
    (LLAMA_CPP, COMPLETIONS, "llamacpp", "completions_stream_usage_absent", "completions_nonstream"),
    (VLLM, CHAT, "vllm", "chat_stream_maxtok10", "chat_nonstream_maxtok10"),
    (VLLM, CHAT, "vllm", "chat_stream_return_token_ids", "chat_nonstream_vllm_ignore_eos_min"),
    (TRANSFORMERS, CHAT, "transformers_serve", "chat_stream_usage_true", "chat_nonstream"),
]


@pytest.mark.parametrize(("engine", "operation", "folder", "stream", "whole"), SAME_REQUEST)
def test_the_recorded_stream_is_the_recorded_whole_reply_of_the_same_request_byte_for_byte(
    engine: Engine, operation: Operation, folder: str, stream: str, whole: str
) -> None:
    assert unnamed(replayed(engine, operation, folder, stream)) == unnamed(recording(folder, whole).body)


def test_two_choices_of_llamacpp_have_the_true_sum_that_its_whole_reply_lacks() -> None:
    mine = replayed(LLAMA_CPP, CHAT, "llamacpp", "chat_stream_n2_usage_true", choices=2)
    its_own = recording("llamacpp", "chat_nonstream_n2").body
    one, two = b'"completion_tokens":53', b'"completion_tokens":106'
    assert unnamed(its_own.replace(one, two).replace(b":85", b":138")) == unnamed(mine)


def test_two_choices_of_vllm_have_the_total_that_its_last_event_says() -> None:
    reply = msgspec.json.decode(replayed(VLLM, CHAT, "vllm", "chat_stream_n2_usage_true", choices=2))
    assert [choice["message"]["content"][-4:] for choice in reply["choices"]] == [" a30", " a30"]
    assert reply["usage"]["completion_tokens"] == 106
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 40}


def test_tool_calls_of_several_choices_come_together_by_their_indices() -> None:
    def call(index: int, **function: str) -> list[dict[str, Any]]:
        return [{"index": index, "function": function}]

    got = assembled(
        TextAssembler(OPENAI, CHAT, 2),
        chunk(1, tool_calls=[{"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        chunk(0, tool_calls=[{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}]),
        chunk(0, tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "h"}}]),
        chunk(0, tool_calls=call(1, arguments='"k": "')),
        chunk(1, tool_calls=call(0, arguments="{}")),
        chunk(0, tool_calls=call(1, arguments='v"}')),
        chunk(0, "tool_calls"),
        chunk(1, "tool_calls"),
    )  # fmt: skip
    assert [choice["message"]["tool_calls"] for choice in got["choices"]] == [
        [
            {"id": "a", "type": "function", "function": {"name": "h", "arguments": ""}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"k": "v"}'}},
        ],
        [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    ]


def test_tool_calls_without_indices_are_told_apart_by_their_ids() -> None:
    got = message(
        chunk(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": "{"}}]),
        chunk(tool_calls=[{"function": {"arguments": "}"}}]),
        chunk(tool_calls=[{"id": "b", "function": {"name": "g", "arguments": "[]"}}]),
    )
    assert [(call["id"], call["function"]["arguments"]) for call in got["tool_calls"]] == [
        ("a", "{}"),
        ("b", "[]"),
    ]


def test_a_legacy_function_call_a_refusal_and_spoken_audio_are_joined() -> None:
    got = message(
        chunk(function_call={"name": "f", "arguments": "{"}, refusal="I ", audio={"id": "s", "transcript": "he"}),
        chunk(function_call={"arguments": "}"}, refusal="won't", audio={"transcript": "llo", "expires_at": 5}),
    )  # fmt: skip
    assert got["function_call"] == {"name": "f", "arguments": "{}"}
    assert (got["content"], got["refusal"]) == (None, "I won't")
    assert got["audio"] == {"id": "s", "transcript": "hello", "expires_at": 5}


def test_log_probabilities_of_a_chat_are_joined() -> None:
    def said(*tokens: str) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [*tokens], "refusal": None}}]}

    got = assembled(TextAssembler(OPENAI, CHAT), said("a"), said(), said("b", "c"), chunk(finish="stop"))
    assert got["choices"][0]["logprobs"] == {"content": ["a", "b", "c"], "refusal": None}


def test_log_probabilities_of_a_completion_are_joined_and_numbers_stay_as_they_were_written() -> None:
    body = fed(
        TextAssembler(VLLM, COMPLETIONS),
        b'{"choices":[{"text":"a","index":0,"logprobs":{"tokens":["a"],"token_logprobs":[-1.50e-2],"text_offset":[0]}}]}',
        b'{"choices":[{"text":"b","index":0,"logprobs":{"tokens":["b"],"token_logprobs":[-9],"text_offset":[1]}}]}',
        b'{"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}',
    ).body()
    assert b'"logprobs":{"tokens":["a","b"],"token_logprobs":[-1.50e-2,-9],"text_offset":[0,1]}' in body


def test_what_is_unknown_is_what_was_said_of_it_last_and_null_takes_nothing_back() -> None:
    def event(fingerprint: str | None, seen: int) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"mood": seen}, "stop_reason": seen, "finish_reason": None}
        return {
            "system_fingerprint": fingerprint,
            "service_tier": "flex",
            "extra": [seen],
            "choices": [choice],
        }

    last = {"choices": [{"index": 0, "delta": {"mood": None}, "stop_reason": None, "finish_reason": "stop"}]}
    got = assembled(TextAssembler(GENERIC, CHAT), event("fp", 1), event(None, 2), last)
    assert (got["system_fingerprint"], got["service_tier"], got["extra"]) == ("fp", "flex", [2])
    choice = got["choices"][0]
    assert (choice["message"]["mood"], choice["stop_reason"], choice["finish_reason"]) == (2, 2, "stop")


def test_escapes_stay_and_a_surrogate_pair_cut_in_two_is_whole_again() -> None:
    assembler = TextAssembler(GENERIC, CHAT)
    for piece in (rb'"caf\u00e9 \ud83d"', rb'"\ude80\n"'):
        assembler.feed(b'{"choices":[{"index":0,"delta":{"content":%b}}]}' % piece)
    assert rb'"content":"caf\u00e9 \ud83d\ude80\n"' in assembler.body()
    assert msgspec.json.decode(assembler.body())["choices"][0]["message"]["content"] == "café 🚀\n"


ERRORS: dict[str, tuple[bytes, int]] = {
    "llama.cpp": (b'{"error":{"code":500,"message":"broke","type":"server_error"}}', 500),
    "vLLM": (b'{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}', 400),
    "older vLLM and SGLang": (b'{"object":"error","message":"m","type":"x","code":503}', 503),
    "digits": (b'{"error":{"message":"m","code":"429"}}', 429),
    "a word for a code": (b'{"error":{"message":"m","code":"server_overloaded"}}', 500),
    "a code that is no status of an error": (b'{"error":{"message":"m","code":200}}', 500),
    "a text": (b'{"error":"out of memory"}', 500),
}


@pytest.mark.parametrize(("error", "status"), ERRORS.values(), ids=ERRORS)
def test_an_error_in_the_stream_is_the_reply_as_the_engine_wrote_it_with_its_status(
    error: bytes, status: int
) -> None:
    assembler = fed(TextAssembler(LLAMA_CPP, CHAT), chunk(content="half"), error, chunk(content="more"))
    assert (assembler.status(), assembler.body()) == (status, error)
    assert repr(assembler).startswith("<TextAssembler failed")


def test_no_error_is_no_error() -> None:
    assembler = fed(TextAssembler(LLAMA_CPP, CHAT), {"error": None}, chunk(content="x", finish="stop"))
    assert assembler.status() == 200
    assert b"error" not in assembler.body()


def test_a_stream_is_whole_when_every_choice_has_said_why_it_ended() -> None:
    assembler = fed(
        TextAssembler(VLLM, CHAT, 2), chunk(0, content="a"), chunk(0, "stop"), chunk(1, content="b")
    )
    assert not assembler.whole
    assert fed(assembler, chunk(1, "length")).whole
    assert msgspec.json.decode(assembler.body())["choices"][1]["finish_reason"] == "length"


def test_bytes_that_are_no_unicode_stay_as_the_engine_wrote_them() -> None:
    event = b'{"choices":[{"index":0,"delta":{"content":"a\xff","reasoning":"b"}}]}'
    body = fed(TextAssembler(GENERIC, CHAT), event).body()
    assert b'"message":{"role":"assistant","content":"a\xff","reasoning":"b"}' in body


def test_half_a_surrogate_costs_nothing_but_the_spelling() -> None:
    event = b'{"id":"\xff","choices":[{"index":0,"delta":{"content":"a\\ud800"}}]}'
    assert b'"content":"a\\ud800"' in fed(TextAssembler(GENERIC, CHAT), event).body()


NOISE = [b"", b"null", b"[DONE]", b"{", b"[]", b'{"choices":5}', b'{"choices":[1]}', b"\xff", b"[" * 100_000]


def test_what_is_no_event_is_passed_over() -> None:
    said = chunk(content="a", finish="stop")
    assert (
        fed(TextAssembler(VLLM, CHAT), *NOISE, said, *NOISE).body()
        == fed(TextAssembler(VLLM, CHAT), said).body()
    )


def told(index: int | None, prompt: int, output: int, cached: int) -> dict[str, Any]:
    usage = {
        "completion_tokens": output, "prompt_tokens": prompt, "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    choices = [] if index is None else [{"text": "", "index": index, "finish_reason": "stop"}]
    return {"choices": choices, "usage": usage, "timings": {"predicted_n": output}}


def test_prompts_count_once_and_completions_add_up() -> None:
    events = [told(3, 5, 7, 4), told(0, 2, 1, 1), told(1, 2, 3, 1), told(2, 5, 2, 4)]
    got = assembled(TextAssembler(LLAMA_CPP, COMPLETIONS, choices=2, prompts=2), *events)
    assert got["usage"] == {
        "completion_tokens": 13, "prompt_tokens": 7, "total_tokens": 20, "prompt_tokens_details": {"cached_tokens": 5},
    }  # fmt: skip
    assert got["timings"] == {"predicted_n": 1}


def test_usage_without_a_choice_belongs_to_the_choice_that_ended_last() -> None:
    events = [chunk(1, "stop"), told(None, 9, 4, 8), chunk(0, "stop"), told(None, 9, 5, 8)]
    got = assembled(TextAssembler(LLAMA_CPP, CHAT, choices=2), *events)
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (9, 9)
    assert got["timings"] == {"predicted_n": 5}


def test_a_usage_that_lacks_a_choice_is_not_made_up() -> None:
    got = assembled(TextAssembler(LLAMA_CPP, COMPLETIONS, prompts=2), told(0, 2, 1, 1), {"usage": {}})
    assert "usage" not in got


@pytest.mark.parametrize("usage", ['"x"', "[1]", "5", '{"prompt_tokens":true,"completion_tokens":{}}'])
def test_a_strange_usage_costs_nothing_else(usage: str) -> None:
    events = [
        b'{"choices":[{"text":"a","index":%d}],"usage":%b}' % (index, usage.encode()) for index in (0, 1)
    ]
    got = assembled(TextAssembler(TGI, COMPLETIONS, prompts=2), *events)
    assert [choice["text"] for choice in got["choices"]] == ["a", "a"]


def test_usage_of_each_prompt_is_the_last_that_it_said() -> None:
    events = [told(0, 2, 1, 0), told(0, 2, 6, 0), told(1, 3, 4, 0)]
    got = assembled(TextAssembler(TENSORRT_LLM, COMPLETIONS, prompts=2), *events)
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (5, 10)


def test_what_is_held_is_counted_and_not_shown() -> None:
    assembler = TextAssembler(VLLM, CHAT)
    sizes = [fed(assembler, chunk(content="secret" * 100)).size() for _ in range(3)]
    assert [later - earlier for earlier, later in pairwise(sizes)] == [600, 600]
    assert sizes[0] > 600
    assert "secret" not in repr(assembler)


def test_every_tool_call_and_choice_costs_something_however_small() -> None:
    assembler = TextAssembler(VLLM, CHAT)
    for index in range(1000):
        fed(assembler, chunk(index, tool_calls=[{"index": index}]))
    assert assembler.size() > 1000 * 200


# Which calls are asked as a stream.


def call(operation: Operation = CHAT, **members: Any) -> TextCall:
    name = {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input"}[operation]
    subject: dict[str, Any] = {"model": "m", name: [] if operation is CHAT else "x"}
    return text_call(operation, msgspec.json.encode(subject | members))


SEVERAL = {
    "several choices": call(n=2),
    "llama.cpp's own name for several": call(n_cmpl=3),
    "its own name goes before n": call(n_cmpl=3, n=1),
    "several prompts": call(COMPLETIONS, prompt=["a", "b"]),
    "log probabilities that are not asked for": call(n=2, logprobs=False),
}


@pytest.mark.parametrize("asked", SEVERAL.values(), ids=SEVERAL)
def test_several_choices_are_assembled_where_only_a_stream_counts_them(asked: TextCall) -> None:
    asked.check(LLAMA_CPP)
    assert isinstance(asked.assembler(LLAMA_CPP), TextAssembler)


ONE = {
    "one choice": (call(), LLAMA_CPP),
    "one choice by another name": (call(n=2, n_cmpl=1), LLAMA_CPP),
    "one prompt in an array": (call(COMPLETIONS, prompt=["a"]), LLAMA_CPP),
    "one prompt of tokens": (call(COMPLETIONS, prompt=[1, 2]), LLAMA_CPP),
    "an engine that counts several": (call(n=2), VLLM),
}


@pytest.mark.parametrize(("asked", "engine"), ONE.values(), ids=ONE)
def test_other_whole_replies_are_assembled_only_when_all_are(asked: TextCall, engine: Engine) -> None:
    asked.check(engine)
    assert asked.assembler(engine) is None
    assert asked.assembler(engine, always=True) is not None


NEVER = {
    "a stream": (call(stream=True, n=2), LLAMA_CPP),
    "embeddings": (call(EMBEDDINGS), LLAMA_CPP),
    "log probabilities, which llama.cpp does not stream whole": (call(logprobs=True), LLAMA_CPP),
    "log probabilities of a completion": (call(COMPLETIONS, logprobs=2), LLAMA_CPP),
    "log probabilities by its own name": (call(n_probs=2), LLAMA_CPP),
}


@pytest.mark.parametrize(("asked", "engine"), NEVER.values(), ids=NEVER)
def test_what_a_stream_cannot_give_back_is_never_assembled(asked: TextCall, engine: Engine) -> None:
    asked.check(engine)
    assert asked.assembler(engine, always=True) is None


def test_log_probabilities_are_assembled_where_streams_have_them_all() -> None:
    assert call(logprobs=True, n=2).assembler(VLLM, always=True) is not None


REFUSED = {
    "Ollama makes one choice": (call(n=2), OLLAMA, "n"),
    "Ollama takes one prompt": (call(COMPLETIONS, prompt=["a", "b"]), OLLAMA, "prompt"),
    "a name that llama.cpp does not know": (call(best_of=2), LLAMA_CPP, "best_of"),
    "a number that llama.cpp cuts to 2": (call(n_cmpl=2 - 2**32), LLAMA_CPP, "n_cmpl"),
    "no choice": (call(n_cmpl=0), LLAMA_CPP, "n_cmpl"),
    "more choices than are told apart": (call(COMPLETIONS, prompt=["a"] * 1_025, n=2), LLAMA_CPP, "prompt"),
    "log probabilities of several, whole": (call(n=2, logprobs=True), LLAMA_CPP, "logprobs"),
}


@pytest.mark.parametrize(("asked", "engine", "param"), REFUSED.values(), ids=REFUSED)
def test_what_nobody_counts_is_refused(asked: TextCall, engine: Engine, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        asked.check(engine)
    assert refusal.value.param == param


def test_log_probabilities_of_several_may_be_streamed() -> None:
    call(n=2, logprobs=True, stream=True).check(LLAMA_CPP)
