"""Forms with audio and texts to speak are understood as far as metering must, and changed least."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Call
from billing.tokens.dialects.openai_audio import SpeechCall, SpeechToTextCall
from billing.tokens.engines import ENGINES, OPENAI, VLLM
from billing.tokens.fixed import UnstreamedMeter
from billing.tokens.multipart import form_of
from billing.tokens.operation import Framing, Operation
from billing.tokens.usage import Part
from tests.openai_kit import FORM, call_of, form

TRANSCRIPTIONS, TRANSLATIONS, SPEECH = (
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
)
SOUND = b"\xff\xf3 some sound \r\n--"


def call(path: str = TRANSCRIPTIONS, **fields: str) -> SpeechToTextCall:
    texts = [(name, value.encode(), None) for name, value in ({"model": "tiny"} | fields).items()]
    got = call_of(path, FORM, form(*texts, ("file", SOUND, "a.mp3")))
    assert isinstance(got, SpeechToTextCall)
    return got


@pytest.mark.parametrize(
    ("path", "operation"),
    [(TRANSCRIPTIONS, Operation.TRANSCRIPTIONS), (TRANSLATIONS, Operation.TRANSLATIONS)],
)
def test_a_plain_form(path: str, operation: Operation) -> None:
    got = call(path)
    assert (got.operation, got.path, got.model, got.stream, got.content_type) == (
        operation,
        path,
        "tiny",
        False,
        FORM,
    )
    assert (got.framing, got.replies_json, got.units(), got.seconds) == (Framing.SSE, True, {}, None)
    assert got.prompt_bytes() == len("tiny")
    assert got.upstream_body(VLLM, "tiny", stream=False) is got.body


def test_what_a_client_asks_for() -> None:
    got = call(
        stream="true",
        response_format="vtt",
        user="ada",
        max_completion_tokens="9",
        stream_include_usage="True",
    )
    assert (got.stream, got.replies_json, got.end_user, got.output_bound(1000)) == (True, False, "ada", 9)
    assert (got.wish.usage, got.wish.continuous_usage) == (True, False)


def fields(body: bytes) -> dict[str, str | None]:
    got = form_of(FORM, body)
    assert bytes(got.file("file") or b"") == SOUND
    return {field.name: got.text(field.name) for field in got.fields if not field.is_file}


def test_the_form_takes_the_backends_name() -> None:
    assert fields(call().upstream_body(OPENAI, "org/tiny", stream=False)) == {"model": "org/tiny"}


def test_a_stream_asks_for_its_counts_where_the_engine_takes_that() -> None:
    streamed = call(stream="True", stream_include_usage="true")
    assert fields(streamed.upstream_body(VLLM, "tiny", stream=True)) == {
        "model": "tiny", "stream": "True", "stream_include_usage": "true", "stream_continuous_usage_stats": "true",
    }  # fmt: skip
    assert streamed.upstream_body(OPENAI, "tiny", stream=True) is streamed.body
    assert fields(call().upstream_body(VLLM, "tiny", stream=True))["stream"] == "true"
    assert not [
        engine for engine in ENGINES.values() if engine.form_stream_fields and not engine.continuous_usage
    ]


def test_the_file_says_how_long_it_is() -> None:
    wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x08\0\0\0\x08\0\0\0\x01\0\x08\0data\x11\0\0\0" + bytes(
        17
    )
    got = call_of(TRANSCRIPTIONS, FORM, form(("model", b"tiny", None), ("file", wav, "a.wav")))
    assert isinstance(got, SpeechToTextCall)
    assert got.seconds == 3
    assert got.reply_meter(VLLM, b"hello").usage().parts[Part.SECOND].value == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(("file", SOUND, "a.mp3")), "model"),
        (form(("model", b"tiny", None)), "file"),
        (form(("model", b"tiny", None), ("file", SOUND, None)), "file"),
        (form(("model", b"tiny", None), ("file", SOUND, "a"), ("file", SOUND, "b")), "file"),
        (form(("model", b"tiny", None), ("file", SOUND, "a"), ("stream", b"1", None)), "stream"),
        (b'{"model":"tiny"}', None),
    ],
)
def test_a_form_is_refused_by_the_name_of_what_is_wrong(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        call_of(TRANSCRIPTIONS, FORM, body)
    assert refused.value.param == param


def test_a_body_that_is_no_form_is_refused() -> None:
    with pytest.raises(InvalidInput, match="multipart/form-data"):
        call_of(TRANSCRIPTIONS, model="tiny")


def speech(**members: Any) -> SpeechCall:
    got: Call = call_of(SPEECH, **({"model": "tiny", "input": "Grüße 👋", "voice": "alloy"} | members))
    assert isinstance(got, SpeechCall)
    return got


def test_a_text_to_speak_is_counted_in_characters() -> None:
    got = speech()
    assert (got.operation, got.framing, got.stream, got.replies_json) == (
        Operation.SPEECH,
        Framing.BINARY,
        False,
        False,
    )
    assert got.units() == {Part.CHARACTER: 7}
    assert isinstance(got.stream_meter(OPENAI), UnstreamedMeter)
    assert got.reply_meter(OPENAI, b"\xff\xf3").usage().parts == {}


def test_speech_as_events_is_a_stream() -> None:
    got = speech(stream_format="sse")
    assert (got.framing, got.stream) == (Framing.SSE, True)


def test_speech_goes_as_it_came_or_with_the_backends_name() -> None:
    assert speech().upstream_body(OPENAI, "tiny", stream=False) == speech().body
    assert msgspec.json.decode(speech().upstream_body(OPENAI, "org/tts", stream=False))["model"] == "org/tts"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ["a"]}, "input"),
        ({"stream_format": "wav"}, "stream_format"),
        ({"model": ""}, "model"),
    ],
)
def test_speech_is_refused_by_the_name_of_what_is_wrong(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        speech(**members)
    assert refused.value.param == param
