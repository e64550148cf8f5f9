"""Counts the replies of Ollama's own API, streamed and whole (ollama/ollama@fb307609 ``api/types.go``; protocols.md §4).

All counts stand on the line with ``done: true``. Each is left out where it is 0, and old releases leave out
``prompt_eval_count`` of a prompt that lay in their cache: a missing one is no 0.
"""

from typing import Any

import msgspec

from billing.tokens.merging import filled
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.reasoning_text import ReasoningText
from billing.tokens.salvage import read
from billing.tokens.tags import Tags, split
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage, clamp

NOTHING_GENERATED = frozenset({"load", "unload"})
"""Why a reply to an empty prompt is done: the model was loaded or put away, and no token was read or made."""
_NOTHING = Count(0, Provenance.REPORTED, "done_reason: no prompt was given")
_NO_INPUT = Count(0, Provenance.REPORTED, "no text was given")
_EMPTY = frozenset({b"", b"null", b"[]"})


class Message(msgspec.Struct, frozen=True):
    """``message`` of a chat."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class Line(msgspec.Struct, frozen=True):
    """One line of a stream, or a whole reply, of a chat or a generation.

    Counts are read whatever their type, because one that is missing says something else than one that is broken.
    """

    model: str | None = None
    message: Message | None = None
    response: str | None = None
    thinking: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: Any = msgspec.UNSET
    prompt_eval_cached_count: Any = msgspec.UNSET
    eval_count: Any = msgspec.UNSET
    error: Any = None

    def reasoned(self) -> str:
        """The text of its reasoning."""
        return (self.message.thinking if self.message else self.thinking) or ""

    def answered(self) -> str:
        """The text of its answer."""
        return (self.message.content if self.message else self.response) or ""

    def called_bytes(self) -> int:
        """How long its tool calls are."""
        calls = bytes(self.message.tool_calls if self.message else self.tool_calls)
        return 0 if calls in _EMPTY else len(calls)

    def answered_bytes(self) -> int:
        """How long its answer is, tool calls included."""
        return len(self.answered().encode()) + self.called_bytes()

    def counts(self, *, spoken: bool) -> TokenUsage:
        """Its counts; ``spoken`` whether any text was generated before or in it: only then is a missing count unknown."""
        if self.done_reason in NOTHING_GENERATED and self.eval_count is msgspec.UNSET:
            return TokenUsage(input=_NOTHING, output=_NOTHING)
        output = _reported(self.eval_count, "eval_count")
        if self.eval_count is msgspec.UNSET and self.done and not spoken:
            output = Count(0, Provenance.REPORTED, "eval_count, left out where it is 0")
        return TokenUsage(
            input=_reported(self.prompt_eval_count, "prompt_eval_count"),
            cached_input=_reported(self.prompt_eval_cached_count, "prompt_eval_cached_count"),
            output=output,
        )


class Embedded(msgspec.Struct, frozen=True):
    """A reply with embeddings; the older path has one and no count."""

    model: str | None = None
    embeddings: msgspec.Raw = msgspec.Raw()
    embedding: msgspec.Raw = msgspec.Raw()
    prompt_eval_count: Any = msgspec.UNSET

    def counts(self) -> TokenUsage:
        """Its counts; a reply to no text at all holds an empty list."""
        vectors = b"".join(bytes(self.embeddings or self.embedding).split())
        if vectors == b"[]" and self.prompt_eval_count is msgspec.UNSET:
            return TokenUsage(input=_NO_INPUT)
        return TokenUsage(input=_reported(self.prompt_eval_count, "prompt_eval_count"))


_line = msgspec.json.Decoder(Line)
_embedded = msgspec.json.Decoder(Embedded)


class OllamaStreamMeter(StreamMeter):
    """Follows the lines of a streamed chat or generation; ``known`` is what is sure before the first."""

    __slots__ = ("_answered_bytes", "_known", "_last", "_reasoned_bytes", "_text")

    def __init__(self, known: TokenUsage) -> None:
        super().__init__()
        self._known = known
        self._last: Line | None = None
        self._reasoned_bytes = 0
        self._answered_bytes = 0
        self._text: ReasoningText | None = None
        """There where reasoning text is kept or marked by tags."""

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:
        """Before the first line: ``keeps`` the text of reasoning for a tokenizer; ``tags`` that mark it in an answer."""
        self._text = ReasoningText(keeps=keeps, tags=tags)

    def see(self, data: bytes, now_us: int) -> Edit:
        """One line; nothing of it was asked for by metering, so all of it is the client's."""
        line = read(_line, data)
        if line is not None:
            self._follow(line, now_us)
        return Edit.KEEP

    def _follow(self, line: Line, now_us: int) -> None:
        if self.response_model is None:
            self.response_model = line.model
        if line.error:
            self.failed = True
        reasoned, answered = len(line.reasoned().encode()), line.answered_bytes()
        if self._text is not None:
            reasoned, answered = self._told_apart(line, self._text)
        self._reasoned_bytes += reasoned
        self._answered_bytes += answered
        if reasoned or answered:
            self.spoke(now_us, answer=answered > 0)
        if line.done:
            self._last = line
            self.finished = self.done = True

    def _told_apart(self, line: Line, text: ReasoningText) -> tuple[int, int]:
        """How long the reasoning and the answer of a line are."""
        heard = text.see(0, line.reasoned(), line.answered())
        if heard.reclaims:
            self.first_answer_us = None
            self._reasoned_bytes, self._answered_bytes = self._reasoned_bytes + self._answered_bytes, 0
        reasoned, answered = len(line.reasoned().encode()), len(line.answered().encode())
        if heard.reasons and not reasoned:
            # A line holds one token, as a rule: it is the one or the other.
            reasoned, answered = answered, 0
        return reasoned, (answered if heard.answers else 0) + line.called_bytes()

    def usage(self) -> TokenUsage:
        """The counts of the last line; before it Ollama says nothing."""
        if self._last is None:
            return self._known
        return clamp(filled(self._last.counts(spoken=self.last_token_us is not None), self._known))

    def reasoning_text(self) -> str | None:
        """The kept reasoning text, or None without any; Ollama never counts it apart."""
        return None if self._text is None else self._text.text()

    def forget(self) -> None:
        """Drop the text that is kept (P13)."""
        if self._text is not None:
            self._text.forget()

    def reasoning_estimate(self) -> Count:
        """Reasoning tokens, which Ollama counts in ``eval_count`` only: its share by length of text."""
        return _share(self.usage().output, self._reasoned_bytes, self._answered_bytes)


