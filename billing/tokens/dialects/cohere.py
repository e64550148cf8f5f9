"""Cohere's chat replies, first and second version: parsed for their usage, not proxied (Cohere's API reference, ``v2/chat``).

Two counts are reported: ``tokens``, all that the model read and wrote, the template with it, and ``billed_units``, what
Cohere asks money for. Usage is the first; the second stands in only where the first is missing. Cohere types all of them as
numbers with a fraction.
"""

import math
from typing import Any

import msgspec

from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.salvage import read
from billing.tokens.sse import DONE
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage, clamp


class BilledUnits(msgspec.Struct, frozen=True):
    """What Cohere asks money for."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    search_units: float | None = None


class Tokens(msgspec.Struct, frozen=True):
    """What the model read and wrote."""

    input_tokens: float | None = None
    output_tokens: float | None = None


class CohereUsage(msgspec.Struct, frozen=True):
    """``usage`` of the second version, ``meta`` of the first."""

    billed_units: BilledUnits | None = None
    tokens: Tokens | None = None
    cached_tokens: float | None = None


class Text(msgspec.Struct, frozen=True):
    """What a delta adds: only whether there is text matters."""

    text: str | None = None
    thinking: str | None = None


class Message(msgspec.Struct, frozen=True):
    """The message of a delta."""

    content: Text | None = None
    tool_plan: str | None = None
    tool_calls: Any = None


class Delta(msgspec.Struct, frozen=True):
    """What an event adds, or at the end what was used."""

    message: Message | None = None
    usage: CohereUsage | None = None
    error: Any = None


class ChatReply(msgspec.Struct, frozen=True):
    """A whole reply, or one event of a stream."""

    id: str | None = None
    response_id: str | None = None
    type: str | None = None
    event_type: str | None = None
    text: str | None = None
    delta: Delta | None = None
    usage: CohereUsage | None = None
    meta: CohereUsage | None = None
    response: "ChatReply | None" = None
    """The first version ends its stream with the whole reply."""

    @property
    def name(self) -> str | None:
        """The reply's id."""
        return self.id or self.response_id


_decoder = msgspec.json.Decoder(ChatReply)
_TEXTS = frozenset({"text-generation", "tool-calls-chunk", "tool-calls-generation"})
_ENDS = frozenset({"message-end", "stream-end"})


def whole(value: float | None) -> int | None:
    """A number of the API as a count, a fraction counted whole; None when it is none."""
    return math.ceil(value) if value is not None and math.isfinite(value) else None


def usage_of(usage: CohereUsage, where: str) -> TokenUsage:
    """The counts of a usage object that stands at ``where``."""
    tokens, billed = usage.tokens or Tokens(), usage.billed_units or BilledUnits()
    searches = _reported(billed.search_units, f"{where}.billed_units.search_units")
    return clamp(
        TokenUsage(
            input=_first(tokens.input_tokens, billed.input_tokens, where, "input_tokens"),
            cached_input=_reported(usage.cached_tokens, f"{where}.cached_tokens"),
            output=_first(tokens.output_tokens, billed.output_tokens, where, "output_tokens"),
            parts={} if searches.value is None else {Part.SEARCH: searches},
        )
    )


def _first(tokens: float | None, billed: float | None, where: str, name: str) -> Count:
    known = _reported(tokens, f"{where}.tokens.{name}")
    return known if known.value is not None else _reported(billed, f"{where}.billed_units.{name}")


def _reported(value: float | None, method: str) -> Count:
    number = whole(value)
    return UNKNOWN if number is None else count(number, Provenance.REPORTED, method)


def _usage_in(reply: ChatReply | None) -> TokenUsage | None:
    """The counts that a reply or event holds."""
    if reply is None:
        return None
    if reply.usage is not None:
        return usage_of(reply.usage, "usage")
    if reply.delta is not None and reply.delta.usage is not None:
        return usage_of(reply.delta.usage, "delta.usage")
    return usage_of(reply.meta, "meta") if reply.meta is not None else _usage_in(reply.response)


class CohereReplyMeter(ReplyMeter):
    """Reads one whole chat reply."""

    __slots__ = ("_reply",)

    def __init__(self, body: bytes) -> None:
        self._reply = read(_decoder, body)

    @property
    def response_id(self) -> str | None:
        """The engine's id of the reply."""
        return self._reply.name if self._reply else None

    @property
    def response_model(self) -> str | None:
        """It does not say."""
        return None

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        return _usage_in(self._reply) or TokenUsage()


class CohereStreamMeter(StreamMeter):
    """Follows a chat stream: its last event holds the usage, and ``[DONE]`` may follow."""

    __slots__ = ("_usage",)

    def __init__(self) -> None:
        super().__init__()
        self._usage = TokenUsage()

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; the client sees all of it."""
        if data == DONE:
            self.done = True
            return Edit.KEEP
        event = read(_decoder, data)
        if event is None:
            return Edit.KEEP
        self.response_id = self.response_id or event.name
        self._usage = _usage_in(event) or self._usage
        kind = event.type or event.event_type
        if kind in _ENDS:
            self.finished = True
            self.failed = event.delta is not None and bool(event.delta.error)
        if kind in _TEXTS:
            self.spoke(now_us, answer=True)
        elif event.delta is not None and event.delta.message is not None:
            self._hear(event.delta.message, now_us)
        return Edit.KEEP

    def _hear(self, message: Message, now_us: int) -> None:
        content = message.content or Text()
        answers = bool(content.text or message.tool_plan or message.tool_calls)
        if answers or content.thinking:
            self.spoke(now_us, answer=answers)

    def usage(self) -> TokenUsage:
        """The counts of the end; unknown before it, for none are running."""
        return self._usage
