"""Transcriptions and speech are counted in tokens or seconds, whichever the reply says, streamed and whole."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.call import Call
from billing.tokens.dialects.openai_audio_meter import AudioReplyMeter, AudioStreamMeter, or_length
from billing.tokens.dialects.openai_text_meter import Wish
from billing.tokens.engines import LLAMA_CPP, OPENAI, VLLM, Engine
from billing.tokens.operation import Operation
from billing.tokens.usage import Count, Part, Provenance, TokenUsage
from tests.openai_kit import FORM, call_of, cases, events, fed, form, mismatches

TRANSCRIPTIONS, TRANSLATIONS, SPEECH = (
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
)


def call(path: str = TRANSCRIPTIONS, **fields: str) -> Call:
    texts = [
        (name, value.encode(), None) for name, value in ({"model": "tiny", "stream": "true"} | fields).items()
    ]
    return call_of(path, FORM, form(*texts, ("file", b"sound", "a.mp3")))


def values(usage: TokenUsage) -> dict[str, int | None]:
    return {"input": usage.input.value, "output": usage.output.value} | {
        part.value: count.value for part, count in usage.parts.items()
    }


def test_the_corpus() -> None:
    asked = {
        "openai.audio.transcriptions": call(), "openai.audio.translations": call(TRANSLATIONS),
        "openai.audio.speech": call_of(SPEECH, model="tiny", input="hi", stream_format="sse"),
    }  # fmt: skip
    for dialect, made in asked.items():
        for case in cases(dialect):
            if case.stream:
                relay, out = fed(made, case.engine, [case.raw])
                usage = relay.meter.usage()
                assert (out + relay.terminal, relay.meter.done) == (case.raw, True)
            else:
                usage = made.reply_meter(case.engine, case.raw).usage()
            assert mismatches(usage, case.expect) == {}, case.name


TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 45,
    "total_tokens": 59,
    "input_token_details": {"audio_tokens": 12},
}
DELTA = {"type": "transcript.text.delta", "delta": "a"}
DONE = {"type": "transcript.text.done", "text": "a b", "usage": TOKENS}


@pytest.mark.parametrize("engine", [OPENAI, LLAMA_CPP])
def test_the_last_event_carries_the_usage_and_ends_the_stream(engine: Engine) -> None:
    body = events(DELTA, DELTA, DONE)
    relay, out = fed(call(), engine, [body[:70], body[70:]])
    assert out + relay.terminal == body
    assert relay.terminal == events(DONE)
    assert values(relay.meter.usage()) == {"input": 14, "output": 45, "audio_input": 12}
    assert (relay.meter.first_token_us, relay.meter.last_token_us, relay.meter.done) == (1, 1, True)


def test_segments_of_speakers_are_spoken_and_an_error_fails() -> None:
    relay, _ = fed(call(), OPENAI, [events({"type": "transcript.text.segment", "text": "a"})])
    assert (relay.meter.first_answer_us, relay.meter.failed, relay.meter.done) == (0, False, False)
    assert relay.meter.usage() == TokenUsage()
    relay, _ = fed(call(), OPENAI, [events({"type": "error", "message": "no"})])
    assert relay.meter.failed


def test_speech_as_events() -> None:
    done = {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 3, "output_tokens": 50, "total_tokens": 53},
    }
    body = events({"type": "speech.audio.delta", "audio": "AAAA"}, done)
    relay, out = fed(call_of(SPEECH, model="tiny", input="hi", stream_format="sse"), OPENAI, [body])
    assert out + relay.terminal == body
    assert values(relay.meter.usage()) == {"input": 3, "output": 50}
    assert relay.meter.first_answer_us == 0


def chunk(**members: Any) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(
        {"id": "trsc-1", "object": "transcription.chunk", "model": "m"} | members
    )


def usage(completion: int) -> dict[str, int]:
    return {"prompt_tokens": 30, "completion_tokens": completion, "total_tokens": 30 + completion}


CHUNKS = [
    chunk(choices=[{"delta": {"content": "a"}}], usage=usage(1)),
    chunk(choices=[{"delta": {"content": " b"}, "finish_reason": "stop"}], usage=usage(3)),
    chunk(choices=[], usage=usage(4)),
    b"data: [DONE]\n\n",
]
BARE = [
    chunk(choices=[{"delta": {"content": "a"}}]),
    chunk(choices=[{"delta": {"content": " b"}, "finish_reason": "stop"}]),
]


def test_chunks_of_vllm_are_counted_and_what_was_injected_is_taken_out() -> None:
    relay, out = fed(call(), VLLM, [b"".join(CHUNKS)])
    assert (out, relay.terminal) == (b"".join(BARE), CHUNKS[-1])
    assert values(relay.meter.usage()) == {"input": 30, "output": 4}
    assert (relay.meter.response_id, relay.meter.finished) == ("trsc-1", True)


def test_chunks_that_break_off_have_their_running_counts() -> None:
    relay, _ = fed(call(), VLLM, CHUNKS[:1])
    assert relay.meter.usage().output == Count(1, Provenance.RUNNING, "usage.completion_tokens")


def test_a_client_that_asked_for_usage_gets_it() -> None:
    asked = {"stream_include_usage": "true"}
    relay, out = fed(call(**asked), VLLM, CHUNKS)
    assert out + relay.terminal == b"".join([*BARE, *CHUNKS[2:]])
    relay, out = fed(call(**asked, stream_continuous_usage_stats="true"), VLLM, CHUNKS)
    assert out + relay.terminal == b"".join(CHUNKS)


def whole(**members: Any) -> dict[str, int | None]:
    return values(AudioReplyMeter(msgspec.json.encode(members)).usage())


def test_whole_replies() -> None:
    nothing = {"input": None, "output": None}
    assert whole(text="a", usage=TOKENS) == {"input": 14, "output": 45, "audio_input": 12}
    assert whole(text="a", usage={"type": "duration", "seconds": 6.1}) == nothing | {"second": 7}
    assert whole(text="a", duration=8.47, segments=[]) == nothing | {"second": 9}
    assert whole(text="a", duration="8.47") == nothing | {"second": 9}
    assert whole(text="a", duration=8.47, usage={"type": "duration", "seconds": 9}) == nothing | {"second": 9}
    assert whole(text="a", duration=8.47, usage=TOKENS)["input"] == 14
    assert whole(text="a") == nothing
    assert whole(text="a", duration=[], usage={"seconds": True}) == nothing


def test_the_length_of_the_file_stands_where_the_reply_says_nothing() -> None:
    length = Count(5, Provenance.ESTIMATED, "the length that the audio file says, rounded up")
    for body in (b"WEBVTT\n\n", b'{"text":"a"}', b"", b"\xff{"):
        assert AudioReplyMeter(body, 5).usage().parts == {Part.SECOND: length}
    assert AudioReplyMeter(b'{"duration":8}', 5).usage().parts[Part.SECOND].value == 8
    assert AudioReplyMeter(msgspec.json.encode({"usage": TOKENS}), 5).usage().parts.keys() == {
        Part.AUDIO_INPUT
    }
    assert or_length(TokenUsage(), None) == TokenUsage()
    meter = AudioStreamMeter(VLLM, Operation.TRANSCRIPTIONS, Wish(), 5)
    assert meter.usage().parts == {Part.SECOND: length}


@given(
    st.lists(st.integers(0, 2000), max_size=6),
    st.sampled_from([b"", b": ping\n\n", b"data: null\n\n", b"data: {\n\n"]),
)
def test_reads_cut_anywhere_and_noise_change_nothing(offsets: list[int], noise: bytes) -> None:
    for engine, parts, seen, output in (
        (VLLM, CHUNKS, [*BARE, CHUNKS[-1]], 4),
        (OPENAI, [events(DELTA), events(DONE)], [events(DELTA), events(DONE)], 45),
    ):
        body = b"".join(noise + part for part in parts)
        edges = [0, *sorted(min(offset, len(body)) for offset in offsets), len(body)]
        relay, out = fed(call(), engine, [body[a:b] for a, b in pairwise(edges)])
        assert (out + relay.terminal).replace(noise, b"") == b"".join(seen)
        assert relay.meter.usage().output.value == output


@given(st.binary(max_size=80) | st.text(alphabet='{}[]":,type.done0-1ea \n', max_size=60).map(str.encode))
def test_no_payload_breaks_a_meter(data: bytes) -> None:
    meter = AudioStreamMeter(VLLM, Operation.TRANSCRIPTIONS, Wish(), None)
    meter.strip(data)
    meter.see(data, 0)
    assert repr(meter)
    assert repr(AudioReplyMeter(data))
