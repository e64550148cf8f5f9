"""OpenAI's ``/v1/audio/…``: transcriptions and translations, which are forms, and speech (openai-openapi; protocols.md §5)."""

from billing.errors import InvalidInput
from billing.tokens import multipart
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.openai_audio_length import seconds_of
from billing.tokens.dialects.openai_audio_meter import AudioReplyMeter, AudioStreamMeter
from billing.tokens.dialects.openai_text_meter import Wish
from billing.tokens.engines import Engine
from billing.tokens.fixed import UnstreamedMeter
from billing.tokens.members import Members, end_user_of, members_of, model_of, text_of, with_members
from billing.tokens.meter import StreamMeter
from billing.tokens.multipart import Form, form_of
from billing.tokens.operation import Dialect, Framing
from billing.tokens.usage import Part

_TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
"""Replies in these are no JSON, and say nothing of what they used."""
_STREAM_FORMATS = ("audio", "sse")


class SpeechToTextCall(Call, frozen=True, kw_only=True):
    """One transcription or translation of an audio file."""

    form: Form
    wish: Wish
    """What the client itself asked to be told in a stream."""
    seconds: int | None = None
    """How long the file says it is, where that can be read."""

    def prompt_bytes(self) -> int:
        """Bytes of text in the request: a file's are no measure of its tokens."""
        return self.form.size_of_texts()

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The form to send: as it came where nothing must change, else with those fields written anew."""
        wanted = {"model": backend_model}
        if stream:
            wanted |= {"stream": "true"} | engine.form_stream_fields
        changes = {name: text for name, text in wanted.items() if not _says(self.form, name, text)}
        return self.form.with_texts(changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> AudioStreamMeter:
        """What follows the streamed reply."""
        return AudioStreamMeter(engine, self.operation, self.wish, self.seconds)

    def reply_meter(self, engine: Engine, body: bytes) -> AudioReplyMeter:  # noqa: ARG002 - the reply's shape tells the engine
        """What reads the whole reply."""
        return AudioReplyMeter(body, self.seconds)


class SpeechCall(Call, frozen=True, kw_only=True):
    """One text to speak."""

    members: Members
    characters: int

    def units(self) -> dict[Part, int]:
        """Characters to speak."""
        return {Part.CHARACTER: self.characters}

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - nothing is asked for
        """The body to send: as it came, or with the model's name."""
        if backend_model == self.model:
            return self.body
        return with_members(self.members, {"model": backend_model})

    def stream_meter(self, engine: Engine) -> StreamMeter:
        """What follows the audio as it comes, or its events."""
        if self.framing is Framing.BINARY:
            return UnstreamedMeter()
        return AudioStreamMeter(engine, self.operation, Wish(), None)

    def reply_meter(self, engine: Engine, body: bytes) -> AudioReplyMeter:  # noqa: ARG002 - the reply's shape tells the engine
        """What reads the whole reply."""
        return AudioReplyMeter(body)


def parse(asked: Asked) -> SpeechToTextCall:
    """The call of a form with an audio file; raises ``InvalidInput`` that names the field and says what to write."""
    form = form_of(asked.content_type, asked.body)
    file = form.file("file")
    if file is None:
        raise InvalidInput("you must provide file, with a filename", "file")
    return SpeechToTextCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        content_type=form.content_type,
        model=multipart.model_of(form),
        stream=multipart.flag(form, "stream"),
        replies_json=form.text("response_format") not in _TEXT_FORMATS,
        output_max=multipart.whole_number(form, "max_completion_tokens"),
        end_user=end_user_of(form.text("user")),
        form=form,
        wish=Wish(
            usage=multipart.flag(form, "stream_include_usage"),
            continuous_usage=multipart.flag(form, "stream_continuous_usage_stats"),
        ),
        seconds=seconds_of(file),
    )


def parse_speech(asked: Asked) -> SpeechCall:
    """The call of a text to speak; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    model = model_of(members)
    text = text_of(members, "input")
    if text is None:
        raise InvalidInput("you must provide input", "input")
    stream_format = text_of(members, "stream_format") or "audio"
    if stream_format not in _STREAM_FORMATS:
        raise InvalidInput("stream_format must be audio or sse", "stream_format")
    return SpeechCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        model=model,
        stream=stream_format == "sse",
        framing=Framing.SSE if stream_format == "sse" else Framing.BINARY,
        replies_json=False,
        end_user=end_user_of(text_of(members, "user")),
        members=members,
        characters=len(text),
    )


def _says(form: Form, name: str, text: str) -> bool:
    """Whether the form says this already."""
    said = form.text(name)
    return said == text or (said or "").lower() == text == "true"
