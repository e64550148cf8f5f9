"""Adds up the cumulative counts of the answers of one reply, where each answer says its own (pure).

A reply holds one answer for each choice of each prompt, numbered from 0: the choices of the second prompt go on after those
of the first. Each says the whole of its prompt, so a prompt counts once, whatever its choices.
"""

import msgspec

from billing.tokens.merging import added
from billing.tokens.payload import count
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage

ANSWERS_MAX = 4096
"""Answers of one reply; counts of further ones are not taken."""


class Names(msgspec.Struct, frozen=True):
    """What the fields are called in the reply, for the methods of the counts."""

    input: str
    cached: str
    output: str
    reasoning: str = ""


class Answer:
    """The counts of one answer so far; None is unknown."""

    __slots__ = ("cached", "input", "output", "reasoning")

    def __init__(self) -> None:
        self.input: int | None = None
        self.cached: int | None = None
        self.output: int | None = None
        self.reasoning: int | None = None

    def __repr__(self) -> str:
        return f"<Answer input={self.input} cached={self.cached} output={self.output} reasoning={self.reasoning}>"

    def advance(
        self, prompt: int | None, cached: int | None, output: int | None, reasoning: int | None = None
    ) -> None:
        """Take present counts: they never go down, and what is missing, negative or absurd changes nothing."""
        self.input = _larger(self.input, prompt)
        self.cached = _larger(self.cached, cached)
        self.output = _larger(self.output, output)
        self.reasoning = _larger(self.reasoning, reasoning)


def _larger(earlier: int | None, present: int | None) -> int | None:
    if present is None or not 0 <= present <= COUNT_MAX or (earlier is not None and earlier > present):
        return earlier
    return present


class Tally:
    """The answers of one reply. Take ``answer(index)`` and advance it, then read ``usage``."""

    __slots__ = ("_answers", "_choices", "_names", "_prompts")

    def __init__(self, names: Names, choices: int, prompts: int) -> None:
        self._names = names
        self._choices = choices
        self._prompts = prompts
        self._answers: dict[int, Answer] = {}

    def __repr__(self) -> str:
        return f"<Tally {len(self._answers)} of {self._choices * self._prompts}>"

    def answer(self, index: int) -> Answer:
        """The answer of a number; of one that is none, or one too many, an answer that counts for nothing."""
        found = self._answers.get(index)
        if found is None:
            found = Answer()
            if index >= 0 and len(self._answers) < ANSWERS_MAX:
                self._answers[index] = found
        return found

    def usage(self, provenance: Provenance) -> TokenUsage:
        """Outputs and reasoning added up; the input known once all prompts have said theirs."""
        names = self._names
        return TokenUsage(
            input=self._of_prompts([answer.input for answer in self._first()], provenance, names.input),
            cached_input=self._of_prompts(
                [answer.cached for answer in self._first()], provenance, names.cached
            ),
            output=_sum([answer.output for answer in self._answers.values()], provenance, names.output),
            reasoning=_sum(
                [answer.reasoning for answer in self._answers.values()], provenance, names.reasoning
            ),
        )

    def _first(self) -> list[Answer]:
        """Of each prompt the choice that was heard first; they all say the same of it."""
        by_prompt: dict[int, Answer] = {}
        for index, answer in self._answers.items():
            by_prompt.setdefault(index // self._choices, answer)
        return list(by_prompt.values())

    def _of_prompts(self, values: list[int | None], provenance: Provenance, name: str) -> Count:
        return _sum(values, provenance, name) if len(values) >= self._prompts else UNKNOWN


def _sum(values: list[int | None], provenance: Provenance, name: str) -> Count:
    return added(
        [count(value, provenance, name) for value in values if value is not None], expected=len(values)
    )
