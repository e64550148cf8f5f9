"""Counts and members that are not what they seem: raw reasoning, counts that fall, usage that is there because we asked."""

import pytest

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
