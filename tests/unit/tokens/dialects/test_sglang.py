"""SGLang's native counts grow from event to event, and so does its text."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.sglang import SglangReplyMeter, SglangStreamMeter
from billing.tokens.meter import Edit
from billing.tokens.usage import Count, Provenance, TokenUsage
from tests.native_kit import corpus, counts, expected, found, metered

LENGTH = {"type": "length", "length": 9}


def said(completion: int, text: str = "x", index: int = 0, **meta_info: Any) -> dict[str, Any]:
    known = {
        "id": "s-1",
        "prompt_tokens": 6,
        "completion_tokens": completion,
        "cached_tokens": 2,
        "finish_reason": None,
    }
    return {"text": text, "index": index, "meta_info": known | meta_info}


def stream(*events: Any, choices: int = 1, prompts: int = 1) -> SglangStreamMeter:
    meter = SglangStreamMeter(choices, prompts)
    for number, event in enumerate(events):
        meter.see(event if isinstance(event, bytes) else msgspec.json.encode(event), 100 * number)
    return meter


def reply(body: Any, choices: int = 1, prompts: int = 1) -> SglangReplyMeter:
    return SglangReplyMeter(msgspec.json.encode(body), choices, prompts)


def test_the_last_event_says_all() -> None:
    running = stream(said(1), said(9), said(17))
    assert (counts(running.usage()), running.usage().output.provenance) == ((6, 2, 17, None), "running")
    ended = stream(said(1), said(17), said(20, finish_reason=LENGTH), b"[DONE]")
    assert (ended.finished, ended.done, ended.response_id) == (True, True, "s-1")
    assert ended.usage().output == Count(20, Provenance.REPORTED, "meta_info.completion_tokens")


def test_old_builds_say_a_word_for_the_finish() -> None:
    assert stream(said(20, finish_reason="length")).finished


def test_text_is_heard_when_the_count_grows() -> None:
    meter = stream(said(1), said(1), said(9), said(9, finish_reason=LENGTH))
    assert (meter.first_token_us, meter.last_token_us, meter.gap_max_us) == (0, 200, 200)


def test_reasoning_is_a_part_of_the_output() -> None:
    assert counts(stream(said(9, reasoning_tokens=4)).usage()) == (6, 2, 9, 4)
    assert counts(reply(said(9, reasoning_tokens=40)).usage()) == (6, 2, 9, 9)


def test_choices_read_their_prompt_once_and_are_finished_together() -> None:
    meter = stream(said(5, index=0, finish_reason=LENGTH), said(6, index=1), choices=2)
    assert (meter.finished, counts(meter.usage())) == (False, (6, 2, 11, None))
    meter.see(msgspec.json.encode(said(7, index=1, finish_reason=LENGTH)), 0)
    assert (meter.finished, counts(meter.usage())) == (True, (6, 2, 12, None))


def test_whole_replies_add_up() -> None:
    assert counts(reply([said(5), said(6)], choices=2).usage()) == (6, 2, 11, None)
    assert counts(reply([said(5), said(6, prompt_tokens=3)], prompts=2).usage()) == (9, 4, 11, None)
    assert (reply(said(5)).response_id, reply(said(5)).response_model) == ("s-1", None)


def test_an_error_fails_the_stream() -> None:
    meter = stream(said(5), {"error": {"message": "x"}}, said(6))
    assert (meter.failed, counts(meter.usage())[2]) == (True, 6)


BROKEN: dict[str, Any] = {
    "true for a count": said(9, completion_tokens=True), "a text for a count": said(9, completion_tokens="9"), "a negative count": said(-1),
    "an absurd count": said(2**60), "no count": said(9, completion_tokens=None), "a smaller one": said(3),
    "no meta_info": {"text": "x"}, "another kind of it": {"text": "x", "meta_info": [5]}, "null": None, "a number": 5,
    "a text that is none": said(5) | {"text": 5}, "an index that is none": said(5) | {"index": "a"},
}  # fmt: skip


@pytest.mark.parametrize("event", BROKEN.values(), ids=BROKEN)
def test_a_broken_event_costs_no_count(event: Any) -> None:
    meter = stream(said(5))
    assert meter.see(msgspec.json.encode(event), 0) is Edit.KEEP
    assert counts(meter.usage()) == (6, 2, 5, None)


@pytest.mark.parametrize("body", [b"", b"null", b"\xff", b"{", b"[5]", b"[]", b"[" * 100_000])
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    assert SglangReplyMeter(body).usage() == TokenUsage()


def test_the_corpus_yields_its_counts(subtests: pytest.Subtests) -> None:
    for case in corpus("sglang.generate"):
        with subtests.test(case["name"]):
            usage = metered(case, SglangStreamMeter(), SglangReplyMeter(case["raw"].encode()))
            assert found(case, usage) == expected(case)
