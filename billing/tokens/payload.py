"""The usage objects of OpenAI-shaped replies, typed: one decode a reply or event, lenient where engines are not exact.

Shapes: OpenAI ``CompletionUsage``, vLLM 0.33 ``UsageInfo``, llama.cpp ``timings`` (protocols.md §2, §3, §5). Traps:
``true`` is an int to Python, numbers may be missing, ``usage`` may be null, ``{}`` or all zeros in mid-stream.
"""

from typing import Any

import msgspec

from billing.tokens.salvage import DIGITS_MAX, loads, members_as_written
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Part, Provenance, TokenUsage


class Multimodal(msgspec.Struct, frozen=True, gc=False):
    """vLLM's ``multimodal_tokens`` (since 0.25.1)."""

    image: int | None = None
    audio: int | None = None
    video: int | None = None


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """``prompt_tokens_details``."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    created_cache_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    video_tokens: int | None = None
    multimodal_tokens: Multimodal | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """``completion_tokens_details``."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """``usage`` of chat completions, completions and embeddings."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    reasoning_tokens: int | None = None
    """SGLang's own place for it."""

    @property
    def empty(self) -> bool:
        """Whether it says nothing: ``{}`` and all zeros are placeholders, not counts."""
        return not (self.prompt_tokens or self.completion_tokens or self.total_tokens)

    def continues(self, earlier: object) -> bool:
        """Whether these counts say all that earlier ones said, and no less."""
        return (
            type(earlier) is Usage
            and _goes_on(self.completion_tokens, earlier.completion_tokens)
            # What is the same goes on, and mostly only the output is not: a comparison costs less than a call.
            and (
                self.prompt_tokens == earlier.prompt_tokens
                or _goes_on(self.prompt_tokens, earlier.prompt_tokens)
            )
            and (
                earlier.prompt_tokens_details is None
                or earlier.prompt_tokens_details == self.prompt_tokens_details
            )
            and (
                earlier.completion_tokens_details is None
                or _details_go_on(self.completion_tokens_details, earlier.completion_tokens_details)
            )
            and (
                earlier.reasoning_tokens is None or _goes_on(self.reasoning_tokens, earlier.reasoning_tokens)
            )
        )


class Timings(msgspec.Struct, frozen=True, gc=False):
    """llama.cpp's ``timings``: cumulative over the reply."""

    cache_n: int | None = None
    prompt_n: int | None = None
    predicted_n: int | None = None

    def continues(self, earlier: object) -> bool:
        """Whether these counts say all that earlier ones said, and no less."""
        return (
            type(earlier) is Timings
            and _goes_on(self.predicted_n, earlier.predicted_n)
            and (self.prompt_n == earlier.prompt_n or _goes_on(self.prompt_n, earlier.prompt_n))
            and (self.cache_n == earlier.cache_n or _goes_on(self.cache_n, earlier.cache_n))
        )


def _goes_on(present: int | None, earlier: int | None) -> bool:
    return earlier is None or (present is not None and earlier <= present <= COUNT_MAX)


def _details_go_on(present: CompletionDetails | None, earlier: CompletionDetails) -> bool:
    return (
        present is not None
        and _goes_on(present.reasoning_tokens, earlier.reasoning_tokens)
        and _goes_on(present.audio_tokens, earlier.audio_tokens)
        and _goes_on(present.image_tokens, earlier.image_tokens)
    )


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a choice adds: only whether there is text matters, it is never kept (P13)."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One choice of a chunk or a whole reply."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """A whole reply."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    timings: Timings | None = None
    error: msgspec.Raw = msgspec.Raw()


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream. Its counts stay as written, since what is hidden from the client is cut out as written."""

    choices: list[Choice] = []
    usage: msgspec.Raw = msgspec.Raw()
    timings: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class NamedEvent(Event, frozen=True, gc=False):
    """One event, and what every event of its stream says again."""

    id: str | None = None
    model: str | None = None


_decode = msgspec.json.Decoder(Reply).decode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_named_event = msgspec.json.Decoder(NamedEvent).decode
_ERROR_OBJECT = msgspec.Raw(b'"error"')
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_timings = msgspec.json.Decoder(Timings).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_event(data: bytes) -> Event | None:
    """The event that JSON text holds, as lenient as :func:`decode`."""
    try:
        return _decode_event(data)
    except _UNREADABLE:
        return _salvage_event(data)


def decode_named_event(data: bytes) -> NamedEvent | None:
    """The same with what need not be read of every event."""
    try:
        return _decode_named_event(data)
    except _UNREADABLE:
        return _salvage_event(data)