class OllamaReplyMeter(ReplyMeter):
    """Reads the counts of a whole reply to a chat or a generation."""

    __slots__ = ("_known", "_line", "_tags")

    def __init__(self, body: bytes, known: TokenUsage) -> None:
        self._line = read(_line, body) or Line()
        self._known = known
        self._tags: Tags | None = None

    @property
    def response_id(self) -> str | None:
        """Ollama gives its replies no id."""
        return None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._line.model

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        spoken = bool(self._line.reasoned()) or self._line.answered_bytes() > 0
        return clamp(filled(self._line.counts(spoken=spoken), self._known))

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; Ollama never counts it apart."""
        return self._told_apart()[0] or None

    def split_reasoning(self, tags: Tags) -> None:
        """Take ``tags`` for what marks reasoning in an answer."""
        self._tags = tags

    def reasoning_estimate(self) -> Count:
        """Reasoning tokens where no tokenizer counts them: their share of ``eval_count`` by length of text."""
        reasoned, answered = (len(text.encode()) for text in self._told_apart())
        return _share(self.usage().output, reasoned, answered + self._line.called_bytes())

    def _told_apart(self) -> tuple[str, str]:
        """Reasoning and answer."""
        line = self._line
        if self._tags is None:
            return line.reasoned(), line.answered()
        parts = split(line.answered(), self._tags)
        return line.reasoned() + parts.reasoning, parts.answer


class EmbeddedReplyMeter(ReplyMeter):
    """Reads the counts of a reply with embeddings."""

    __slots__ = ("_known", "_reply")

    def __init__(self, body: bytes, known: TokenUsage) -> None:
        self._reply = read(_embedded, body) or Embedded()
        self._known = known

    @property
    def response_id(self) -> str | None:
        """Ollama gives its replies no id."""
        return None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._reply.model

    def usage(self) -> TokenUsage:
        """The input that the reply reports; nothing is generated."""
        return filled(self._reply.counts(), self._known)


def _reported(value: object, method: str) -> Count:
    whole = value if isinstance(value, int) and not isinstance(value, bool) else None
    return count(whole, Provenance.REPORTED, method)


def _share(output: Count, reasoned_bytes: int, answered_bytes: int) -> Count:
    if output.value is None or not reasoned_bytes:
        return UNKNOWN
    tokens = output.value * reasoned_bytes // (reasoned_bytes + answered_bytes)
    return Count(tokens, Provenance.ESTIMATED, "share of eval_count by length of text")
