"""Messages, their events and their usage objects in Anthropic's shapes, typed: one decode each, lenient where engines are not exact.

Shapes: Anthropic's SDK ``types/beta`` (``beta_usage``, ``beta_message_delta_usage``, ``beta_*_iteration_usage``,
``beta_server_tool_usage``), and what llama.cpp, vLLM, SGLang and Ollama send of them (protocols.md §2–§5). A number that
no request can use (negative, above ``COUNT_MAX``, ``true``, a fraction) is taken as missing.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from billing.tokens.salvage import loads
from billing.tokens.usage import COUNT_MAX

Number = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class CacheCreation(msgspec.Struct, frozen=True):
    """``cache_creation``: the written cache by how long it lives."""

    ephemeral_5m_input_tokens: Number | None = None
    ephemeral_1h_input_tokens: Number | None = None

    @property
    def total(self) -> int | None:
        """Both together; None when it names neither."""
        return known_sum(self.ephemeral_5m_input_tokens, self.ephemeral_1h_input_tokens)


class Counted(msgspec.Struct, frozen=True):
    """What a whole reply and each of its iterations are counted by. ``input_tokens`` is without what a cache read or wrote."""

    input_tokens: Number | None = None
    output_tokens: Number | None = None
    cache_read_input_tokens: Number | None = None
    cache_creation_input_tokens: Number | None = None
    cache_creation: CacheCreation | None = None

    @property
    def cache_written(self) -> int | None:
        """All written cache; None when nothing is said of it."""
        if self.cache_creation_input_tokens is not None or self.cache_creation is None:
            return self.cache_creation_input_tokens
        return self.cache_creation.total

    @property
    def input_total(self) -> int | None:
        """The whole prompt; None when it is not told, or told as 0, which no prompt has: then nobody counted."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cache_written or 0) + (self.cache_read_input_tokens or 0) or None

    @property
    def tells_no_input(self) -> bool:
        """Whether the input is a 0 in the place of a number: vLLM, SGLang and Ollama write it when they have none."""
        return self.input_tokens == 0 and self.input_total is None


class Iteration(Counted, frozen=True):
    """One row of ``usage.iterations``: a pass of a model inside one reply."""

    type: str | None = None
    model: str | None = None


class OutputDetails(msgspec.Struct, frozen=True):
    """``output_tokens_details``."""

    thinking_tokens: Number | None = None


class ServerToolUse(msgspec.Struct, frozen=True):
    """``server_tool_use``: what the engine did for the answer."""

    web_search_requests: Number | None = None
    web_fetch_requests: Number | None = None

    @property
    def total(self) -> int | None:
        """Searches and fetches; None when it names neither."""
        return known_sum(self.web_search_requests, self.web_fetch_requests)


class Usage(Counted, frozen=True):
    """``usage`` of a whole message, of ``message_start`` and of ``message_delta``."""

    output_tokens_details: OutputDetails | None = None
    server_tool_use: ServerToolUse | None = None
    iterations: list[Iteration] | None = None


class Block(msgspec.Struct, frozen=True):
    """A block of content, whole or as a stream begins it."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class Delta(msgspec.Struct, frozen=True):
    """What an event adds to a block, or says at the end of a message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    content: str | None = None
    """Of a ``compaction_delta``."""
    stop_reason: str | None = None


class Message(msgspec.Struct, frozen=True):
    """A whole reply, or what ``message_start`` says of it."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: Usage | None = None


class Event(msgspec.Struct, frozen=True):
    """One event of a stream."""

    type: str | None = None
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Usage | None = None
    error: Any = None

    @property
    def is_error(self) -> bool:
        """Whether it is an error: Anthropic's ``{"type": "error"}``, OpenAI's ``{"error"}``, or llama.cpp's bare ``{"type": "…_error"}``."""
        return bool(self.error) or (self.type or "").endswith("error")


class Told(msgspec.Struct, frozen=True):
    """The reply of ``count_tokens``."""

    input_tokens: Number | None = None


_Shape = TypeVar("_Shape", bound=msgspec.Struct)
_event = msgspec.json.Decoder(Event).decode
_message = msgspec.json.Decoder(Message).decode
_told = msgspec.json.Decoder(Told).decode


def decode_event(data: bytes) -> Event | None:
    """The event that JSON text holds; None when it is no JSON object. What does not fit is taken as missing."""
    return _lenient(Event, _event, data)


def decode_message(body: bytes) -> Message | None:
    """The whole reply that JSON text holds; None when it is no JSON object. What does not fit is taken as missing."""
    return _lenient(Message, _message, body)


def decode_told(body: bytes) -> Told | None:
    """The number that ``count_tokens`` tells."""
    return _lenient(Told, _told, body)


def known_sum(*values: int | None) -> int | None:
    """The sum of what is known of several numbers; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def replaced(earlier: Usage | None, present: Usage) -> Usage:
    """The same usage with each field that a later one tells in the place of it (protocols.md §5).

    A later input that is a 0 for want of a number replaces nothing.
    """
    if earlier is None:
        return present
    if present.tells_no_input:
        present = msgspec.structs.replace(
            present,
            input_tokens=None,
            cache_read_input_tokens=None,
            cache_creation_input_tokens=None,
            cache_creation=None,
        )
    return _combined(earlier, present, _later)


def advanced(earlier: Usage | None, present: Usage) -> Usage:
    """What several ``message_delta`` say: cumulative, so no number goes down and a missing one erases none."""
    return present if earlier is None else _combined(earlier, present, max)


def _later(_earlier: int, present: int) -> int:
    return present


def _combined(earlier: _Shape, present: _Shape, number: Callable[[int, int], int]) -> _Shape:
    return msgspec.structs.replace(
        earlier,
        **{
            name: _either(getattr(earlier, name), getattr(present, name), number)
            for name in present.__struct_fields__
        },
    )


def _either(earlier: Any, present: Any, number: Callable[[int, int], int]) -> Any:
    if earlier is None or present is None:
        return earlier if present is None else present
    if isinstance(present, int):
        return number(earlier, present)
    return _combined(earlier, present, number) if isinstance(present, msgspec.Struct) else present


def _lenient(shape: type[_Shape], decode: Callable[[bytes], _Shape], data: bytes) -> _Shape | None:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A tool's input is JSON inside the reply, nested as deep as the model was told to: its usage stands beside it.
        whole = loads(data)
    return _fitted(shape, whole) if isinstance(whole, dict) else None


def _fitted(shape: type[_Shape], whole: dict[str, Any]) -> _Shape:
    """A shape of those members that fit their types; the others keep their defaults."""
    return shape(
        **{
            field.name: _fit(field.type, whole[field.name])
            for field in msgspec.structs.fields(shape)
            if field.name in whole
        }
    )


def _fit(kind: Any, value: object) -> Any:
    """The value as that type of field, None when it is of another."""
    if kind is Any:
        return value
    kind = get_args(kind)[0]
    if isinstance(value, str):
        return value.encode(errors="replace").decode() if kind is str else None
    if isinstance(value, dict):
        return _fitted(kind, value) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
    if isinstance(value, list):
        row = get_args(kind)[0] if get_origin(kind) is list else None
        return [_fitted(row, each) for each in value if isinstance(each, dict)] if row else None
    if get_origin(kind) is not Annotated or not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= COUNT_MAX else None
