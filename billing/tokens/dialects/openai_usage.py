"""The usage objects of OpenAI's newer endpoints: responses, audio, images and realtime (openai-openapi; protocols.md §5).

They say ``input_tokens`` and ``output_tokens``, with details under ``input_tokens_details`` (responses, images) or
``input_token_details`` (audio, realtime); audio may say ``{"type": "duration", "seconds": …}`` in their place.
"""

from decimal import Decimal, InvalidOperation

import msgspec

from billing.tokens.merging import added
from billing.tokens.payload import count
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Part, Provenance, TokenUsage

SECONDS_LENGTH_MAX = 32
"""Characters of a duration that is written as text (vLLM writes it so)."""


class InputDetails(msgspec.Struct, frozen=True):
    """What the input consists of."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class OutputDetails(msgspec.Struct, frozen=True):
    """What the output consists of."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """``usage`` of a response, a transcription, speech, images or a realtime response."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    input_token_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    output_token_details: OutputDetails | None = None
    seconds: float | str | None = None

    @property
    def empty(self) -> bool:
        """Whether it says nothing: ``{}`` and all zeros are placeholders, not counts."""
        return not (self.input_tokens or self.output_tokens or self.total_tokens or self.seconds)


def usage_of(usage: Usage | None, provenance: Provenance = Provenance.REPORTED) -> TokenUsage:
    """Counts of a usage object, its parts among them; seconds only where it holds no tokens."""
    if usage is None:
        return TokenUsage()
    taken = usage.input_tokens_details or usage.input_token_details or InputDetails()
    made = usage.output_tokens_details or usage.output_token_details or OutputDetails()
    inputs = "usage.input_tokens_details" if usage.input_tokens_details else "usage.input_token_details"
    outputs = "usage.output_tokens_details" if usage.output_tokens_details else "usage.output_token_details"
    parts = {
        Part.AUDIO_INPUT: count(taken.audio_tokens, provenance, f"{inputs}.audio_tokens"),
        Part.IMAGE_INPUT: count(taken.image_tokens, provenance, f"{inputs}.image_tokens"),
        Part.AUDIO_OUTPUT: count(made.audio_tokens, provenance, f"{outputs}.audio_tokens"),
        Part.IMAGE_OUTPUT: count(made.image_tokens, provenance, f"{outputs}.image_tokens"),
        Part.HIDDEN: _hidden(usage, provenance),
    }
    if usage.input_tokens is None and usage.output_tokens is None:
        parts[Part.SECOND] = seconds_count(usage.seconds, "usage.seconds")
    return TokenUsage(
        input=count(usage.input_tokens, provenance, "usage.input_tokens"),
        cached_input=count(taken.cached_tokens, provenance, f"{inputs}.cached_tokens"),
        cache_write=count(taken.cache_write_tokens, provenance, f"{inputs}.cache_write_tokens"),
        output=count(usage.output_tokens, provenance, "usage.output_tokens"),
        reasoning=count(made.reasoning_tokens, provenance, f"{outputs}.reasoning_tokens"),
        parts=known(parts),
    )


def known(parts: dict[Part, Count]) -> dict[Part, Count]:
    """The parts that are known."""
    return {part: counted for part, counted in parts.items() if counted.value is not None}


def seconds_count(value: float | str | None, method: str) -> Count:
    """Whole seconds of a duration, a fraction counted whole; unknown when it is none or absurd."""
    text = "" if value is None else str(value)
    if len(text) > SECONDS_LENGTH_MAX:
        return UNKNOWN
    try:
        number = Decimal(text)
    except InvalidOperation:
        return UNKNOWN
    if not number.is_finite() or not 0 <= number <= COUNT_MAX:
        return UNKNOWN
    whole = int(number)
    return Count(whole if whole == number else whole + 1, Provenance.REPORTED, f"{method}, rounded up")


def summed(usages: list[TokenUsage]) -> TokenUsage:
    """Several usages added up; unknown is what one of them does not know. A part counts where each has it."""
    if len(usages) == 1:
        return usages[0]
    shared = set.intersection(*[set(usage.parts) for usage in usages]) if usages else set[Part]()
    return TokenUsage(
        input=_sum([usage.input for usage in usages]),
        cached_input=_sum([usage.cached_input for usage in usages]),
        cache_write=_sum([usage.cache_write for usage in usages]),
        output=_sum([usage.output for usage in usages]),
        reasoning=_sum([usage.reasoning for usage in usages]),
        parts=known({part: _sum([usage.parts[part] for usage in usages]) for part in Part if part in shared}),
    )


def _sum(counts: list[Count]) -> Count:
    return added([one for one in counts if one.value is not None], len(counts))


def _hidden(usage: Usage, provenance: Provenance) -> Count:
    """Tokens of the total that stand in neither input nor output; unknown where there are none."""
    if usage.total_tokens is None or usage.input_tokens is None or usage.output_tokens is None:
        return UNKNOWN
    hidden = usage.total_tokens - usage.input_tokens - usage.output_tokens
    return count(hidden, provenance, "usage.total_tokens beyond input and output") if hidden > 0 else UNKNOWN
