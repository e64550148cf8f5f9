"""Counts the replies of TGI's own API, streamed and whole (text-generation-inference@db931fcf ``router/src/server.rs``).

Counts stand in ``details``, which comes only when it was asked for. A stream's last event has both; a whole reply has
those of the output there, and the prompt's in the header ``x-prompt-tokens``.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from billing.tokens.members import Members
from billing.tokens.merging import added
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.salvage import is_array, read, read_each, without
from billing.tokens.tags import Tags, TagSplitter
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage, clamp

INPUT_HEADER = b"x-prompt-tokens"
OUTPUT_HEADER = b"x-generated-tokens"
_GENERATED = "details.generated_tokens"
_NULL = msgspec.Raw(b"null")


class Token(msgspec.Struct, frozen=True):
    """``token``: one event of a stream holds exactly one."""

    text: str | None = None
    special: bool | None = None


class Sequence(msgspec.Struct, frozen=True):
    """One of ``details.best_of_sequences``: generated as well, and not chosen."""

    generated_tokens: int | None = None


class Details(msgspec.Struct, frozen=True):
    """``details``."""

    generated_tokens: int | None = None
    input_length: int | None = None
    best_of_sequences: list[Sequence] | None = None
    tokens: msgspec.Raw = msgspec.Raw()
    """Of a whole reply, each token; read only where tags mark reasoning."""


class Reply(msgspec.Struct, frozen=True):
    """A whole reply, or one event of a stream."""

    token: Token | None = None
    generated_text: str | None = None
    details: Details | None = None
    error: Any = None


_reply = msgspec.json.Decoder(Reply)
_tokens = msgspec.json.Decoder(list[Token])
_decode_members = msgspec.json.Decoder(Members).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class TaggedTokens:
    """Counts the tokens between tags, where each token is told apart."""

    __slots__ = ("_counter", "_splitter", "_tokens")

    def __init__(self, tags: Tags) -> None:
        self._splitter = TagSplitter(tags)
        self._counter = ReasoningCounter()
        self._tokens = 0

    def __repr__(self) -> str:
        return f"<TaggedTokens {self._tokens} {self._counter!r}>"

    def see(self, token: Token) -> bool:
        """Whether the next token is reasoning."""
        split = self._splitter.feed(token.text or "")
        if split.reclaims:
            self._counter.reclaim()
        self._tokens += 1
        self._counter.see(self._tokens, reasoning=bool(split.reasoning))
        return bool(split.reasoning)

    def count(self) -> Count:
        """Reasoning tokens so far."""
        return self._counter.count()


class TgiStreamMeter(StreamMeter):
    """Follows a stream of tokens; ``shows_details`` whether the client asked for them."""

    __slots__ = ("_details", "_reasoning", "_shows_details", "_tokens")

    def __init__(self, *, shows_details: bool) -> None:
        super().__init__()
        self._shows_details = shows_details
        self._details: Details | None = None
        self._tokens = 0
        self._reasoning: TaggedTokens | None = None

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:  # noqa: ARG002 - events are tokens: they are counted
        """Before the first event: ``tags`` that mark reasoning in an answer."""
        self._reasoning = None if tags is None else TaggedTokens(tags)

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        event = read(_reply, data)
        if event is None:
            return Edit.KEEP
        self._follow(event, now_us)
        return Edit.KEEP if event.details is None or self._shows_details else Edit.STRIP

    def _follow(self, event: Reply, now_us: int) -> None:
        if event.error:
            self.failed = True
        if event.token is not None:
            self._tokens += 1
            reasons = self._reasoning is not None and self._reasoning.see(event.token)
            if event.token.text and not event.token.special:
                self.spoke(now_us, answer=not reasons)
        if event.details is not None:
            self._details = event.details
        if event.details is not None or event.generated_text is not None:
            self.finished = self.done = True

    def usage(self) -> TokenUsage:
        """The counts of the last event; before it, one token for each event."""
        details = self._details or Details()
        output = count(details.generated_tokens, Provenance.REPORTED, _GENERATED)
        if output.value is None and self._tokens:
            output = Count(self._tokens, Provenance.RUNNING, "tokens in the stream's events")
        usage = TokenUsage(
            input=count(details.input_length, Provenance.REPORTED, "details.input_length"), output=output
        )
        if self._reasoning is None:
            return usage
        return clamp(msgspec.structs.replace(usage, reasoning=self._reasoning.count()))

    def strip(self, data: bytes) -> bytes:
        """An event's data as it comes when no details were asked for: ``details`` is null there."""
        members = _members_of(data)
        return (
            without(data, {"details"})
            if members is None
            else msgspec.json.encode(members | {"details": _NULL})
        )


