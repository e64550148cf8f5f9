"""Reasoning that a meter is told to watch: kept for a tokenizer where no counter counts it, split off by tags."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.ollama_meter import OllamaReplyMeter, OllamaStreamMeter
from billing.tokens.dialects.openai_responses_meter import ResponsesStreamMeter
from billing.tokens.dialects.openai_text_meter import TextStreamMeter, Wish
from billing.tokens.dialects.openai_text_reply_meter import TextReplyMeter
from billing.tokens.dialects.tgi_meter import TgiReplyMeter, TgiStreamMeter
from billing.tokens.engines import GENERIC, LLAMA_CPP, NIM_1, OLLAMA, OPENAI, VLLM, Engine
from billing.tokens.meter import StreamMeter
from billing.tokens.operation import Operation
from billing.tokens.tags import Tags
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage

THINK = Tags("<think>", "</think>")
RAW = ("<think>", "h", "m", "</think>", "yes")


def chat(text: str, index: int = 0, **members: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"index": index, "delta": {"content": text}}]} | members)


def thought(text: str, index: int = 0, **members: Any) -> bytes:
    return msgspec.json.encode(
        {"choices": [{"index": index, "delta": {"reasoning_content": text}}]} | members
    )


def completed(text: str, **members: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"index": 0, "text": text}]} | members)


def timed(predicted: int) -> dict[str, Any]:
    return {"timings": {"prompt_n": 4, "predicted_n": predicted}}


def text_meter(engine: Engine, operation: Operation = Operation.CHAT, choices: int = 1) -> TextStreamMeter:
    return TextStreamMeter(engine, operation, choices, 1, Wish())


def watched(meter: StreamMeter, *events: bytes, keeps: bool = True, tags: Tags | None = None) -> StreamMeter:
    meter.watch_reasoning(keeps=keeps, tags=tags)
    for number, data in enumerate(events):
        meter.see(data, 1_000 * number)
    return meter


USED = msgspec.json.encode({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 5}})


@pytest.mark.parametrize("engine", [NIM_1, OLLAMA, GENERIC])
def test_reasoning_of_an_engine_without_counters_is_kept_and_dropped(engine: Engine) -> None:
    meter = watched(text_meter(engine), thought("be"), thought("cause"), chat("so"), USED)
    assert (meter.usage().reasoning, meter.reasoning_text()) == (UNKNOWN, "because")
    meter.forget()
    assert meter.reasoning_text() is None


def test_nobody_is_given_text_that_was_not_asked_for() -> None:
    events = (thought("because"), chat("so"), USED)
    assert watched(text_meter(NIM_1), *events, keeps=False).reasoning_text() is None
    plain = text_meter(NIM_1)
    for data in events:
        plain.see(data, 0)
    plain.forget()
    assert plain.reasoning_text() is None


def test_no_text_is_kept_where_a_counter_runs_or_a_count_is_reported() -> None:
    counted = watched(text_meter(LLAMA_CPP), thought("a", **timed(2)), chat("b", **timed(3)))
    assert (counted.usage().reasoning.value, counted.reasoning_text()) == (2, None)
    told = msgspec.json.encode(
        {
            "choices": [],
            "usage": {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}},
        }
    )
    assert watched(text_meter(OPENAI), thought("a"), told).reasoning_text() is None


def test_several_choices_keep_their_own_text() -> None:
    events = (thought("b", 1), thought("a", 0), thought("B", 1), thought("A", 0), USED)
    assert watched(text_meter(NIM_1, choices=2), *events).reasoning_text() == "aAbB"


@pytest.mark.parametrize(("operation", "event"), [(Operation.CHAT, chat), (Operation.COMPLETIONS, completed)])
def test_raw_tags_are_counted_by_the_engines_counter(
    operation: Operation, event: Callable[..., bytes]
) -> None:
    events = [event(text, **timed(number)) for number, text in enumerate(RAW, 1)]
    meter = watched(text_meter(LLAMA_CPP, operation), *events, keeps=False, tags=THINK)
    assert (meter.usage().output.value, meter.usage().reasoning.value) == (5, 2)
    assert meter.usage().reasoning.provenance is Provenance.RUNNING
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us) == (1_000, 4_000, 4_000)


def test_raw_tags_of_an_engine_without_counters_are_kept() -> None:
    meter = watched(text_meter(NIM_1), *map(chat, RAW), USED, tags=THINK)
    assert (meter.usage().reasoning, meter.reasoning_text()) == (UNKNOWN, "hm")


def test_a_model_that_begins_inside_is_counted_from_its_first_token() -> None:
    events = [chat(text, **timed(number)) for number, text in enumerate(RAW[1:], 1)]
    meter = watched(text_meter(LLAMA_CPP), *events, tags=THINK)
    assert (meter.usage().reasoning.value, meter.first_answer_us) == (2, 3_000)
    usage = {"prompt_tokens": 4}
    running = [
        chat(text, index, usage=usage | {"completion_tokens": number})
        for number, text in enumerate(RAW[1:], 1)
        for index in (0, 1)
    ]
    assert watched(text_meter(VLLM, choices=2), *running, tags=THINK).usage().reasoning.value == 4
    untold = [chat(text) for text in RAW[1:]]
    assert watched(text_meter(NIM_1), *untold, USED, tags=THINK).reasoning_text() == "hm"


def test_a_tool_call_is_an_answer() -> None:
    call = {"index": 0, "delta": {"tool_calls": [{"function": {"name": "f"}}]}}
    meter = watched(text_meter(NIM_1), msgspec.json.encode({"choices": [call]}), tags=THINK)
    assert meter.first_answer_us == 0


@pytest.mark.parametrize(
    "choice", [{"message": {"content": "".join(RAW)}}, {"text": "".join(RAW)}, {"message": {"content": "hm</think>yes"}}]
)  # fmt: skip
def test_whole_replies_are_split(choice: dict[str, Any]) -> None:
    body = msgspec.json.encode({"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 5}})
    meter = TextReplyMeter(NIM_1, body)
    assert meter.reasoning_text() is None
    meter.split_reasoning(THINK)
    assert (meter.reasoning_text(), meter.usage().reasoning) == ("hm", UNKNOWN)


def response(kind: str, text: str, **members: Any) -> bytes:
    return msgspec.json.encode({"type": f"response.{kind}.delta", "delta": text} | members)


def test_a_response_keeps_its_reasoning_or_its_summary_never_both() -> None:
    both = (
        response("reasoning_text", "be"), response("reasoning_summary_text", "short"), response("reasoning_text", "cause"),
    )  # fmt: skip
    assert watched(ResponsesStreamMeter(OLLAMA), *both).reasoning_text() == "because"
    assert watched(ResponsesStreamMeter(OLLAMA), both[1]).reasoning_text() == "short"
    assert watched(ResponsesStreamMeter(OLLAMA), *both, keeps=False).reasoning_text() is None
    meter = watched(ResponsesStreamMeter(LLAMA_CPP), response("reasoning_text", "a", **timed(2)))
    assert (meter.usage().reasoning.value, meter.reasoning_text()) == (2, None)
    meter.forget()


def ollama(text: str, thinking: str = "", **members: Any) -> bytes:
    return msgspec.json.encode({"message": {"content": text, "thinking": thinking}, "done": False} | members)


LAST = ollama("", done=True, eval_count=20, prompt_eval_count=3)


def test_ollamas_thinking_is_kept() -> None:
    meter = watched(
        OllamaStreamMeter(TokenUsage()), ollama("", "be"), ollama("", "cause"), ollama("so"), LAST
    )
    assert (meter.reasoning_text(), meter.reasoning_estimate().value) == ("because", 20 * 7 // 9)
    meter.forget()
    assert meter.reasoning_text() is None


def test_ollamas_raw_tags_are_split() -> None:
    lines = [ollama(text) for text in ("<think>", "hmhm", "hmhm", "</think>", "ye")]
    for begun_inside in (False, True):
        meter = watched(OllamaStreamMeter(TokenUsage()), *lines[begun_inside:], LAST, tags=THINK)
        assert (meter.reasoning_text(), meter.reasoning_estimate().value) == ("hmhmhmhm", 16)
        assert meter.first_answer_us == 4_000 - 1_000 * begun_inside
    whole = OllamaReplyMeter(ollama("<think>hmhmhmhm</think>ye", done=True, eval_count=20), TokenUsage())
    assert whole.reasoning_text() is None
    whole.split_reasoning(THINK)
    assert (whole.reasoning_text(), whole.reasoning_estimate().value) == ("hmhmhmhm", 16)


def tgi(text: str, **members: Any) -> bytes:
    special = text.startswith(("<think", "</think"))
    return msgspec.json.encode({"token": {"text": text, "special": special}} | members)


@pytest.mark.parametrize("begun_inside", [False, True])
def test_tgis_events_are_tokens_and_those_between_tags_are_counted(*, begun_inside: bool) -> None:
    meter = watched(TgiStreamMeter(shows_details=False), *map(tgi, RAW[begun_inside:]), tags=THINK)
    assert meter.usage().reasoning.value == 2
    assert watched(TgiStreamMeter(shows_details=False), tgi("yes"), keeps=True).usage().reasoning == UNKNOWN


def test_tgis_whole_replies_list_their_tokens() -> None:
    tokens = [{"text": text, "special": False} for text in RAW]
    reply = {"generated_text": "hmyes", "details": {"generated_tokens": 5, "tokens": tokens}}
    meter = TgiReplyMeter(msgspec.json.encode(reply))
    assert meter.usage().reasoning == UNKNOWN
    meter.split_reasoning(THINK)
    assert meter.usage().reasoning == Count(2, Provenance.RUNNING, "output counter over the reasoning deltas")
    several = TgiReplyMeter(msgspec.json.encode(reply), best_of=2)
    several.split_reasoning(THINK)
    assert several.usage().reasoning == UNKNOWN
