"""Counts the tokens of one reply as it passes, and says which of its bytes the client must not see.

A meter holds counts and instants only, never text (P13). Instants are microseconds; the caller supplies them.
"""

from enum import Enum, auto

import msgspec

from billing.tokens.dialects.openai import Call, Operation
from billing.tokens.engines import Engine
from billing.tokens.payload import Choice, Reply, Timings, Usage, decode, usage_of, usage_of_timings
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.sse import DONE
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage, clamp

CHOICES_TRACKED_MAX = 128


class Edit(Enum):
    """What becomes of an event on its way to the client."""

    KEEP = auto()
    STRIP = auto()
    """Take out the members that only metering asked for."""
    DROP = auto()
    """The event exists only because metering asked for it."""
    TERMINAL = auto()
    """``[DONE]``: the record must be on disk before it leaves (P2)."""


_ENVELOPE = frozenset({"id", "object", "created", "model", "choices", "usage", "timings", "metrics", "system_fingerprint",
                       "service_tier", "prompt_token_ids", "prompt_text"})  # fmt: skip
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = (b"null", b"false")
_ABSENT = msgspec.Raw()


class StreamMeter:
    """Follows the events of one stream. ``see`` each event's data in order, then read ``usage`` and the latencies."""

    __slots__ = (
        "_call", "_engine", "_finished", "_latest", "_outputs", "_reasoning", "_reported", "_running", "done", "failed", "finished",
        "first_token_us", "last_token_us", "response_id", "response_model",
    )  # fmt: skip

    def __init__(self, engine: Engine, call: Call) -> None:
        self._engine = engine
        self._call = call
        self._reported: Usage | None = None
        # The last running counts stay as the engine wrote them: making counts with a provenance of each event's numbers
        # would cost more than decoding it. `_running` holds what they no longer say.
        self._latest: Timings | Usage | None = None
        self._running: TokenUsage | None = None
        self._outputs: dict[int, int] = {}
        self._finished: set[int] = set()
        self._reasoning = ReasoningCounter()
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.first_token_us: int | None = None
        self.last_token_us: int | None = None
        self.finished = False
        """Every choice asked for may go on, but at least one has given its ``finish_reason``: usage is on its way."""
        self.failed = False
        """The engine sent an error inside the stream."""
        self.done = False

    def __repr__(self) -> str:
        state = (
            "done" if self.done else "failed" if self.failed else "finished" if self.finished else "running"
        )
        return f"<StreamMeter {self._engine.name} {state} output={self.usage().output}>"

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        if data == DONE:
            self.done = True
            return Edit.TERMINAL
        reply = decode(data)
        if reply is None:
            return Edit.KEEP
        self._follow(reply, now_us)
        return self._edit(reply, data)

    def usage(self) -> TokenUsage:
        """The counts as known now: the engine's final usage if it came, else its last running counts."""
        if self._reported is not None:
            reported = _filled(usage_of(self._reported, Provenance.REPORTED), self._counted())
            if self._call.prompts > 1:
                reported = _without_cached(reported)
            return clamp(self._with_reasoning(reported))
        return clamp(self._with_reasoning(self._counted() or TokenUsage()))

    def itl_us(self) -> int | None:
        """Mean time per output token after the first, (last − first) / (n − 1); None below two tokens."""
        output = self.usage().output.value
        if self.first_token_us is None or self.last_token_us is None or output is None or output < 2:  # noqa: PLR2004 - one gap needs two tokens
            return None
        return (self.last_token_us - self.first_token_us) // (output - 1)

    def _follow(self, reply: Reply, now_us: int) -> None:
        self.response_id = self.response_id or reply.id
        self.response_model = self.response_model or reply.model
        self.failed = self.failed or (reply.error != _ABSENT and bytes(reply.error) not in _NULL)
        counter = self._count(reply)
        reasons = speaks = False
        for choice in reply.choices:
            if choice.finish_reason is not None:
                self._finish(choice.index)
            reasons = reasons or _reasons(choice)
            speaks = speaks or reasons or _speaks(choice)
        self._reasoning.see(counter, reasoning=reasons)
        if speaks:
            self.last_token_us = now_us
            if self.first_token_us is None:
                self.first_token_us = now_us

    def _finish(self, index: int) -> None:
        if len(self._finished) < CHOICES_TRACKED_MAX:
            self._finished.add(index)
        self.finished = len(self._finished) >= min(
            self._call.choices * self._call.prompts, CHOICES_TRACKED_MAX
        )

    def _count(self, reply: Reply) -> int | None:
        """Take the event's counts; its cumulative output counter, None when it carries none."""
        counter = None
        if reply.timings is not None and self._engine.timings:
            self._advance(reply.timings)
            counter = reply.timings.predicted_n
        usage = reply.usage
        if usage is None or usage.empty:
            return counter
        if not reply.choices or not self._engine.continuous_usage:
            self._reported = usage
        elif self._call.choices == 1 and self._call.prompts == 1:
            self._advance(usage)
            counter = usage.completion_tokens
        else:
            self._running = _later(self._running, self._running_of(usage, reply.choices))
        return counter

    def _advance(self, present: Timings | Usage) -> None:
        """Cumulative counts go on; what the present ones do not continue is kept beside them."""
        if self._latest is not None and not present.continues(self._latest):
            self._running = _later(self._running, _counts(self._latest))
        self._latest = present

    def _counted(self) -> TokenUsage | None:
        """The running counts so far: cumulative counts never go down, and a missing one does not erase a known one."""
        return self._running if self._latest is None else _later(self._running, _counts(self._latest))

    def _running_of(self, usage: Usage, choices: list[Choice]) -> TokenUsage:
        """The engine counts each choice apart while it runs: the prompt once, the choices' last values added up."""
        running = usage_of(usage, Provenance.RUNNING)
        for choice in choices:
            if len(self._outputs) < CHOICES_TRACKED_MAX or choice.index in self._outputs:
                tokens = running.output.value or 0
                self._outputs[choice.index] = max(self._outputs.get(choice.index, 0), tokens)
        method = "usage.completion_tokens, last of each choice"
        total = sum(self._outputs.values())
        known = self._call.choices * self._call.prompts <= CHOICES_TRACKED_MAX and total <= COUNT_MAX
        output = Count(total, Provenance.RUNNING, method) if known else UNKNOWN
        return TokenUsage(input=running.input if self._call.prompts == 1 else UNKNOWN, output=output)

    def _with_reasoning(self, usage: TokenUsage) -> TokenUsage:
        """Reasoning as reported, unless nothing or a doubtful 0 was reported and reasoning text was seen."""
        doubtful = usage.reasoning.value is None or (usage.reasoning.value == 0 and self._reasoning.seen)
        if not doubtful or self._call.operation is not Operation.CHAT or self._call.choices > 1:
            return usage
        counted = self._reasoning.count()
        return msgspec.structs.replace(usage, reasoning=counted) if counted.value is not None else usage

    def _edit(self, reply: Reply, data: bytes) -> Edit:
        hides_timings = reply.timings is not None and not self._call.timings_asked
        if reply.usage is None or not reply.choices:
            hides_usage = reply.usage is not None and not self._call.usage_asked
            if hides_usage and _holds_only_usage(data):
                return Edit.DROP
            return Edit.STRIP if hides_usage or hides_timings else Edit.KEEP
        keeps_usage = self._call.usage_asked and (
            self._call.continuous_usage_asked or not self._engine.continuous_usage
        )
        return Edit.KEEP if keeps_usage and not hides_timings else Edit.STRIP

    def strip(self, data: bytes) -> bytes:
        """An event's data without the members that the client did not ask for; every other member's bytes stay."""
        members = _members_of(data)
        if members is None:
            return data
        if not self._call.timings_asked:
            members.pop("timings", None)
        keeps_usage = self._call.usage_asked and (
            self._call.continuous_usage_asked
            or not self._engine.continuous_usage
            or members.get("choices") == msgspec.Raw(b"[]")
        )
        if not keeps_usage:
            members.pop("usage", None)
        return msgspec.json.encode(members)