def usage_as_written(raw: msgspec.Raw) -> Usage | None:
    """The usage of an event; None where there is none, or something that is no object."""
    try:
        return _decode_usage(raw)
    except _UNREADABLE:
        return _salvage_usage(loads(bytes(raw)))


def timings_as_written(raw: msgspec.Raw) -> Timings | None:
    """The timings of an event; None where there are none, or something that is no object."""
    try:
        return _decode_timings(raw)
    except _UNREADABLE:
        return _salvage_timings(loads(bytes(raw)))


def _salvage_event(data: bytes) -> NamedEvent | None:
    reply = _salvage(data)
    if reply is None:
        return None
    return NamedEvent(
        choices=reply.choices,
        usage=_raw(reply.usage),
        timings=_raw(reply.timings),
        error=reply.error,
        id=reply.id,
        model=reply.model,
    )


def is_flat_error(data: bytes) -> bool:
    """Whether an event or reply is an error by itself, ``{"object": "error", "message": …}``: vLLM before 0.10, TensorRT-LLM."""
    members = members_as_written(data)
    return members is not None and members.get("object") == _ERROR_OBJECT


def _raw(counts: Usage | Timings | None) -> msgspec.Raw:
    return msgspec.Raw() if counts is None else msgspec.Raw(msgspec.json.encode(counts))


def decode(data: bytes) -> Reply | None:
    """The reply that JSON text holds; None when it is not a JSON object (``data: null`` is a real event).

    A field of an unexpected type, of no Unicode, too large or nested too deep is taken as missing; it never costs the
    counts beside it.
    """
    try:
        return _decode(data)
    except _UNREADABLE:
        return _salvage(data)


def usage_of(usage: Usage, provenance: Provenance, *, whole: str = "usage") -> TokenUsage:
    """Counts of a usage object. An embeddings reply has no ``completion_tokens``: its output is a reported 0."""
    prompt = usage.prompt_tokens_details or _NO_PROMPT_DETAILS
    written = (
        prompt.cache_write_tokens if prompt.cache_write_tokens is not None else prompt.created_cache_tokens
    )
    details = usage.completion_tokens_details or _NO_COMPLETION_DETAILS
    output = usage.completion_tokens
    if output is None and usage.total_tokens is not None and usage.total_tokens == usage.prompt_tokens:
        output = 0
    return TokenUsage(
        input=count(usage.prompt_tokens, provenance, f"{whole}.prompt_tokens"),
        cached_input=count(prompt.cached_tokens, provenance, f"{whole}.prompt_tokens_details.cached_tokens"),
        cache_write=count(written, provenance, f"{whole}.prompt_tokens_details.cache_write_tokens"),
        output=count(output, provenance, f"{whole}.completion_tokens"),
        reasoning=count(
            details.reasoning_tokens, provenance, f"{whole}.completion_tokens_details.reasoning_tokens"
        )
        if details.reasoning_tokens is not None
        else count(usage.reasoning_tokens, provenance, f"{whole}.reasoning_tokens"),
        parts=_parts(usage, prompt, details, provenance, whole),
    )


def _parts(
    usage: Usage, prompt: PromptDetails, details: CompletionDetails, provenance: Provenance, whole: str
) -> dict[Part, Count]:
    """What is of another kind than text, and what a total holds beyond input and output (Gemini's thinking)."""
    if prompt is _NO_PROMPT_DETAILS and details is _NO_COMPLETION_DETAILS and not _hidden(usage):
        return {}
    parts: dict[Part, Count] = {}
    several = prompt.multimodal_tokens or Multimodal()
    inputs, outputs = f"{whole}.prompt_tokens_details", f"{whole}.completion_tokens_details"
    for part, plain, of_several, name in (
        (Part.AUDIO_INPUT, prompt.audio_tokens, several.audio, "audio"),
        (Part.IMAGE_INPUT, prompt.image_tokens, several.image, "image"),
        (Part.VIDEO_INPUT, prompt.video_tokens, several.video, "video"),
    ):
        if plain:
            parts[part] = count(plain, provenance, f"{inputs}.{name}_tokens")
        elif of_several:
            parts[part] = count(of_several, provenance, f"{inputs}.multimodal_tokens.{name}")
    if details.audio_tokens:
        parts[Part.AUDIO_OUTPUT] = count(details.audio_tokens, provenance, f"{outputs}.audio_tokens")
    if details.image_tokens:
        parts[Part.IMAGE_OUTPUT] = count(details.image_tokens, provenance, f"{outputs}.image_tokens")
    if hidden := _hidden(usage):
        parts[Part.HIDDEN] = count(
            hidden, provenance, f"{whole}.total_tokens - prompt_tokens - completion_tokens"
        )
    return {part: known for part, known in parts.items() if known.value is not None}


