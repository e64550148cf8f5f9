"""What a request used, and how each count was obtained (P3, P4).

Record fields contain one another: ``input`` ⊇ ``cached_input`` and ``cache_write``, ``output`` ⊇ ``reasoning``
(the OpenTelemetry GenAI reading; protocols.md §0). Disjoint, priced quantities are made from them by
:func:`billing.tokens.components.components`. An unknown count is None, never 0.
"""

from enum import StrEnum

import msgspec

COUNT_MAX = 2**53
"""No single request uses more; a larger number in a reply is a broken engine, not usage."""


class Provenance(StrEnum):
    """How a count was obtained, strongest first."""

    REPORTED = "reported"
    """The engine's own final usage."""
    RUNNING = "running"
    """A running count of the engine (continuous usage, per-token timings), the last that came."""
    COUNTED = "counted"
    """A tokenizer, the engine's or a local one."""
    ESTIMATED = "estimated"
    """A guess with a written method."""


class Outcome(StrEnum):
    """How a request ended (P1)."""

    COMPLETE = "complete"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_ERROR = "upstream_error"
    TRUNCATED = "truncated"
    INTERRUPTED = "interrupted"


class Count(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A number of tokens with how it is known: ``value`` None is unknown, and then there is no provenance."""

    value: int | None = None
    provenance: Provenance | None = None
    method: str = ""

    def __str__(self) -> str:
        return "unknown" if self.value is None else f"{self.value} {self.provenance} ({self.method})"


UNKNOWN = Count()


class Part(StrEnum):
    """What most replies lack: parts of the input or output by kind, and quantities that are no tokens."""

    AUDIO_INPUT = "audio_input"
    IMAGE_INPUT = "image_input"
    VIDEO_INPUT = "video_input"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_OUTPUT = "image_output"
    CACHE_WRITE_1H = "cache_write_1h"
    """Of the written cache, what lives for an hour (Anthropic)."""
    HIDDEN = "hidden"
    """Tokens in the engine's total that stand in neither its input nor its output; shown, never billed."""
    TRAINING = "training"
    """Tokens trained on; beside input and output."""
    IMAGE = "image"
    """Images made, where no tokens are reported for them."""
    SECOND = "second"
    """Seconds of audio, a fraction counted whole, where no tokens are reported for them."""
    GPU_SECOND = "gpu_second"
    CHARACTER = "character"
    """Characters spoken, where no tokens are reported for them."""
    SEARCH = "search"
    """Searches and fetches that the engine made for the answer, or the search units of a reranker."""


WHOLES = {
    Part.AUDIO_INPUT: "input",
    Part.IMAGE_INPUT: "input",
    Part.VIDEO_INPUT: "input",
    Part.AUDIO_OUTPUT: "output",
    Part.IMAGE_OUTPUT: "output",
    Part.CACHE_WRITE_1H: "cache_write",
}
"""Which count contains a part; every other part stands beside the counts."""
UNITS = frozenset({Part.IMAGE, Part.SECOND, Part.GPU_SECOND, Part.CHARACTER, Part.SEARCH})
"""The parts that are no tokens."""
BESIDE = UNITS | {Part.TRAINING}
"""The parts that are billed where a request has no other count."""


class TokenUsage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The counts of one request."""

    input: Count = UNKNOWN
    cached_input: Count = UNKNOWN
    cache_write: Count = UNKNOWN
    output: Count = UNKNOWN
    reasoning: Count = UNKNOWN
    parts: dict[Part, Count] = {}
    """Only parts that are known, above 0 or reported as 0."""


NOTHING_USED = TokenUsage(
    input=Count(0, Provenance.REPORTED, "no engine was reached"),
    output=Count(0, Provenance.REPORTED, "no engine was reached"),
)
"""The usage of a request that never reached an engine (P1: ``upstream_error``, counts 0)."""


def total_tokens(usage: TokenUsage) -> int | None:
    """Input and output together, what a token limit counts; None when either is unknown."""
    if usage.input.value is None or usage.output.value is None:
        return None
    return usage.input.value + usage.output.value


_ORDER = tuple(Provenance)


def weakest(usage: TokenUsage) -> Provenance | None:
    """The weakest provenance among the counts that are known; None when input or output is unknown and no unit known.

    This one word stands in the rollup, because a plan's ``billable`` rule selects on it (billing-rules.md §5).
    """
    if (usage.input.value is None or usage.output.value is None) and not _stands_alone(usage):
        return None
    known = (
        usage.input,
        usage.cached_input,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        *usage.parts.values(),
    )
    return max((count.provenance for count in known if count.provenance is not None), key=_ORDER.index)


def _stands_alone(usage: TokenUsage) -> bool:
    """Whether units say what was used although tokens do not: not where an answer was begun whose length is unknown."""
    if usage.output.value is None:
        return usage.input.value is None and bool(usage.parts.keys() & (BESIDE - {Part.SEARCH}))
    return bool(usage.parts.keys() & BESIDE)


def clamp(usage: TokenUsage) -> TokenUsage:
    """The same usage with the containment rules enforced: a part larger than its whole is cut to it, and says so."""
    if not usage.parts and _is_contained(usage):
        return usage
    return TokenUsage(
        input=usage.input,
        cached_input=_within(usage.cached_input, usage.input),
        cache_write=_within(usage.cache_write, usage.input),
        output=usage.output,
        reasoning=_within(usage.reasoning, usage.output),
        parts={part: _within_whole(part, count, usage) for part, count in usage.parts.items()},
    )


def _is_contained(usage: TokenUsage) -> bool:
    """Whether nothing is to be cut, as nearly always."""
    whole, output = usage.input.value, usage.output.value
    return (
        whole is None
        or ((usage.cached_input.value or 0) <= whole and (usage.cache_write.value or 0) <= whole)
    ) and (output is None or (usage.reasoning.value or 0) <= output)


def _within_whole(part: Part, count: Count, usage: TokenUsage) -> Count:
    whole = WHOLES.get(part)
    return count if whole is None else _within(count, getattr(usage, whole))


def _within(part: Count, whole: Count) -> Count:
    if part.value is None or whole.value is None or part.value <= whole.value:
        return part
    return Count(whole.value, part.provenance, f"{part.method}, clamped from {part.value}")