class ReplyMeter:
    """Reads the counts of one whole, not streamed reply."""

    __slots__ = ("_engine", "_prompts", "_reply")

    def __init__(self, engine: Engine, body: bytes, prompts: int = 1) -> None:
        self._engine = engine
        self._prompts = prompts
        self._reply = decode(body)

    def __repr__(self) -> str:
        return f"<ReplyMeter {self._engine.name} {self.usage().output}>"

    @property
    def response_id(self) -> str | None:
        """The engine's id of the reply."""
        return self._reply.id if self._reply else None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._reply.model if self._reply else None

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        if self._reply is None:
            return TokenUsage()
        timings = self._reply.timings if self._engine.timings else None
        counted = usage_of_timings(timings) if timings is not None else TokenUsage()
        if self._reply.usage is None or self._reply.usage.empty:
            return clamp(counted)
        usage = _filled(usage_of(self._reply.usage, Provenance.REPORTED), counted)
        if self._prompts > 1:
            usage = _without_cached(usage)
        if usage.reasoning.value == 0 and self._text():
            usage = msgspec.structs.replace(usage, reasoning=UNKNOWN)
        return clamp(usage)

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; None when the count is reported or there is no such text."""
        if self._reply is None or self._engine.reasoning_reported or self._engine.tokenize_path is None:
            return None
        return self._text() or None

    def _text(self) -> str:
        messages = [choice.message for choice in self._reply.choices if choice.message] if self._reply else []
        return "".join(message.reasoning_content or message.reasoning or "" for message in messages)


def _counts(latest: Timings | Usage) -> TokenUsage:
    return usage_of_timings(latest) if isinstance(latest, Timings) else usage_of(latest, Provenance.RUNNING)


def _filled(usage: TokenUsage, other: TokenUsage | None) -> TokenUsage:
    """The same usage; what it does not know taken from another one."""
    if other is None:
        return usage
    pairs = zip(
        usage.__struct_fields__, msgspec.structs.astuple(usage), msgspec.structs.astuple(other), strict=True
    )
    return TokenUsage(**{name: mine if mine.value is not None else theirs for name, mine, theirs in pairs})


def _without_cached(usage: TokenUsage) -> TokenUsage:
    """Of several prompts the engine reports the last one's cached tokens only (protocols.md §2): nobody knows the sum."""
    return msgspec.structs.replace(usage, cached_input=UNKNOWN, cache_write=UNKNOWN)


