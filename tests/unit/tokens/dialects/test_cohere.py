"""Cohere's chat counts what the model read and wrote, whatever is billed for it."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.cohere import CohereReplyMeter, CohereStreamMeter, whole
from billing.tokens.meter import Edit
from billing.tokens.usage import Count, Part, Provenance, TokenUsage
from tests.native_kit import corpus, counts, expected, found, metered

USAGE = {
    "billed_units": {"input_tokens": 7, "output_tokens": 88, "search_units": 2},
    "tokens": {"input_tokens": 69.0, "output_tokens": 89},
    "cached_tokens": 16,
}


def reply(body: Any) -> TokenUsage:
    return CohereReplyMeter(msgspec.json.encode(body)).usage()


def stream(*events: Any) -> CohereStreamMeter:
    meter = CohereStreamMeter()
    for number, event in enumerate(events):
        meter.see(event if isinstance(event, bytes) else msgspec.json.encode(event), 100 * number)
    return meter


def says(**content: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": content}}}


@pytest.mark.parametrize(
    ("where", "body"), [("usage", {"id": "c", "usage": USAGE}), ("meta", {"response_id": "c", "meta": USAGE})]
)
def test_both_versions_are_counted_by_their_tokens(where: str, body: dict[str, Any]) -> None:
    usage = reply(body)
    assert counts(usage) == (69, 16, 89, None)
    assert usage.output == Count(89, Provenance.REPORTED, f"{where}.tokens.output_tokens")
    assert usage.parts == {Part.SEARCH: Count(2, Provenance.REPORTED, f"{where}.billed_units.search_units")}
    assert CohereReplyMeter(msgspec.json.encode(body)).response_id == "c"


def test_billed_units_stand_in_where_tokens_are_missing() -> None:
    usage = reply(
        {"usage": {"billed_units": {"input_tokens": 7, "output_tokens": 88}, "tokens": {"output_tokens": 89}}}
    )
    assert counts(usage) == (7, None, 89, None)
    assert usage.input.method == "usage.billed_units.input_tokens"


def test_a_number_with_a_fraction_counts_whole() -> None:
    assert [whole(value) for value in (None, 5.0, 5.1, float("inf"), float("nan"))] == [
        None,
        5,
        6,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usage": None},
        {"usage": 5},
        {"usage": {"tokens": {"input_tokens": "7"}}},
        {"usage": {"tokens": {"input_tokens": -1}}},
    ],
)
def test_what_is_not_said_is_unknown(body: dict[str, Any]) -> None:
    assert counts(reply(body)) == (None, None, None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    meter = CohereReplyMeter(body)
    assert (meter.usage(), meter.response_id, meter.response_model) == (TokenUsage(), None, None)


def test_a_stream_is_counted_by_its_last_event() -> None:
    start = {
        "type": "message-start",
        "id": "c",
        "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}},
    }
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}}
    meter = stream(start, says(thinking="t"), says(text="a"), says(text="b"))
    assert (counts(meter.usage()), meter.finished, meter.response_id) == ((None,) * 4, False, "c")
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us) == (100, 200, 300)
    meter = stream(start, says(text="a"), end)
    assert (counts(meter.usage()), meter.finished, meter.done, meter.failed) == (
        (69, 16, 89, None),
        True,
        False,
        False,
    )
    assert stream(start, end, b"[DONE]").done


def test_the_first_version_ends_with_the_whole_reply() -> None:
    meter = stream(
        {"event_type": "stream-start", "generation_id": "g"}, {"event_type": "text-generation", "text": "a"},
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"response_id": "r", "meta": USAGE}},
    )  # fmt: skip
    assert (counts(meter.usage()), meter.finished, meter.first_answer_us) == ((69, 16, 89, None), True, 100)


def test_a_tool_call_is_an_answer_and_an_error_a_failure() -> None:
    assert (
        stream({"type": "tool-call-start", "delta": {"message": {"tool_calls": {"id": "x"}}}}).first_answer_us
        == 0
    )
    assert stream({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "x"}}).failed


@pytest.mark.parametrize(
    "data", [b"", b"null", b"5", b"{", b'{"delta":5,"usage":[]}', b'{"type":7,"delta":{"usage":"x"}}']
)
def test_noise_passes_and_changes_no_count(data: bytes) -> None:
    meter = stream({"type": "message-end", "delta": {"usage": USAGE}})
    assert meter.see(data, 0) is Edit.KEEP
    assert counts(meter.usage()) == (69, 16, 89, None)


def test_the_corpus_yields_its_counts(subtests: pytest.Subtests) -> None:
    for case in corpus("cohere.chat"):
        with subtests.test(case["name"]):
            usage = metered(case, CohereStreamMeter(), CohereReplyMeter(case["raw"].encode()))
            assert found(case, usage) == expected(case)
