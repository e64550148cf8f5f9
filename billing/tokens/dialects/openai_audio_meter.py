"""Counts the replies of transcriptions, translations and speech, streamed and whole (protocols.md §2, §5).

Streams come in two shapes: OpenAI's and llama.cpp's events with a ``type``, the last with the usage, and vLLM's chunks in
the shape of a chat's.
"""

import msgspec

from billing.tokens.dialects.openai_text_meter import TextStreamMeter, Wish
from billing.tokens.dialects.openai_usage import Usage, known, seconds_count, usage_of
from billing.tokens.engines import Engine
from billing.tokens.meter import Edit, ReplyMeter
from billing.tokens.operation import Operation
from billing.tokens.salvage import is_said, read
from billing.tokens.usage import Count, Part, Provenance, TokenUsage, clamp

_TERMINAL = frozenset({"transcript.text.done", "speech.audio.done"})
_SPOKEN = (".delta", ".segment")


class Event(msgspec.Struct, frozen=True):
    """One event of OpenAI's shape, as far as it is read."""

    type: str | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


class Reply(msgspec.Struct, frozen=True):
    """A whole reply: ``json``, ``verbose_json`` or ``diarized_json``."""

    usage: Usage | None = None
    duration: float | str | None = None


_EVENT = msgspec.json.Decoder(Event)
_REPLY = msgspec.json.Decoder(Reply)


def or_length(usage: TokenUsage, seconds: int | None) -> TokenUsage:
    """The same usage; where it holds neither tokens nor seconds, those that the audio file says."""
    told = usage.input.value is not None or usage.output.value is not None or Part.SECOND in usage.parts
    if told or seconds is None:
        return usage
    length = Count(seconds, Provenance.ESTIMATED, "the length that the audio file says, rounded up")
    return msgspec.structs.replace(usage, parts=usage.parts | {Part.SECOND: length})


class AudioStreamMeter(TextStreamMeter):
    """Follows a stream of ``transcript.…`` or ``speech.…`` events, or of vLLM's ``transcription.chunk``."""

    __slots__ = ("_final", "_seconds")

    def __init__(self, engine: Engine, operation: Operation, wish: Wish, seconds: int | None) -> None:
        super().__init__(engine, operation, 1, 1, wish)
        self._final: TokenUsage | None = None
        self._seconds = seconds

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        event = read(_EVENT, data)
        if event is None or not event.type:
            return super().see(data, now_us)
        if event.type == "error" or is_said(event.error):
            self.failed = True
        if event.type.endswith(_SPOKEN):
            self.spoke(now_us, answer=True)
        if event.usage is not None and not event.usage.empty:
            self._final = usage_of(event.usage)
        if event.type in _TERMINAL:
            self.finished = self.done = True
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """The counts as known now: the last event's, else the running ones, else the length of the file."""
        usage = super().usage() if self._final is None else clamp(self._final)
        return or_length(usage, self._seconds)


class AudioReplyMeter(ReplyMeter):
    """Reads one whole reply. Audio, plain text and subtitles say nothing of what they used; ``seconds`` is the file's length."""

    __slots__ = ("_reply", "_seconds")

    response_id = None
    response_model = None

    def __init__(self, body: bytes, seconds: int | None = None) -> None:
        self._reply = (read(_REPLY, body) if body.lstrip()[:1] == b"{" else None) or Reply()
        self._seconds = seconds

    def usage(self) -> TokenUsage:
        """Tokens or seconds of the usage, else the ``duration`` of a verbose reply, else the length of the file."""
        reported = self._reply.usage
        if reported is not None and not reported.empty:
            return or_length(clamp(usage_of(reported)), self._seconds)
        parts = known({Part.SECOND: seconds_count(self._reply.duration, "duration")})
        return or_length(TokenUsage(parts=parts), self._seconds)
