"""What a recorded realtime session used (openai-openapi; protocols.md §5). No route: its sockets do not pass the gateway.

Each response of a session reads the whole conversation again and says its own usage: they are added up. The transcription
of what a caller said is another model's work, with a usage of its own.
"""

from collections.abc import Iterable

import msgspec

from billing.tokens.dialects.openai_usage import Usage, summed, usage_of
from billing.tokens.salvage import read
from billing.tokens.usage import TokenUsage, clamp

RESPONSES_MAX = 100_000
"""Responses or transcriptions of one session; further ones are not taken."""
_DONE = "response.done"
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class Response(msgspec.Struct, frozen=True):
    """``response`` of a ``response.done``."""

    id: str | None = None
    usage: Usage | None = None


class Event(msgspec.Struct, frozen=True):
    """A server's event, as far as it is read."""

    type: str | None = None
    response: Response | None = None
    item_id: str | None = None
    content_index: int | None = None
    usage: Usage | None = None


_EVENT = msgspec.json.Decoder(Event)


def session_usage(events: Iterable[bytes]) -> TokenUsage:
    """The sum over the responses of a session, each once; a count that one response lacks is unknown."""
    done: dict[object, TokenUsage] = {}
    for event in _of_type(events, _DONE):
        response = event.response or Response()
        # One without an id cannot be a repetition of another.
        key = len(done) if response.id is None else response.id
        if len(done) < RESPONSES_MAX:
            done.setdefault(key, usage_of(response.usage))
    return clamp(summed(list(done.values()))) if done else TokenUsage()


def transcription_usage(events: Iterable[bytes]) -> TokenUsage:
    """The sum over the transcriptions of what the caller said, each item once: tokens or seconds of the model for it."""
    done: dict[object, TokenUsage] = {}
    for event in _of_type(events, _TRANSCRIBED):
        key = len(done) if event.item_id is None else (event.item_id, event.content_index)
        if len(done) < RESPONSES_MAX:
            done.setdefault(key, usage_of(event.usage))
    return clamp(summed(list(done.values()))) if done else TokenUsage()


def _of_type(events: Iterable[bytes], kind: str) -> Iterable[Event]:
    for data in events:
        event = read(_EVENT, data)
        if event is not None and event.type == kind:
            yield event
