"""A recorded realtime session used the sum of its responses; what transcribed its caller is counted apart."""

from typing import Any

import msgspec

from billing.tokens.dialects.openai_realtime import session_usage, transcription_usage
from billing.tokens.usage import Part, TokenUsage
from tests.openai_kit import cases, mismatches


def done(number: str | None, **usage: Any) -> bytes:
    return msgspec.json.encode({"type": "response.done", "response": {"id": number, "usage": usage or None}})


def transcribed(item: str | None, **usage: Any) -> bytes:
    kind = "conversation.item.input_audio_transcription.completed"
    return msgspec.json.encode({"type": kind, "item_id": item, "content_index": 0, "usage": usage})


def test_the_corpus() -> None:
    for case in cases("openai.realtime"):
        assert mismatches(session_usage(case.raw.splitlines()), case.expect) == {}, case.name
    for case in cases("openai.realtime.transcription"):
        assert mismatches(transcription_usage(case.raw.splitlines()), case.expect) == {}, case.name


FIRST = done(
    "r1", input_tokens=60, output_tokens=20, input_token_details={"cached_tokens": 0, "audio_tokens": 5}
)
SECOND = done(
    "r2", input_tokens=100, output_tokens=15, input_token_details={"cached_tokens": 64, "audio_tokens": 7}
)


def test_each_response_of_a_session_counts_once() -> None:
    got = session_usage([b"null", b"{", FIRST, b'{"type":"response.created"}', SECOND, FIRST])
    assert (got.input.value, got.cached_input.value, got.output.value) == (160, 64, 35)
    assert got.parts[Part.AUDIO_INPUT].value == 12


def test_responses_without_an_id_are_not_taken_for_one_another() -> None:
    nameless = done(None, input_tokens=2, output_tokens=1)
    assert session_usage([nameless, nameless]).input.value == 4


def test_a_response_that_says_nothing_makes_the_sum_unknown() -> None:
    assert session_usage([FIRST, done("r3")]).output.value is None
    assert session_usage([]) == TokenUsage()


def test_transcriptions_in_tokens_or_seconds() -> None:
    tokens = [
        transcribed("a", type="tokens", input_tokens=3, output_tokens=2),
        transcribed("b", input_tokens=4, output_tokens=1),
    ]
    assert transcription_usage([*tokens, tokens[0]]).input.value == 7
    seconds = [
        transcribed("a", type="duration", seconds=1.5),
        transcribed(None, seconds=2),
        transcribed(None, seconds=2),
    ]
    assert transcription_usage(seconds).parts[Part.SECOND].value == 6
    assert transcription_usage([FIRST]) == TokenUsage()