class TgiReplyMeter(ReplyMeter):
    """Reads the counts of a whole reply: an object, or on the root path a list of one.

    ``best_of`` sequences were generated, of which the reply shows the best; all of them are counted.
    """

    __slots__ = ("_best_of", "_headers", "_reply", "_shows_details", "_tags")

    def __init__(self, body: bytes, *, best_of: int = 1, shows_details: bool = False) -> None:
        listed = _listed(body)
        self._reply = (read(_reply, bytes(listed[0]) if listed else body)) or Reply()
        self._best_of = best_of
        self._shows_details = shows_details
        self._headers: dict[bytes, int] = {}
        self._tags: Tags | None = None

    @property
    def response_id(self) -> str | None:
        """TGI gives its replies no id."""
        return None

    @property
    def response_model(self) -> str | None:
        """TGI names no model."""
        return None

    def heard(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The reply's headers, names in lower case: the prompt's count stands nowhere else."""
        for name, value in headers:
            if name in {INPUT_HEADER, OUTPUT_HEADER} and value.isdigit() and len(value) < 20:  # noqa: PLR2004 - digits of 64 bits
                self._headers[name] = int(value)

    def usage(self) -> TokenUsage:
        """The counts that the reply and its headers report; unknown ones where they report none."""
        told = self._reply.details.input_length if self._reply.details else None
        reported = count(told, Provenance.REPORTED, "details.input_length")
        usage = TokenUsage(
            input=reported if reported.value is not None else self._header(INPUT_HEADER),
            output=self._output(),
        )
        if self._tags is None:
            return usage
        return clamp(msgspec.structs.replace(usage, reasoning=self._reasoning(self._tags)))

    def split_reasoning(self, tags: Tags) -> None:
        """Take ``tags`` for what marks reasoning in an answer."""
        self._tags = tags

    def _reasoning(self, tags: Tags) -> Count:
        """Of the tokens that ``details`` lists; of several sequences only the best is listed, so then it is unknown."""
        if self._best_of > 1 or self._reply.details is None:
            return UNKNOWN
        tagged = TaggedTokens(tags)
        for token in read_each(_tokens, Token, bytes(self._reply.details.tokens)) or []:
            tagged.see(token)
        return tagged.count()

    def _output(self) -> Count:
        details = self._reply.details or Details()
        sequences = [
            details.generated_tokens,
            *(each.generated_tokens for each in details.best_of_sequences or []),
        ]
        counts = [count(tokens, Provenance.REPORTED, _GENERATED) for tokens in sequences]
        total = added([each for each in counts if each.value is not None], max(self._best_of, len(counts)))
        # The header counts the best sequence only.
        return self._header(OUTPUT_HEADER) if total.value is None and self._best_of == 1 else total

    def _header(self, name: bytes) -> Count:
        return count(self._headers.get(name), Provenance.REPORTED, f"header {name.decode()}")

    def stripped(self, body: bytes) -> bytes:
        """The reply without the details that only metering asked for."""
        if self._shows_details:
            return body
        listed = _listed(body)
        if listed is None:
            return _without_details(body)
        shown = [_without_details(bytes(each)) for each in listed]
        # A list of which nothing is taken passes as it was written, its blanks too.
        if shown == [bytes(each) for each in listed]:
            return body
        return msgspec.json.encode([msgspec.Raw(each) for each in shown])


def _without_details(body: bytes) -> bytes:
    members = _members_of(body)
    if members is None or "details" not in members:
        return body
    return msgspec.json.encode({name: value for name, value in members.items() if name != "details"})


def _members_of(data: bytes) -> Members | None:
    try:
        return _decode_members(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _listed(body: bytes) -> list[msgspec.Raw] | None:
    """The elements of a reply that is a list."""
    if not is_array(body):
        return None
    try:
        return _decode_list(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
