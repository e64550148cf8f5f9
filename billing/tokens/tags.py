"""Splits reasoning off an answer where a model writes it between tags, ``<think>`` and ``</think>`` (protocols.md §7).

That is so where an engine has no reasoning parser. Chat templates that end with the start tag make a model begin inside:
then only the end tag comes, and all before it was reasoning. The tags themselves are neither reasoning nor answer.
"""

from typing import NamedTuple

import msgspec


class Tags(msgspec.Struct, frozen=True):
    """What a model writes before and behind its reasoning."""

    start: str
    end: str


class Split(NamedTuple):
    """A piece of text told apart."""

    reasoning: str
    answer: str
    reclaims: bool = False
    """The first tag was an end: all that came before this piece was reasoning, though it was taken for answer."""


class TagSplitter:
    """Splits the text of one answer, piece by piece; a tag may be cut across pieces, so what may begin one waits."""

    __slots__ = ("_held", "_inside", "_tags", "tagged")

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._held = ""
        self._inside = False
        self.tagged = False
        """Whether any tag has come."""

    def __repr__(self) -> str:
        where = "inside" if self._inside else "outside" if self.tagged else "no tag yet"
        return f"<TagSplitter {where} held={len(self._held)}>"

    def feed(self, piece: str) -> Split:
        """What a piece holds of each; the end of a piece that may begin a tag comes with the next."""
        text = self._held + piece
        reasoning: list[str] = []
        answer: list[str] = []
        reclaims = False
        while (found := self._next(text)) is not None:
            tag, at = found
            before, text = text[:at], text[at + len(tag) :]
            if tag == self._tags.end and not self.tagged:
                reclaims = True
                self._inside = True
            (reasoning if self._inside else answer).append(before)
            self.tagged = True
            self._inside = tag == self._tags.start
        told = len(text) - self._beginning(text)
        self._held = text[told:]
        (reasoning if self._inside else answer).append(text[:told])
        return Split("".join(reasoning), "".join(answer), reclaims)

    @property
    def waiting(self) -> Split:
        """What waits for the rest of a tag; at the end of the text it was none."""
        return Split(self._held, "") if self._inside else Split("", self._held)

    def _sought(self) -> tuple[str, ...]:
        """The tags that mean something here: an end without its start only before any other."""
        if self._inside:
            return (self._tags.end,)
        return (self._tags.start,) if self.tagged else (self._tags.start, self._tags.end)

    def _next(self, text: str) -> tuple[str, int] | None:
        places = [(text.find(tag), tag) for tag in self._sought()]
        at, tag = min(((at, tag) for at, tag in places if at >= 0), default=(-1, ""))
        return (tag, at) if tag else None

    def _beginning(self, text: str) -> int:
        """How many characters at the end of a text may begin a tag."""
        return max(_overlap(text, tag) for tag in self._sought())


def _overlap(text: str, tag: str) -> int:
    longest = min(len(text), len(tag) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(tag[:length])), 0)


def split(text: str, tags: Tags) -> Split:
    """A whole text told apart."""
    splitter = TagSplitter(tags)
    fed, rest = splitter.feed(text), splitter.waiting
    return Split(fed.reasoning + rest.reasoning, fed.answer + rest.answer)
