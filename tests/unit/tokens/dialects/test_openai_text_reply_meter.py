"""Whole chat completions, completions and embeddings: what they report, and what is doubted."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.openai_text_reply_meter import TextReplyMeter
from billing.tokens.engines import LLAMA_CPP, VLLM
from billing.tokens.usage import Provenance, TokenUsage
from tests.text_events_kit import timed, used, values


def whole(**members: Any) -> bytes:
    return msgspec.json.encode({"id": "c-1", "model": "weights", **members})


MESSAGE = {"index": 0, "message": {"content": "a", "reasoning_content": "because"}, "finish_reason": "stop"}


def test_a_whole_reply_reports_its_usage() -> None:
    meter = TextReplyMeter(LLAMA_CPP, whole(choices=[MESSAGE], usage=used(32, 53), timings=timed(53)))
    assert values(meter.usage())[0::2] == (32, 53)
    assert meter.usage().output.provenance is Provenance.REPORTED
    assert (meter.response_id, meter.response_model) == ("c-1", "weights")
    assert repr(meter) == "<TextReplyMeter 53 reported (usage.completion_tokens)>"


def test_a_whole_reply_of_an_old_build_takes_its_cached_tokens_from_timings() -> None:
    assert (
        TextReplyMeter(LLAMA_CPP, whole(usage=used(32, 53), timings=timed(53))).usage().cached_input.value
        == 31
    )


def test_a_whole_reply_without_usage_takes_llamacpps_timings_and_nobody_elses() -> None:
    assert values(TextReplyMeter(LLAMA_CPP, whole(timings=timed(53))).usage())[:3] == (32, 31, 53)
    assert TextReplyMeter(VLLM, whole(timings=timed(53))).usage() == TokenUsage()


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b"\xff\xfe", b'{"usage":', b'{"id":5,"x":'])
def test_a_whole_reply_that_is_none_has_unknown_counts(body: bytes) -> None:
    meter = TextReplyMeter(LLAMA_CPP, body)
    assert meter.usage() == TokenUsage()
    assert (meter.response_id, meter.response_model, meter.reasoning_text()) == (None, None, None)


def test_reasoning_text_is_counted_apart_only_where_the_engine_does_not_report_it() -> None:
    body = whole(choices=[MESSAGE], usage=used(32, 53))
    assert TextReplyMeter(LLAMA_CPP, body).reasoning_text() == "because"
    assert TextReplyMeter(VLLM, body).reasoning_text() == "because"
    counted = used(32, 53, completion_tokens_details={"reasoning_tokens": 20})
    assert TextReplyMeter(VLLM, whole(choices=[MESSAGE], usage=counted)).reasoning_text() is None
    silent = whole(choices=[{"index": 0, "message": {"content": "a", "reasoning_content": ""}}])
    assert TextReplyMeter(LLAMA_CPP, silent).reasoning_text() is None


def test_a_reported_zero_beside_reasoning_text_is_doubtful_and_not_recorded_as_reported() -> None:
    usage = used(32, 53, completion_tokens_details={"reasoning_tokens": 0})
    reasoning = TextReplyMeter(VLLM, whole(choices=[MESSAGE], usage=usage)).usage().reasoning
    assert (reasoning.value, reasoning.provenance) != (0, Provenance.REPORTED)


def test_only_a_reply_with_an_error_and_nothing_else_has_failed() -> None:
    assert TextReplyMeter(VLLM, b'{"error":{"message":"no"}}').failed
    assert TextReplyMeter(VLLM, b'{"error":"no"}').failed
    assert TextReplyMeter(VLLM, b'{"object":"error","message":"no","code":400}').failed
    for members in (
        {"error": None},
        {"error": "no", "usage": used(1, 1)},
        {"error": "no", "choices": [MESSAGE]},
        {},
    ):
        assert not TextReplyMeter(VLLM, whole(**members)).failed
    assert not TextReplyMeter(VLLM, b"null").failed
    assert not TextReplyMeter(VLLM, b'{"error":false}').failed
    assert not TextReplyMeter(VLLM, b'{"object":"list","error":{}}').failed
