"""Counts and members that are not what they seem: raw reasoning, counts that fall, usage that is there because we asked."""

import msgspec
import pytest

from billing.tokens.components import Components, components
from billing.tokens.dialects.openai_text_reply_meter import TextReplyMeter
from billing.tokens.engines import GENERIC, LLAMA_CPP, OPENAI, TGI, VLLM
from billing.tokens.meter import Edit
from billing.tokens.usage import UNKNOWN
from tests.text_events_kit import (
    USAGE,
    call,
    event,
    metered,
    says,
    timed,
    used,
    values,
)


@pytest.mark.parametrize("first", ["<think>", "\n<think", "<th", "<"])
def test_an_answer_that_begins_as_raw_reasoning_does_has_unknown_reasoning(first: str) -> None:
    events = (event(says(first), timings=timed(1)), event(says("because</think>yes"), timings=timed(5)))
    assert metered(LLAMA_CPP, call(), *events).usage().reasoning == UNKNOWN
    plain = (event(says("yes <think>"), timings=timed(1)), event(says("b"), timings=timed(2)))
    assert metered(LLAMA_CPP, call(), *plain).usage().reasoning.value == 0


def test_counts_do_not_go_down_at_the_end_either() -> None:
    meter = metered(VLLM, call(), event(says("a"), usage=used(9, 5)), event(usage=used(9, 1)))
    assert values(meter.usage())[0::2] == (9, 5)


def test_null_usage_that_came_because_usage_was_asked_for_is_taken_out() -> None:
    chunk = event(says("a"), usage=None)
    for engine in (OPENAI, GENERIC):
        meter = call().stream_meter(engine)
        assert meter.see(chunk, 0) is Edit.STRIP
        assert meter.strip(chunk) == chunk.replace(b',"usage":null', b"")
        assert call(**USAGE).stream_meter(engine).see(chunk, 0) is Edit.KEEP
    assert call().stream_meter(TGI).see(chunk, 0) is Edit.KEEP  # it writes null whatever is asked


@pytest.mark.parametrize("member", ["obfuscation", "sla_metrics", "x_groq"])
def test_a_usage_event_with_a_vendors_own_member_is_there_because_we_asked(member: str) -> None:
    assert call().stream_meter(GENERIC).see(event(usage=used(9, 1), **{member: "x"}), 0) is Edit.DROP
    assert (
        call().stream_meter(GENERIC).see(event(usage=used(9, 1), prompt_filter_results=[]), 0) is Edit.STRIP
    )


def test_one_multimodal_payload_is_disjoint_components_that_add_up_to_the_engines_total() -> None:
    """Text, image, audio and video in; text, audio and reasoning out; in vLLM's words and OpenAI's."""
    reply = msgspec.json.encode({
        "id": "c-1", "model": "omni", "choices": [{"index": 0, "message": {"content": "a", "reasoning_content": "b"}}],
        "usage": {
            "prompt_tokens": 1_000, "completion_tokens": 300, "total_tokens": 1_300,
            "prompt_tokens_details": {
                "cached_tokens": 200, "created_cache_tokens": 50, "audio_tokens": 90,
                "multimodal_tokens": {"image": 256, "video": 400, "audio": 90},
            },
            "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 60},
        },
    })  # fmt: skip
    made = components(TextReplyMeter(VLLM, reply).usage())
    assert made == Components(
        uncached_input=4, cached_input=200, cache_write=50, audio_input=90, image_input=256, video_input=400,
        answer_output=120, reasoning=120, audio_output=60,
    )  # fmt: skip
    assert (made.input, made.output, made.total) == (1_000, 300, 1_300)
