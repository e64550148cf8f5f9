"""Counts the replies of Triton's generate extension (triton-inference-server/server@e1db8a60 ``src/http_server.cc``).

A reply's members are the model's output tensors; a tensor of one element stands there as that element. Those with counts
come only from models that have them, when they are asked for. ``num_output_tokens`` counts what this reply or event adds,
an element for each sequence (vllm_backend ``docs/additional_outputs.md``, TensorRT-LLM ``triton_backend``).
"""

from typing import Any

import msgspec

from billing.tokens.members import Members
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.salvage import members_as_written, read, without
from billing.tokens.usage import COUNT_MAX, Count, Provenance, TokenUsage

INPUT = "num_input_tokens"
OUTPUT = "num_output_tokens"


class Reply(msgspec.Struct, frozen=True):
    """A whole reply, or one event of a stream. The ``id`` in it is the client's own and tells no reply from another."""

    model_name: str | None = None
    text_output: Any = None
    num_input_tokens: Any = None
    num_output_tokens: Any = None
    error: Any = None


_reply = msgspec.json.Decoder(Reply)
_decode_members = msgspec.json.Decoder(Members).decode


class TritonStreamMeter(StreamMeter):
    """Follows a stream of replies; ``hidden`` are the members that only metering asked for.

    Nothing in it says that it ends: it is whole when the body ended as its framing promised, so ``finished`` stands from
    the first event on.
    """

    __slots__ = ("_hidden", "_input", "_output", "_silent")

    def __init__(self, hidden: frozenset[str]) -> None:
        super().__init__()
        self._hidden = hidden
        self._input: int | None = None
        self._output: int | None = None
        self._silent = False
        """Whether text came without its count."""

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        reply = read(_reply, data)
        if reply is None:
            return Edit.KEEP
        self._follow(reply, now_us)
        return Edit.STRIP if _holds(reply, self._hidden) else Edit.KEEP

    def _follow(self, reply: Reply, now_us: int) -> None:
        if self.response_model is None:
            self.response_model = reply.model_name
        if reply.error:
            self.failed = True
            return
        self.finished = True
        told, added = _sum(reply.num_input_tokens), _sum(reply.num_output_tokens)
        if told is not None:
            self._input = max(told, self._input or 0)
        if added is not None:
            self._output = added + (self._output or 0)
        if _has_text(reply.text_output):
            self._silent = self._silent or added is None
            self.spoke(now_us, answer=True)

    def usage(self) -> TokenUsage:
        """The counts so far."""
        output = count(self._output, Provenance.RUNNING, f"{OUTPUT} of the events added up")
        if self._silent and output.value is not None:
            output = Count(output.value, Provenance.ESTIMATED, f"{OUTPUT} of some events, others had none")
        return TokenUsage(input=count(self._input, Provenance.REPORTED, INPUT), output=output)

    def strip(self, data: bytes) -> bytes:
        """An event's data without the counts that the client did not ask for."""
        return _without(data, self._hidden)


class TritonReplyMeter(ReplyMeter):
    """Reads the counts of a whole reply. ``prompt`` is the text asked about where the reply may repeat it, else ``""``.

    TensorRT-LLM then counts the prompt's tokens as generated ones, and vLLM does not: which it was, no reply says.
    """

    __slots__ = ("_hidden", "_prompt", "_reply")

    def __init__(self, body: bytes, hidden: frozenset[str], prompt: str = "") -> None:
        self._reply = read(_reply, body) or Reply()
        self._hidden = hidden
        self._prompt = prompt

    @property
    def response_id(self) -> str | None:
        """Triton gives its replies no id of its own."""
        return None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._reply.model_name

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        told = count(_sum(self._reply.num_input_tokens), Provenance.REPORTED, INPUT)
        output = count(_sum(self._reply.num_output_tokens), Provenance.REPORTED, OUTPUT)
        if output.value is not None and output.value > (told.value or 0) and self._repeats():
            output = Count(
                output.value, Provenance.ESTIMATED, f"{OUTPUT}, which may hold the prompt that is repeated"
            )
        return TokenUsage(input=told, output=output)

    def _repeats(self) -> bool:
        texts = self._reply.text_output
        first = texts[0] if isinstance(texts, list) and texts else texts
        return bool(self._prompt) and isinstance(first, str) and first.startswith(self._prompt)

    def stripped(self, body: bytes) -> bytes:
        """The reply without the counts that only metering asked for."""
        return _without(body, self._hidden) if _holds(self._reply, self._hidden) else body


def _sum(value: object) -> int | None:
    """A count, or one for each sequence added up; None when any of it is no count."""
    counts = value if isinstance(value, list) else [value]
    if not counts or not all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= COUNT_MAX for each in counts
    ):
        return None
    return sum(counts)


def _has_text(texts: object) -> bool:
    return any(texts) if isinstance(texts, list) else bool(texts)


def _holds(reply: Reply, hidden: frozenset[str]) -> bool:
    return (INPUT in hidden and reply.num_input_tokens is not None) or (
        OUTPUT in hidden and reply.num_output_tokens is not None
    )


def _without(data: bytes, hidden: frozenset[str]) -> bytes:
    members = members_as_written(data)
    if members is None:
        return without(data, hidden)
    return msgspec.json.encode({name: value for name, value in members.items() if name not in hidden})
