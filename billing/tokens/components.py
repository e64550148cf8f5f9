"""From counts that contain one another to the disjoint components that have a price (P4; billing-rules.md §5)."""

from enum import StrEnum

import msgspec

from billing.tokens.usage import BESIDE, UNITS, Part, TokenUsage


class Component(StrEnum):
    """A disjoint part of what was used; the words that plans, rollups, invoices and exports share."""

    UNCACHED_INPUT = "uncached_input"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE = "cache_write"
    ANSWER_OUTPUT = "answer_output"
    REASONING = "reasoning"
    AUDIO_INPUT = "audio_input"
    IMAGE_INPUT = "image_input"
    VIDEO_INPUT = "video_input"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_OUTPUT = "image_output"
    TRAINING = "training"
    IMAGE = "image"
    SECOND = "second"
    GPU_SECOND = "gpu_second"
    CHARACTER = "character"
    SEARCH = "search"

    @property
    def is_tokens(self) -> bool:
        """Whether it counts tokens; the others are units that have no tokens."""
        return self.value not in UNITS

    @property
    def is_served(self) -> bool:
        """Whether it counts tokens of a prompt or an answer: what ``total`` prices."""
        return self.is_tokens and self is not Component.TRAINING


class Components(msgspec.Struct, frozen=True):
    """Quantities per component. The tokens add up to input + output as the engine reported them, and what was trained on."""

    uncached_input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    answer_output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    image_input: int = 0
    video_input: int = 0
    audio_output: int = 0
    image_output: int = 0
    training: int = 0
    image: int = 0
    second: int = 0
    gpu_second: int = 0
    character: int = 0
    search: int = 0

    def get(self, component: Component) -> int:
        """The quantity of one component."""
        value: int = getattr(self, component.value)
        return value

    @property
    def total(self) -> int:
        """All tokens, whatever they were for."""
        return self.input + self.output + self.training

    @property
    def input(self) -> int:
        """All tokens of the prompts."""
        return (
            self.uncached_input
            + self.cached_input
            + self.cache_write
            + self.audio_input
            + self.image_input
            + self.video_input
        )

    @property
    def output(self) -> int:
        """All tokens generated."""
        return self.answer_output + self.reasoning + self.audio_output + self.image_output


def components(usage: TokenUsage) -> Components:
    """The one function that splits usage into components.

    An unknown part (None) stays inside its whole: without a cached count all input is uncached, without a reasoning
    count all output is answer. An unknown whole contributes nothing. When cached and written tokens together exceed
    the input, which only a broken engine says, the written ones give way.

    What is audio, image or video is taken out of what is neither cached nor written (engines do not say which kind was
    cached), and out of what is no reasoning; where there is less of that, the later kind gives way. So the components
    are disjoint and add up, whatever was reported.
    """
    whole_input = usage.input.value or 0
    cached = min(usage.cached_input.value or 0, whole_input)
    written = min(usage.cache_write.value or 0, whole_input - cached)
    whole_output = usage.output.value or 0
    reasoning = min(usage.reasoning.value or 0, whole_output)
    plain_input, plain_output = whole_input - cached - written, whole_output - reasoning
    if not usage.parts:
        return Components(plain_input, cached, written, plain_output, reasoning)
    kinds: dict[str, int] = {}
    for part in (Part.AUDIO_INPUT, Part.IMAGE_INPUT, Part.VIDEO_INPUT):
        kinds[part.value] = taken = min(_known(usage, part), plain_input)
        plain_input -= taken
    for part in (Part.AUDIO_OUTPUT, Part.IMAGE_OUTPUT):
        kinds[part.value] = taken = min(_known(usage, part), plain_output)
        plain_output -= taken
    beside = {part.value: _known(usage, part) for part in BESIDE}
    return Components(plain_input, cached, written, plain_output, reasoning, **kinds, **beside)


def _known(usage: TokenUsage, part: Part) -> int:
    count = usage.parts.get(part)
    return 0 if count is None else count.value or 0