def _later(earlier: TokenUsage | None, present: TokenUsage) -> TokenUsage:
    """Cumulative counts never go down and a missing one does not erase a known one."""
    if earlier is None:
        return present
    return TokenUsage(
        input=_larger(earlier.input, present.input),
        cached_input=_larger(earlier.cached_input, present.cached_input),
        cache_write=_larger(earlier.cache_write, present.cache_write),
        output=_larger(earlier.output, present.output),
        reasoning=_larger(earlier.reasoning, present.reasoning),
    )


def _larger(earlier: Count, present: Count) -> Count:
    if present.value is None or (earlier.value is not None and earlier.value > present.value):
        return earlier
    return present


def _reasons(choice: Choice) -> bool:
    return choice.delta is not None and bool(choice.delta.reasoning_content or choice.delta.reasoning)


def _speaks(choice: Choice) -> bool:
    if choice.delta is not None:
        return bool(choice.delta.content) or bytes(choice.delta.tool_calls) not in {b"", b"null", b"[]"}
    return bool(choice.text)


def _holds_only_usage(data: bytes) -> bool:
    """Whether an event without choices holds nothing a client could want (Azure's filter results, say)."""
    members = _members_of(data)
    return members is not None and members.keys() <= _ENVELOPE


def _members_of(data: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _decode_members(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