def _hidden(usage: Usage) -> int:
    """Tokens of a total that stand in neither input nor output; 0 where one of them is not told, or is no count."""
    if usage.total_tokens is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return 0
    if usage.prompt_tokens < 0 or usage.completion_tokens < 0:
        return 0
    return max(0, usage.total_tokens - usage.prompt_tokens - usage.completion_tokens)


_NO_PROMPT_DETAILS, _NO_COMPLETION_DETAILS = PromptDetails(), CompletionDetails()


def usage_of_timings(timings: Timings) -> TokenUsage:
    """Counts of llama.cpp's timings: input is ``cache_n + prompt_n``, cached ``cache_n``, output ``predicted_n``."""
    is_known = timings.prompt_n is not None and timings.prompt_n >= 0
    whole = (timings.prompt_n or 0) + max(0, timings.cache_n or 0) if is_known else None
    return TokenUsage(
        input=count(whole, Provenance.RUNNING, "timings.cache_n + timings.prompt_n"),
        cached_input=count(timings.cache_n, Provenance.RUNNING, "timings.cache_n"),
        output=count(timings.predicted_n, Provenance.RUNNING, "timings.predicted_n"),
    )


def count(value: int | None, provenance: Provenance, method: str) -> Count:
    """A count with its provenance; unknown when the value is missing, negative or absurd."""
    return Count(value, provenance, method) if value is not None and 0 <= value <= COUNT_MAX else UNKNOWN


def _salvage(data: bytes) -> Reply | None:
    """The same from a reply that broke the types: each field alone, or not at all."""
    whole = loads(data)
    if not isinstance(whole, dict):
        return None
    choices = whole.get("choices")
    known = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return Reply(
        id=_text(whole.get("id")),
        model=_text(whole.get("model")),
        choices=[_salvage_choice(choice) for choice in known],
        usage=_salvage_usage(whole.get("usage")),
        timings=_salvage_timings(whole.get("timings")),
        error=msgspec.Raw(b"true") if whole.get("error") else msgspec.Raw(),
    )


def _salvage_choice(choice: dict[str, Any]) -> Choice:
    return Choice(
        index=_integer(choice.get("index")) or 0,
        delta=_salvage_delta(choice.get("delta")),
        message=_salvage_delta(choice.get("message")),
        text=_text(choice.get("text")),
        finish_reason=_text(choice.get("finish_reason")),
    )


def _salvage_delta(delta: object) -> Delta | None:
    if not isinstance(delta, dict):
        return None
    return Delta(
        content=_text(delta.get("content")),
        reasoning_content=_text(delta.get("reasoning_content")),
        reasoning=_text(delta.get("reasoning")),
        tool_calls=msgspec.Raw(b"[{}]") if delta.get("tool_calls") else msgspec.Raw(),
    )


def _salvage_usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_integer(usage.get("prompt_tokens")),
        completion_tokens=_integer(usage.get("completion_tokens")),
        total_tokens=_integer(usage.get("total_tokens")),
        prompt_tokens_details=_salvage_prompt(prompt) if isinstance(prompt, dict) else None,
        completion_tokens_details=CompletionDetails(**_integers(completion, CompletionDetails))
        if isinstance(completion, dict)
        else None,
        reasoning_tokens=_integer(usage.get("reasoning_tokens")),
    )


def _salvage_prompt(details: dict[str, Any]) -> PromptDetails:
    several = details.get("multimodal_tokens")
    integers = _integers(details, PromptDetails) | {"multimodal_tokens": None}
    known = Multimodal(**_integers(several, Multimodal)) if isinstance(several, dict) else None
    return msgspec.structs.replace(PromptDetails(**integers), multimodal_tokens=known)  # type: ignore[arg-type]  # of integers and None


def _salvage_timings(timings: object) -> Timings | None:
    return Timings(**_integers(timings, Timings)) if isinstance(timings, dict) else None


def _integers(values: dict[str, Any], shape: type[msgspec.Struct]) -> dict[str, int | None]:
    return {name: _integer(values.get(name)) for name in shape.__struct_fields__}


def _integer(value: object) -> int | None:
    """A whole number, also one that an engine in between wrote as ``10.0`` or as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value.encode(errors="replace").decode() if isinstance(value, str) else None
