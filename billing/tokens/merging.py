"""How several statements of one reply about its usage become one (protocols.md §1, "Merging usage objects")."""

import msgspec

from billing.tokens.engines import Merge
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage

CHOICES_TRACKED_MAX = 2048
"""Choices of all prompts of one request; more are refused, because nobody could count them at a hang-up."""


def filled(usage: TokenUsage, other: TokenUsage | None) -> TokenUsage:
    """The same usage; what it does not know taken from another one."""
    if other is None:
        return usage
    return TokenUsage(
        input=_known(usage.input, other.input),
        cached_input=_known(usage.cached_input, other.cached_input),
        cache_write=_known(usage.cache_write, other.cache_write),
        output=_known(usage.output, other.output),
        reasoning=_known(usage.reasoning, other.reasoning),
        parts=other.parts | usage.parts,
    )


def _known(count: Count, other: Count) -> Count:
    return count if count.value is not None else other


def later(earlier: TokenUsage | None, present: TokenUsage) -> TokenUsage:
    """Cumulative counts never go down and a missing one does not erase a known one."""
    if earlier is None:
        return present
    return TokenUsage(
        input=_larger(earlier.input, present.input),
        cached_input=_larger(earlier.cached_input, present.cached_input),
        cache_write=_larger(earlier.cache_write, present.cache_write),
        output=_larger(earlier.output, present.output),
        reasoning=_larger(earlier.reasoning, present.reasoning),
        parts=earlier.parts
        | {part: _larger(earlier.parts.get(part, UNKNOWN), count) for part, count in present.parts.items()},
    )


def _larger(earlier: Count, present: Count) -> Count:
    if present.value is None or (earlier.value is not None and earlier.value > present.value):
        return earlier
    return present


def without_cached(usage: TokenUsage) -> TokenUsage:
    """The same without what came from or went to a cache, where an engine reports only a part of it."""
    return msgspec.structs.replace(usage, cached_input=UNKNOWN, cache_write=UNKNOWN)


class Several:
    """The counts of several choices and prompts in one stream, each under its index, as one usage."""

    __slots__ = ("_by_index", "_choices", "_in_turn", "_merge", "_prompts")

    def __init__(self, merge: Merge, choices: int, prompts: int) -> None:
        self._merge = merge
        self._choices = choices
        self._prompts = prompts
        self._by_index: dict[int, TokenUsage] = {}
        self._in_turn = False
        """Whether they stand in the order of their coming: which prompt each is of is not known then."""

    def __repr__(self) -> str:
        return f"<Several {self._merge} {len(self._by_index)} of {self._choices * self._prompts}>"

    def see(self, index: int, usage: TokenUsage) -> None:
        """The cumulative counts of one choice (choices of the second prompt go on after those of the first)."""
        if len(self._by_index) < CHOICES_TRACKED_MAX or index in self._by_index:
            self._by_index[index] = later(self._by_index.get(index), usage)

    def add(self, usage: TokenUsage) -> None:
        """The final counts of one more choice or prompt, whichever it is."""
        self._in_turn = True
        self.see(len(self._by_index), usage)

    @property
    def whole(self) -> bool:
        """Whether every choice of every prompt has said its counts."""
        return len(self._by_index) == self._choices * self._prompts

    @property
    def empty(self) -> bool:
        """Whether none has."""
        return not self._by_index

    def usage(self) -> TokenUsage:
        """Outputs and reasoning added up; the input once for each prompt that has begun."""
        if not self._by_index or self._choices * self._prompts > CHOICES_TRACKED_MAX:
            return TokenUsage(
                input=self._input("input") if self._prompts == 1 and self._by_index else UNKNOWN
            )
        return TokenUsage(
            input=self._input("input"),
            cached_input=self._input("cached_input"),
            cache_write=self._input("cache_write"),
            output=self._sum("output", self._by_index.values()),
            reasoning=self._sum("reasoning", self._by_index.values()),
        )

    def _input(self, name: str) -> Count:
        if self._prompts == 1:
            return _first([getattr(usage, name) for usage in self._by_index.values()])
        if not self._in_turn:
            return self._input_begun(name)
        if self._merge is not Merge.PER_PROMPT or not self.whole:
            return UNKNOWN
        if self._choices > 1:
            # Each prompt's choices repeat it; what they say of the cache differs among them.
            total = self._sum(name, self._by_index.values())
            value = None if total.value is None or name != "input" else total.value // self._choices
            return UNKNOWN if value is None else Count(value, total.provenance, total.method)
        return self._sum(name, self._by_index.values())

    def _input_begun(self, name: str) -> Count:
        """The input of the prompts whose answers have begun: what an engine that was hung up on had taken in."""
        if name != "input" and self._merge is not Merge.PER_PROMPT:
            # Of several prompts such an engine tells the last one's cached tokens only (protocols.md §2).
            return UNKNOWN
        by_prompt: dict[int, Count] = {}
        for index, usage in self._by_index.items():
            count: Count = getattr(usage, name)
            if count.value is not None:
                by_prompt.setdefault(index // self._choices, count)
        total = added(list(by_prompt.values()), len({index // self._choices for index in self._by_index}))
        begun = len(by_prompt)
        if total.value is None or begun == self._prompts:
            return total
        return Count(total.value, total.provenance, f"{total.method}, of {begun} of {self._prompts} prompts")

    @staticmethod
    def _sum(name: str, usages: "object") -> Count:
        counts: list[Count] = [getattr(usage, name) for usage in usages]  # type: ignore[attr-defined]  # a dict's values
        return added([count for count in counts if count.value is not None], len(counts))


def _first(counts: list[Count]) -> Count:
    return next((count for count in counts if count.value is not None), UNKNOWN)


def added(counts: list[Count], expected: int) -> Count:
    """The sum of counts with their weakest provenance; unknown when any of the ``expected`` is, or the sum is absurd."""
    total = sum(count.value or 0 for count in counts)
    if not counts or len(counts) < expected or total > COUNT_MAX:
        return UNKNOWN
    weakest = max((count.provenance for count in counts if count.provenance), key=tuple(Provenance).index)
    method = counts[0].method if len(counts) == 1 else f"{counts[0].method}, {len(counts)} added up"
    return Count(total, weakest, method)
