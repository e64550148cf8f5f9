"""The reasoning text of one stream: told apart by tags, and kept where only a tokenizer can count it (P13)."""

from typing import NamedTuple

from billing.tokens.tags import Tags, TagSplitter

CHARACTERS_MAX = 1 << 20
"""Text of one stream that is kept; of a longer one none is, and its count stays unknown."""
CHOICES_MAX = 128
"""Choices of one stream whose text is told apart; that of further ones is answer."""


class Heard(NamedTuple):
    """What an event says."""

    reasons: bool
    answers: bool
    reclaims: bool = False
    """What this choice said before, taken for answer, was reasoning."""


class ReasoningText:
    """Follows the texts of a stream's choices. ``text`` is there as long as all of it was kept."""

    __slots__ = ("_keeps", "_kept", "_length", "_maybe", "_splitters", "_tags")

    def __init__(self, *, keeps: bool, tags: Tags | None = None) -> None:
        self._keeps = keeps
        self._tags = tags
        self._kept: dict[int, list[str]] = {}
        self._maybe: dict[int, list[str]] = {}
        """Text before any tag: reasoning, if the first tag is an end."""
        self._length = 0
        self._splitters: dict[int, TagSplitter] = {}

    def __repr__(self) -> str:
        return f"<ReasoningText keeps={self._keeps} {self._length} characters>"

    def see(self, index: int, reasoning: str, content: str) -> Heard:
        """What a choice's event says, in the engine's own words and between the tags."""
        if reasoning:
            self._keep(self._kept, index, reasoning)
        if self._tags is None or not content or not self._follows(index):
            return Heard(bool(reasoning), bool(content))
        split = self._splitters[index].feed(content)
        if split.reclaims:
            self._kept.setdefault(index, []).extend(self._maybe.pop(index, ()))
        if split.reasoning:
            self._keep(self._kept, index, split.reasoning)
        if split.answer and not self._splitters[index].tagged and index not in self._kept:
            self._keep(self._maybe, index, split.answer)
        return Heard(bool(reasoning or split.reasoning), bool(split.answer), split.reclaims)

    def text(self) -> str | None:
        """The reasoning of each choice, one after the other; None when there is none, or not all of it was kept."""
        texts = dict.fromkeys(sorted(self._kept.keys() | self._splitters.keys()), "")
        for index, pieces in self._kept.items():
            texts[index] = "".join(pieces)
        for index, splitter in self._splitters.items():
            texts[index] += splitter.waiting.reasoning if self._keeps else ""
        return "".join(texts.values()) or None

    def forget(self) -> None:
        """Drop what is kept and keep no more."""
        self._keeps = False
        self._kept.clear()
        self._maybe.clear()

    def _follows(self, index: int) -> bool:
        if index not in self._splitters and self._tags is not None and len(self._splitters) < CHOICES_MAX:
            self._splitters[index] = TagSplitter(self._tags)
        return index in self._splitters

    def _keep(self, place: dict[int, list[str]], index: int, text: str) -> None:
        if not self._keeps:
            return
        self._length += len(text)
        if self._length > CHARACTERS_MAX or (index not in place and len(place) >= CHOICES_MAX):
            self.forget()
        else:
            place.setdefault(index, []).append(text)
