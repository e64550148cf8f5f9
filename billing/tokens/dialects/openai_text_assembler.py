"""Makes a whole chat completion or completion out of its stream, as the engine would have sent it.

Some engines count several choices and prompts only in a stream, and only a stream tells how far an engine came when its
client hangs up. What the pieces add up to was measured on llama.cpp's server, reply against reply, and compared with
recordings of vLLM and transformers serve.
"""

from typing import Any

import msgspec

from billing.tokens.assembler import Assembler
from billing.tokens.dialects.openai_text_assembler_parts import (
    CHOICE,
    MEMBER_BYTES,
    NULL,
    PLAIN,
    Parts,
    Pieces,
    elements_of,
    index_of,
    members_of,
)
from billing.tokens.engines import Engine, Merge
from billing.tokens.operation import Operation

STATUS_OK = 200
STATUS_UNKNOWN_ERROR = 500
"""The status of an error that names none, as engines answer one when no stream was asked for."""
_ERRORS = range(400, 600)
_no_error = (NULL, b"false", b'""', b"{}")
_object = msgspec.json.Decoder(dict[str, Any]).decode


class TextAssembler(Assembler):
    """Takes the events of one stream of ``chat.completion.chunk`` or ``text_completion``.

    ``choices`` is how many the engine makes of each of the ``prompts``. It holds text (P13): see ``size``.
    """

    __slots__ = (
        "_answers", "_by_index", "_choices", "_ended", "_error", "_finished", "_prompts", "_shape", "_size", "_top",
        "_usages",
    )  # fmt: skip

    def __init__(self, engine: Engine, operation: Operation, choices: int = 1, prompts: int = 1) -> None:
        self._shape = engine.whole.chat if operation is Operation.CHAT else engine.whole.completions
        self._choices = choices
        self._prompts = prompts
        merge = engine.prompts if prompts > 1 else engine.choices
        self._by_index = choices * prompts > 1 and merge in {Merge.PER_CHOICE, Merge.PER_PROMPT}
        """Whether usage is said of each choice by itself."""
        self._top = Parts(PLAIN)
        self._answers: dict[int, Parts] = {}
        self._usages: dict[int, bytes] = {}
        self._finished: set[int] = set()
        self._ended = 0
        self._error: bytes | None = None
        self._size = 0

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "whole" if self.whole else "growing"
        return f"<TextAssembler {state} {len(self._finished)} of {self._choices * self._prompts} choices, {self._size} B>"

    def feed(self, data: bytes) -> None:
        """One event's data, in order; what is no event of the reply is passed over."""
        members = members_of(data)
        if members is None or self._error is not None:
            return
        if _is_error(members):
            self._error = bytes(data)
            self._size += len(data)
            return
        choices = elements_of(members.pop("choices", msgspec.Raw(b"[]")))
        self._count(members, (index_of(choices[0]) or 0) if choices else self._ended)
        for name in ("object", "error"):
            members.pop(name, None)
        self._size += self._top.feed(members)
        for pieces in choices:
            self._choose(pieces)

    def size(self) -> int:
        """Bytes held so far, and what holding them costs."""
        return self._size

    def status(self) -> int:
        """The status to answer with: 200, or that of the error which ended the stream."""
        return STATUS_OK if self._error is None else _status(self._error)

    @property
    def whole(self) -> bool:
        """Whether every choice that was asked for has said why it ended; without that the reply is broken off."""
        return len(self._finished) >= self._choices * self._prompts

    def body(self) -> bytes:
        """The whole reply as JSON text, an engine's error in its own shape; call it at the end of the stream."""
        if self._error is not None:
            return self._error
        shape = self._shape["choices"][0]
        choices = b",".join(self._answers[index].whole(shape) for index in sorted(self._answers))
        return self._top.whole(self._shape, choices=b"[%b]" % choices, usage=self._usage())

    def _choose(self, pieces: Pieces) -> None:
        """A piece of one choice; a choice of the second prompt goes on counting after those of the first."""
        index = index_of(pieces) or 0
        answer = self._answers.get(index)
        if answer is None:
            answer = self._answers[index] = Parts(CHOICE)
            self._size += MEMBER_BYTES
        if "delta" in pieces:
            pieces["message"] = pieces.pop("delta")
        self._size += answer.feed(pieces)
        if bytes(pieces.get("finish_reason", NULL)) != NULL:
            self._finished.add(index)
            self._ended = index

    def _count(self, members: Pieces, index: int) -> None:
        """Keep the usage of the choice that an event stands for; an event without one stands for the last that ended."""
        usage = bytes(members.pop("usage", NULL))
        if usage != NULL:
            key = index if self._by_index else 0
            self._size += len(usage) - len(self._usages.get(key, b""))
            self._usages[key] = usage
        if self._by_index and index:
            # An engine that tells the times of each choice writes those of the first into a whole reply.
            members.pop("timings", None)

    def _usage(self) -> bytes | None:
        """The usage of all choices; None when none or not all have said theirs."""
        if not self._by_index:
            return self._usages.get(0)
        if len(self._usages) < self._choices * self._prompts:
            return None
        try:
            usages = {index: _object(self._usages[index]) for index in sorted(self._usages)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return msgspec.json.encode(_added(usages, self._choices))


def _is_error(members: Pieces) -> bool:
    """Whether an event is an error: ``{"error": …}``, or the flat one of older vLLM and of SGLang."""
    return (
        bytes(members.get("error", NULL)) not in _no_error or bytes(members.get("object", NULL)) == b'"error"'
    )


def _status(error: bytes) -> int:
    """The status that an error names in ``code``, which engines write as a number or as its digits."""
    try:
        whole = _object(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return STATUS_UNKNOWN_ERROR
    named = whole.get("error")
    code = named.get("code") if isinstance(named, dict) else whole.get("code")
    if isinstance(code, str) and code.isdecimal() and code.isascii():
        code = int(code[:3])
    return code if type(code) is int and code in _ERRORS else STATUS_UNKNOWN_ERROR


def _added(usages: dict[int, dict[str, Any]], choices: int) -> dict[str, Any]:
    """One usage of those of all choices: each choice repeats its prompt, so prompts count once, completions add up."""
    firsts: dict[int, dict[str, Any]] = {}
    for index, usage in usages.items():
        firsts.setdefault(index // choices, usage)
    output = _sum(list(usages.values()))
    total = _sum(list(firsts.values()))
    total |= {name: value for name, value in output.items() if name.startswith("completion")}
    counts = [total.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if "total_tokens" in total and all(type(count) is int for count in counts):
        total["total_tokens"] = sum(count for count in counts if count is not None)
    return total


def _sum(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """Objects of numbers added up, member by member; of anything else the first says what it is."""
    return {name: _total([usage.get(name) for usage in usages]) for name in usages[0]}


def _total(values: list[Any]) -> Any:
    if all(type(value) is int for value in values):
        return sum(values)
    return _sum(values) if all(isinstance(value, dict) for value in values) else values[0]
