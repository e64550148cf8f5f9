"""Makes llama.cpp's native whole reply out of its stream, byte for byte but for the numbers that measure time.

A stream's final event is the whole reply with three differences: its text and tokens stand in the partial events, so do the
probabilities, and the echoed settings say that it was streamed.
"""

from typing import Any

import msgspec

from billing.tokens.assembler import STATUS_ENGINE_ERROR, STATUS_OK, Assembler
from billing.tokens.dialects.llama_cpp_fields import RawMembers, View, decode_members, with_setting
from billing.tokens.salvage import read
from billing.tokens.tally import ANSWERS_MAX

_PROBABILITIES = "completion_probabilities"
_FALSE = msgspec.Raw(b"false")


class Piece(msgspec.Struct, frozen=True):
    """What a partial event adds to its answer."""

    index: int = 0
    content: str | None = None
    tokens: list[int] | None = None
    completion_probabilities: list[msgspec.Raw] | None = None
    stop: bool | None = None
    prompt_progress: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(Piece)


class Parts:
    """One answer as it comes."""

    __slots__ = ("content", "final", "probabilities", "tokens")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.tokens: list[int] = []
        self.probabilities: list[msgspec.Raw] = []
        self.final: RawMembers | None = None

    def __repr__(self) -> str:
        return f"<Parts {len(self.content)} pieces{' final' if self.final is not None else ''}>"


class NativeAssembler(Assembler):
    """Collects the answers of one stream; ``expected`` of them make an array, one alone does not."""

    __slots__ = ("_answers", "_error", "_expected", "_size", "_tokens", "_view")

    def __init__(self, view: View, expected: int, *, tokens: bool) -> None:
        self._view = view
        self._expected = expected
        self._tokens = tokens
        self._answers: dict[int, Parts] = {}
        self._error: bytes | None = None
        self._size = 0

    def __repr__(self) -> str:
        return f"<NativeAssembler {len(self._answers)} of {self._expected}, {self._size} B>"

    def feed(self, data: bytes) -> None:
        """One event's data, in order; what is no event of the reply is passed over."""
        piece = read(_decoder, data)
        if piece is None:
            return
        self._size += len(data)
        if piece.error:
            self._error = data
        # Progress of the prompt carries the token 0, which nobody generated.
        elif piece.prompt_progress is not None:
            return
        elif piece.index in self._answers or len(self._answers) < ANSWERS_MAX:
            self._add(self._answers.setdefault(piece.index, Parts()), piece, data)

    def size(self) -> int:
        """Bytes held so far."""
        return self._size

    def status(self) -> int:
        """The status to answer with: 200, or 500 after an error which ended the stream."""
        return STATUS_OK if self._error is None else STATUS_ENGINE_ERROR

    @property
    def whole(self) -> bool:
        """Whether every answer has ended."""
        return sum(parts.final is not None for parts in self._answers.values()) >= self._expected

    def body(self) -> bytes:
        """The whole reply as JSON text, an engine's error in its own shape; call it at the end of the stream."""
        if self._error is not None:
            return self._error
        replies = [self._reply(self._answers[index]) for index in sorted(self._answers)]
        return msgspec.json.encode(replies[0] if self._expected == 1 and replies else replies)

    def _add(self, parts: Parts, piece: Piece, data: bytes) -> None:
        if piece.stop is True:
            try:
                parts.final = decode_members(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return
        parts.content.append(piece.content or "")
        parts.tokens += piece.tokens or []
        parts.probabilities += piece.completion_probabilities or []

    def _reply(self, parts: Parts) -> RawMembers:
        """The final object of one answer: that of its stream, completed."""
        members = dict(parts.final or {})
        wanted = self._view.fields
        if "content" in members or not wanted:
            members["content"] = _raw("".join(parts.content))
        if self._tokens and ("tokens" in members or not wanted):
            members["tokens"] = _raw(parts.tokens)
        if parts.probabilities and (not wanted or _PROBABILITIES in wanted):
            members[_PROBABILITIES] = _raw(parts.probabilities)
        members = self._view.of_final(_unstreamed(members), stream=True)
        return (
            {name: members[name] for name in wanted if name in members}
            if _PROBABILITIES in wanted
            else members
        )


def _unstreamed(members: RawMembers) -> RawMembers:
    """The echoed settings of a reply that was not streamed, as its client asked for it."""
    if "generation_settings/stream" in members:
        members["generation_settings/stream"] = _FALSE
    settings = members.get("generation_settings")
    if settings is not None:
        members["generation_settings"] = with_setting(settings, "stream", _FALSE)
    return members


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
