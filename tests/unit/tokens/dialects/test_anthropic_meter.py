"""A message is counted event by event, or whole: what it read and wrote, what it made, and what nobody can know."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.anthropic_meter import (
    OTHER_MODELS_MAX,
    CountTokensReplyMeter,
    MessageReplyMeter,
    MessageStreamMeter,
)
from billing.tokens.engines import GENERIC, OLLAMA, OPENAI, SGLANG, VLLM, Engine
from billing.tokens.meter import Edit
from billing.tokens.reasoning_text import CHARACTERS_MAX
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage


def event(kind: str, **members: Any) -> bytes:
    return msgspec.json.encode({"type": kind} | members)


def begins(**usage: Any) -> bytes:
    return event("message_start", message={"id": "msg_1", "model": "weights", "content": [], "usage": usage})


def says(text: str = "a") -> bytes:
    return event("content_block_delta", index=1, delta={"type": "text_delta", "text": text})


def thinks(text: str = "r") -> bytes:
    return event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text})


def block(kind: str, **members: Any) -> bytes:
    return event("content_block_start", index=0, content_block={"type": kind} | members)


def ends(reason: str | None = "end_turn", /, **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


STOP = event("message_stop")


def seen(*events: bytes, engine: Engine = GENERIC, keeps_reasoning: bool = False) -> MessageStreamMeter:
    meter = MessageStreamMeter(engine)
    meter.watch_reasoning(keeps=keeps_reasoning, tags=None)
    for instant, data in enumerate(events):
        assert meter.see(data, instant) is Edit.KEEP
    return meter


def reply(engine: Engine = GENERIC, **members: Any) -> MessageReplyMeter:
    return MessageReplyMeter(engine, msgspec.json.encode({"id": "msg_1", "model": "weights"} | members))


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    """Input, cached input, written cache, output and reasoning."""
    counts = (usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning)
    return tuple(count.value for count in counts)


# A stream and its end.


def test_a_stream_to_its_end() -> None:
    meter = seen(
        begins(input_tokens=1, cache_read_input_tokens=23, output_tokens=1), says(), ends(output_tokens=6)
    )
    assert (meter.finished, meter.done, meter.failed) == (True, False, False)
    assert (meter.response_id, meter.response_model) == ("msg_1", "weights")
    meter.see(STOP, 9)
    assert meter.done
    assert values(meter.usage()) == (24, 23, None, 6, None)
    assert meter.usage().output == Count(6, Provenance.REPORTED, "message_delta.usage.output_tokens")
    assert meter.usage().input.provenance is Provenance.REPORTED
    assert repr(meter) == "<MessageStreamMeter done output=6 reported (message_delta.usage.output_tokens)>"


def test_the_output_of_the_beginning_is_never_taken_and_the_record_says_why() -> None:
    meter = seen(begins(input_tokens=11, output_tokens=7), says(), says())
    assert values(meter.usage()) == (11, None, None, None, None)
    assert "no message_delta.usage came" in meter.usage().output.method
    assert meter.usage().input.provenance is Provenance.RUNNING
    assert seen().usage().output.value is None


def test_a_running_count_is_what_is_known_when_the_client_leaves() -> None:
    meter = seen(begins(input_tokens=11, output_tokens=1), says(), ends(None, output_tokens=4), says())
    assert meter.usage().output == Count(4, Provenance.RUNNING, "message_delta.usage.output_tokens")
    assert not meter.finished


def test_cumulative_counts_never_go_down_and_a_missing_one_erases_none() -> None:
    meter = seen(
        begins(input_tokens=5), ends(None, output_tokens=9), ends(output_tokens=4), ends(input_tokens=6)
    )
    assert values(meter.usage()) == (6, None, None, 9, None)


def test_the_beginning_does_not_fill_in_for_an_end_without_an_output() -> None:
    meter = seen(begins(input_tokens=5, output_tokens=3), ends(input_tokens=6), STOP)
    assert values(meter.usage()) == (6, None, None, None, None)


def test_a_stream_that_ends_without_usage_is_done_and_unknown() -> None:
    meter = seen(begins(input_tokens=5, output_tokens=3), says(), STOP)
    assert (meter.done, meter.usage().input.provenance) == (True, Provenance.REPORTED)
    assert meter.usage().output.value is None


ERRORS = [
    event("error", error={"type": "overloaded_error", "message": "x"}),
    b'{"error":{"message":"x"}}',
    b'{"code":500,"message":"x","type":"server_error"}',
]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_fails_the_stream_and_what_was_told_stands(error: bytes) -> None:
    meter = seen(begins(input_tokens=5), ends(None, output_tokens=2), error)
    assert (meter.failed, meter.done) == (True, False)
    assert values(meter.usage()) == (5, None, None, 2, None)


GARBAGE = [
    b"[DONE]", b"null", b"[]", b"7", b"", b"hello", b"{}", b'{"type":null}', b'{"type":7}', b'{"type":"message_start"}',
    b'{"type":"message_start","message":5}', b'{"type":"message_delta"}', b'{"type":"message_delta","usage":null,"delta":5}',
    b'{"type":"content_block_delta"}', b'{"type":"content_block_start","content_block":[]}', b"\xff\xfe", b"[" * 50_000,
    b'{"type":"ping"}', b'{"type":"message_delta","usage":{}}', b'{"type":"message_delta","usage":{"output_tokens":true}}',
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_event_changes_nothing(garbage: bytes) -> None:
    meter = seen(
        garbage, begins(input_tokens=5), garbage, says(), garbage, ends(output_tokens=2), garbage, STOP
    )
    assert values(meter.usage()) == (5, None, None, 2, None)
    assert (meter.response_id, meter.failed, meter.done) == ("msg_1", False, True)


# What the input is made of.


def test_each_told_field_of_the_end_replaces_that_of_the_beginning() -> None:
    meter = seen(
        begins(input_tokens=2050, cache_creation_input_tokens=7, cache_read_input_tokens=9),
        ends(input_tokens=31_772, cache_read_input_tokens=0, output_tokens=644),
    )
    assert values(meter.usage()) == (31_779, 0, 7, 644, None)


def test_an_estimate_at_the_beginning_is_replaced_by_the_count_at_the_end() -> None:
    begun = begins(input_tokens=3, output_tokens=0)
    cut = seen(begun, says(), engine=OLLAMA).usage()
    assert (cut.input.value, cut.input.provenance) == (3, Provenance.ESTIMATED)
    whole = seen(begun, says(), ends(input_tokens=26, output_tokens=8), STOP, engine=OLLAMA).usage()
    assert (whole.input.value, whole.input.provenance) == (26, Provenance.REPORTED)
    # It leaves out the count of a prompt that it had in its cache.
    cached = seen(begun, says(), ends(input_tokens=0, output_tokens=8), STOP, engine=OLLAMA).usage()
    assert (cached.input.value, cached.input.provenance, cached.output.value) == (3, Provenance.ESTIMATED, 8)


def test_zeros_in_the_place_of_a_usage_say_nothing() -> None:
    begun = begins(input_tokens=0, output_tokens=0, cache_read_input_tokens=0)
    meter = seen(begun, says(), ends(input_tokens=0, output_tokens=0), STOP, engine=SGLANG)
    assert values(meter.usage()) == (None, None, None, None, None)
    assert values(seen(begun, says(), ends(input_tokens=9, output_tokens=2), engine=SGLANG).usage()) == (
        9, None, None, 2, None,
    )  # fmt: skip
    assert reply(usage={"input_tokens": 0, "output_tokens": 0}).usage() == TokenUsage()


def test_a_cache_of_0_is_doubted_where_nobody_counts_it() -> None:
    told = {"input_tokens": 5, "cache_read_input_tokens": 0, "output_tokens": 2}
    assert reply(OLLAMA, usage=told).usage().cached_input == UNKNOWN
    assert reply(VLLM, usage=told).usage().cached_input.value == 0


def test_the_written_cache_is_told_by_how_long_it_lives() -> None:
    split = {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 18}
    usage = reply(
        usage={"input_tokens": 3, "cache_creation_input_tokens": 418, "cache_creation": split}
    ).usage()
    assert (usage.input.value, usage.cache_write.value) == (421, 418)
    assert usage.parts[Part.CACHE_WRITE_1H].value == 18
    # Without the sum its parts make it.
    assert reply(usage={"input_tokens": 3, "cache_creation": split}).usage().cache_write.value == 418


def test_a_split_of_only_a_part_of_the_written_cache_is_not_told() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 100}
    begun = begins(input_tokens=3, cache_creation_input_tokens=100, cache_creation=split)
    later = {"input_tokens": 3, "cache_creation_input_tokens": 300, "output_tokens": 2}
    assert seen(begun, ends(output_tokens=2)).usage().parts[Part.CACHE_WRITE_1H].value == 100
    assert Part.CACHE_WRITE_1H not in seen(begun, ends(**later)).usage().parts
    rows = [{"type": "message", "input_tokens": 1, "output_tokens": 1, "cache_creation": split}] * 3
    assert seen(begun, ends(**later, iterations=rows)).usage().parts[Part.CACHE_WRITE_1H].value == 300


# Passes of other models, and of the same one.


def row(kind: str, tokens: int, output: int, **members: Any) -> dict[str, Any]:
    return {"type": kind, "input_tokens": tokens, "output_tokens": output} | members


def test_compaction_is_added_and_passes_of_the_message_are_not() -> None:
    rows = [
        row("compaction", 100, 83, cache_read_input_tokens=55_096, cache_creation_input_tokens=4),
        row("message", 181, 8), row("fallback_message", 1, 1),
    ]  # fmt: skip
    told = {"input_tokens": 181, "cache_read_input_tokens": 0, "output_tokens": 8, "iterations": rows}
    for usage in (seen(begins(input_tokens=100), ends(**told)).usage(), reply(usage=told).usage()):
        assert values(usage) == (55_381, 55_096, 4, 91, None)
        assert "compaction" in usage.output.method


def test_an_advisor_is_another_model_and_is_told_apart() -> None:
    rows = [row("message", 9, 3), row("advisor_message", 2000, 10, model="large", cache_read_input_tokens=500),
            row("advisor_message", 43, 8, model="large"), row("advisor_message", 5, 1, model="small")]  # fmt: skip
    told = {"input_tokens": 9, "output_tokens": 3, "iterations": rows}
    for meter in (seen(ends(**told)), reply(usage=told)):
        assert values(meter.usage()) == (9, None, None, 3, None)
        assert meter.other_models() == {"large": (2543, 18), "small": (5, 1)}
    assert seen().other_models() == reply().other_models() == {}


def test_a_row_of_an_advisor_that_lacks_what_must_be_known_is_left_out() -> None:
    rows = [row("advisor_message", 5, 1), {"type": "advisor_message", "model": "m", "input_tokens": 5},
            {"type": "advisor_message", "model": "m", "output_tokens": 5}, row("advisor_message", 5, 1, model="m" * 257),
            *(row("advisor_message", 5, 1, model=f"m{number}") for number in range(OTHER_MODELS_MAX + 1))]  # fmt: skip
    assert len(reply(usage={"iterations": rows}).other_models()) == OTHER_MODELS_MAX


def test_searches_and_fetches_are_one_unit() -> None:
    told = {
        "input_tokens": 5,
        "output_tokens": 2,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    }
    assert seen(begins(input_tokens=5), ends(**told)).usage().parts[Part.SEARCH].value == 3
    assert reply(usage=told).usage().parts[Part.SEARCH].value == 3


def test_no_search_beside_an_unknown_output_does_not_make_a_request_known() -> None:
    begun = begins(input_tokens=5, server_tool_use={"web_search_requests": 0})
    assert seen(begun, says()).usage().parts == {}


# Output and reasoning.


def test_a_refusal_makes_no_output_and_text_without_a_count_is_no_0() -> None:
    begun = begins(input_tokens=20, output_tokens=1)
    assert (
        seen(begun, block("text", text=""), ends("refusal", output_tokens=0), STOP).usage().output.value == 0
    )
    assert seen(begun, says(), ends("refusal", output_tokens=0), STOP).usage().output.value == 0
    assert seen(begun, says(), ends(output_tokens=0), STOP).usage().output.value is None
    content = [{"type": "text", "text": "a"}]
    assert reply(content=content, usage={"input_tokens": 5, "output_tokens": 0}).usage().output.value is None
    assert reply(content=[], usage={"input_tokens": 5, "output_tokens": 0}).usage().output.value == 0


def told_reasoning(tokens: int) -> dict[str, Any]:
    return {"input_tokens": 13, "output_tokens": 44, "output_tokens_details": {"thinking_tokens": tokens}}


def test_reasoning_as_reported_never_above_the_output() -> None:
    assert values(seen(begins(), thinks(), says(), ends(**told_reasoning(33))).usage())[3:] == (44, 33)
    clamped = reply(usage=told_reasoning(50)).usage().reasoning
    assert (clamped.value, clamped.method) == (
        44, "usage.output_tokens_details.thinking_tokens, clamped from 50",
    )  # fmt: skip


@pytest.mark.parametrize(
    "thought", [thinks(), block("thinking", thinking=""), block("redacted_thinking", data="x")]
)
def test_no_reasoning_reported_beside_reasoning_is_doubted(thought: bytes) -> None:
    assert seen(thought, says(), ends(**told_reasoning(0)), engine=VLLM).usage().reasoning == UNKNOWN
    assert seen(thought, says(), ends(**told_reasoning(0)), engine=OPENAI).usage().reasoning.value == 0
    assert seen(says(), ends(**told_reasoning(0)), engine=VLLM).usage().reasoning.value == 0
    assert seen(thought, says(), ends(input_tokens=1, output_tokens=3)).usage().reasoning == UNKNOWN


def test_reasoning_text_of_a_whole_reply_is_for_a_tokenizer_where_nobody_counted_it() -> None:
    content = [
        {"type": "thinking", "thinking": "r1 "},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "r2"},
    ]
    usage = {"input_tokens": 5, "output_tokens": 9}
    assert reply(content=content, usage=usage).reasoning_text() == "r1 r2"
    assert reply(content=content[1:2], usage=usage).reasoning_text() is None
    assert reply(content=content, usage=told_reasoning(3)).reasoning_text() is None
    assert (
        reply(content=[*content, {"type": "redacted_thinking", "data": "x"}], usage=usage).reasoning_text()
        is None
    )


def test_reasoning_text_of_a_stream_is_kept_only_where_that_is_wanted() -> None:
    events = (thinks("r1 "), thinks("r2"), says(), ends(input_tokens=5, output_tokens=9))
    assert seen(*events).reasoning_text() is None
    assert seen(*events, keeps_reasoning=True).reasoning_text() == "r1 r2"
    assert seen(*events, ends(**told_reasoning(3)), keeps_reasoning=True).reasoning_text() is None
    assert seen(block("redacted_thinking"), *events, keeps_reasoning=True).reasoning_text() is None


def test_reasoning_text_that_is_too_long_is_not_kept() -> None:
    half = thinks("r" * (CHARACTERS_MAX // 2))
    assert seen(half, half, keeps_reasoning=True).reasoning_text() is not None
    assert seen(half, half, thinks(), keeps_reasoning=True).reasoning_text() is None
    assert seen(half, half, thinks(), half, keeps_reasoning=True).reasoning_text() is None


# When text came.

SPOKEN: dict[str, tuple[bytes, bool]] = {
    "text": (says(), True),
    "a tool call": (event("content_block_delta", delta={"type": "input_json_delta", "partial_json": '{"a'}), True),
    "the name of a tool": (block("tool_use", name="f", input={}), True),
    "text in the beginning of a block": (block("text", text="a"), True),
    "reasoning": (thinks(), False),
    "a compaction": (event("content_block_delta", delta={"type": "compaction_delta", "content": "so far"}), False),
}  # fmt: skip


@pytest.mark.parametrize(("data", "is_answer"), SPOKEN.values(), ids=SPOKEN)
def test_generated_text_is_seen(data: bytes, is_answer: bool) -> None:
    meter = seen(begins(), data)
    assert (meter.first_token_us, meter.first_answer_us) == (1, 1 if is_answer else None)


SILENT = [
    block("text", text=""), block("thinking", thinking=""), block("web_search_tool_result", content=[]), STOP,
    says(""), thinks(""), event("ping"), event("content_block_stop", index=0),
    event("content_block_delta", delta={"type": "signature_delta", "signature": "x"}),
    event("content_block_delta", delta={"type": "input_json_delta", "partial_json": ""}),
]  # fmt: skip


@pytest.mark.parametrize("data", SILENT)
def test_what_is_no_generated_text_is_no_token(data: bytes) -> None:
    assert seen(begins(), data).first_token_us is None


def test_latencies() -> None:
    meter = seen(begins(), thinks(), thinks(), says(), STOP, says(), ends(output_tokens=5))
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us, meter.gap_max_us) == (
        1,
        3,
        5,
        2,
    )
    assert meter.itl_us() == 1


# Whole replies.


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"hello", b'{"error":{"message":"x"}}', b'{"usage":5,"content":7}']
)
def test_a_reply_without_usage_is_unknown(body: bytes) -> None:
    meter = MessageReplyMeter(GENERIC, body)
    assert (meter.usage(), meter.other_models(), meter.reasoning_text()) == (TokenUsage(), {}, None)
    assert (meter.response_id, meter.response_model) == (None, None)


@pytest.mark.parametrize(
    ("body", "counted"), [(b'{"input_tokens":24}', 24), (b"{}", None), (b"null", None), (b"x", None)]
)
def test_what_is_only_counted_is_no_usage(body: bytes, counted: int | None) -> None:
    meter = CountTokensReplyMeter(body)
    assert (meter.counted, values(meter.usage())) == (counted, (None, None, None, 0, None))
    assert (meter.response_id, meter.response_model, meter.reasoning_text()) == (None, None, None)
