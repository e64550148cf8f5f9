"""From counts that contain one another to the disjoint components that have a price (P4; billing-rules.md §5)."""

from enum import StrEnum

import msgspec

from billing.tokens.usage import TokenUsage


class Component(StrEnum):
    """A disjoint part of what was used; the words that plans, rollups, invoices and exports share."""

    UNCACHED_INPUT = "uncached_input"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE = "cache_write"
    ANSWER_OUTPUT = "answer_output"
    REASONING = "reasoning"


class Components(msgspec.Struct, frozen=True):
    """Tokens per component; they add up to input + output as the engine reported them."""

    uncached_input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    answer_output: int = 0
    reasoning: int = 0

    def get(self, component: Component) -> int:
        """Tokens of one component."""
        value: int = getattr(self, component.value)
        return value

    @property
    def total(self) -> int:
        """All tokens, input and output."""
        return (
            self.uncached_input + self.cached_input + self.cache_write + self.answer_output + self.reasoning
        )


def components(usage: TokenUsage) -> Components:
    """The one function that splits usage into components.

    An unknown part (None) stays inside its whole: without a cached count all input is uncached, without a reasoning
    count all output is answer. An unknown whole contributes nothing. When cached and written tokens together exceed
    the input, which only a broken engine says, the written ones give way.
    """
    whole_input = usage.input.value or 0
    cached = min(usage.cached_input.value or 0, whole_input)
    written = min(usage.cache_write.value or 0, whole_input - cached)
    whole_output = usage.output.value or 0
    reasoning = min(usage.reasoning.value or 0, whole_output)
    return Components(
        uncached_input=whole_input - cached - written,
        cached_input=cached,
        cache_write=written,
        answer_output=whole_output - reasoning,
        reasoning=reasoning,
    )
