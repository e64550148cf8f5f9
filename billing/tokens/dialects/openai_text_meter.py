"""Counts the replies of chat completions, completions and embeddings, streamed and whole (protocols.md §1, §2, §3)."""

import re

import msgspec

from billing.tokens.engines import Engine, Merge, Says
from billing.tokens.merging import CHOICES_TRACKED_MAX, Several, filled, later, without_cached
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.operation import Operation
from billing.tokens.payload import Choice, Delta, Reply, Timings, Usage, decode, usage_of, usage_of_timings
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.reasoning_text import ReasoningText
from billing.tokens.sse import DONE
from billing.tokens.tags import Tags, split
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage, clamp


class Wish(msgspec.Struct, frozen=True):
    """What a client itself asked to be told in a stream: whatever else comes is taken out."""

    usage: bool = False
    """The usage event at the end."""
    continuous_usage: bool = False
    """Usage on every event (vLLM)."""
    timings: bool = False
    """Timings on every event (llama.cpp)."""


_ENVELOPE = frozenset({"id", "object", "created", "model", "choices", "usage", "timings", "metrics", "system_fingerprint",
                       "service_tier", "prompt_token_ids", "prompt_text", "obfuscation", "sla_metrics", "x_groq"})  # fmt: skip
"""What an event may hold beside its usage and still say nothing that a client who did not ask for usage could want."""
_NULL_USAGE = re.compile(rb'"usage"\s*:\s*null').search
_RAW_TAG = "<think"
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = (b"null", b"false")
_ABSENT = msgspec.Raw()


class TextStreamMeter(StreamMeter):
    """Follows a stream of ``chat.completion.chunk`` or ``text_completion`` events."""

    __slots__ = (
        "_choices", "_engine", "_finished", "_latest", "_may_reason", "_operation", "_prompts", "_reasoning", "_reasonings", "_reported",
        "_reports", "_running", "_several", "_tagged", "_text", "_wish",
    )  # fmt: skip

    def __init__(self, engine: Engine, operation: Operation, choices: int, prompts: int, wish: Wish) -> None:
        super().__init__()
        self._engine = engine
        self._operation = operation
        self._choices = choices
        self._prompts = prompts
        self._wish = wish
        self._reported: Usage | None = None
        # The last running counts stay as the engine wrote them: making counts with a provenance of each event's numbers
        # would cost more than decoding it. `_running` holds what they no longer say.
        self._latest: Timings | Usage | None = None
        self._running: TokenUsage | None = None
        self._reasoning = ReasoningCounter()
        self._finished: set[int] = set()
        merge = engine.prompts if prompts > 1 else engine.choices
        self._several = Several(merge, choices, prompts) if choices * prompts > 1 else None
        """The running counts of several choices or prompts."""
        self._reports = (
            Several(merge, choices, prompts) if merge is not Merge.LAST and self._several else None
        )
        """Their final counts, where the engine sends one usage for each."""
        self._reasonings: dict[int, ReasoningCounter] = {}
        self._may_reason = False
        """Whether the answer begins as raw reasoning does, of a model whose tags nobody has told us."""
        self._text: ReasoningText | None = None
        """There where reasoning text is kept or marked by tags."""
        self._tagged = False

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:
        """Before the first event: ``keeps`` the text of reasoning for a tokenizer; ``tags`` that mark it in an answer."""
        self._text = ReasoningText(keeps=keeps, tags=tags)
        self._tagged = tags is not None

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        if data == DONE:
            self.done = True
            return Edit.KEEP
        reply = decode(data)
        if reply is None:
            return Edit.KEEP
        self._follow(reply, now_us)
        return self._edit(reply, data)

    def usage(self) -> TokenUsage:
        """The counts as known now: the engine's final usage if it came, else its last running counts."""
        counted = self._counted()
        if self._reports is not None and not self._reports.empty:
            final = self._reports.usage()
            # Without the usage of every choice the running counts say more.
            usage = filled(final, counted) if self._reports.whole else later(counted, final)
        elif self._reported is not None:
            # Cumulative counts never go down, not even at the end.
            usage = filled(later(counted, usage_of(self._reported, Provenance.REPORTED)), counted)
            if self._prompts > 1:
                usage = without_cached(usage)
        else:
            usage = counted or TokenUsage()
        return clamp(self._with_reasoning(usage))

    def _follow(self, reply: Reply, now_us: int) -> None:
        if self.response_id is None:
            self.response_id = reply.id
            self.response_model = reply.model
        if reply.error != _ABSENT and bytes(reply.error) not in _NULL:
            self.failed = True
        reasons = answers = False
        for choice in reply.choices:
            if choice.finish_reason:
                self._finish(choice.index)
            if self._text is None:
                reasons = reasons or _reasons(choice)
                answers = answers or _answers(choice)
            else:
                heard = self._hear(choice, self._text)
                reasons, answers = reasons or heard[0], answers or heard[1]
        counter = self._count(reply, reasons=reasons)
        if counter is not None and self._text is not None:
            # The counter counts reasoning exactly: no text is needed.
            self._text.forget()
        self._reasoning.see(counter, reasoning=reasons)
        if reasons or answers:
            if answers and self.first_answer_us is None:
                self._may_reason = _begins_raw(reply.choices)
            self.spoke(now_us, answer=answers)

    def _hear(self, choice: Choice, text: ReasoningText) -> tuple[bool, bool]:
        """Whether a choice's event reasons and answers, told apart by tags where there are some."""
        delta = choice.delta or Delta(content=choice.text)
        heard = text.see(choice.index, delta.reasoning_content or delta.reasoning or "", delta.content or "")
        if heard.reclaims:
            self.first_answer_us = None
            self._reasoning.reclaim()
            if choice.index in self._reasonings:
                self._reasonings[choice.index].reclaim()
        return heard.reasons, heard.answers or _calls(delta)

    def _finish(self, index: int) -> None:
        if len(self._finished) < CHOICES_TRACKED_MAX:
            self._finished.add(index)
        self.finished = len(self._finished) >= min(self._choices * self._prompts, CHOICES_TRACKED_MAX)

    def _count(self, reply: Reply, *, reasons: bool) -> int | None:
        """Take the event's counts; its cumulative output counter, None when it carries none."""
        if self._several is not None:
            self._count_several(self._several, reply, reasons=reasons)
            return None
        counter = None
        if reply.timings is not None and self._engine.timings:
            self._advance(reply.timings)
            counter = reply.timings.predicted_n
        usage = reply.usage
        if usage is None or usage.empty:
            return counter
        if not reply.choices or not self._engine.continuous_usage:
            self._reported = usage
            return counter
        self._advance(usage)
        return usage.completion_tokens

    def _count_several(self, several: Several, reply: Reply, *, reasons: bool) -> None:
        """The same of an event that stands for one of several choices."""
        index = reply.choices[0].index if reply.choices else None
        running: TokenUsage | None = None
        if reply.timings is not None and self._engine.timings and index is not None:
            running = usage_of_timings(reply.timings)
        usage = reply.usage
        if usage is not None and not usage.empty:
            if index is not None and self._engine.continuous_usage:
                running = usage_of(usage, Provenance.RUNNING)
            elif self._reports is not None:
                self._reports.add(usage_of(usage, Provenance.REPORTED))
            else:
                self._reported = usage
        if index is None:
            return
        if running is not None:
            several.see(index, running)
        if len(self._reasonings) < CHOICES_TRACKED_MAX or index in self._reasonings:
            counter = None if running is None else running.output.value
            self._reasonings.setdefault(index, ReasoningCounter()).see(counter, reasoning=reasons)

    def _advance(self, present: Timings | Usage) -> None:
        """Cumulative counts go on; what the present ones do not continue is kept beside them."""
        if self._latest is not None and not present.continues(self._latest):
            self._running = later(self._running, _counts(self._latest))
        self._latest = present

    def _counted(self) -> TokenUsage | None:
        """The running counts so far: cumulative counts never go down, and a missing one does not erase a known one."""
        if self._several is not None:
            return None if self._several.empty else self._several.usage()
        return self._running if self._latest is None else later(self._running, _counts(self._latest))

    def _with_reasoning(self, usage: TokenUsage) -> TokenUsage:
        """Reasoning as reported, unless nothing or a doubtful 0 was reported and reasoning text was seen."""
        if self._operation is not Operation.CHAT and not self._tagged:
            return usage
        seen = self._reasoning.seen
        if usage.reasoning.value and self._engine.reasoning is not Says.NO:
            return usage
        if usage.reasoning.value == 0 and not seen:
            return usage
        counted = self._reasoning_counted()
        if counted.value is not None or usage.reasoning.value is not None:
            return msgspec.structs.replace(usage, reasoning=counted)
        return usage

    def _reasoning_counted(self) -> Count:
        if self._may_reason and not self._reasoning.seen:
            return UNKNOWN
        if self._several is None:
            return self._reasoning.count()
        if len(self._reasonings) < self._choices * self._prompts:
            return UNKNOWN
        total = 0
        for counter in self._reasonings.values():
            count = counter.count()
            if count.value is None:
                return UNKNOWN
            total += count.value
        return Count(total, Provenance.RUNNING, "output counter over the reasoning deltas of each choice")

    def reasoning_text(self) -> str | None:
        """The kept reasoning text; None when the count is known, when there is no such text, or not all of it was kept."""
        if self._text is None or self.usage().reasoning.value is not None:
            return None
        return self._text.text()

    def forget(self) -> None:
        """Drop the text that is kept (P13)."""
        if self._text is not None:
            self._text.forget()

    def _edit(self, reply: Reply, data: bytes) -> Edit:
        wish = self._wish
        hides_timings = reply.timings is not None and not wish.timings
        if reply.usage is None or not reply.choices:
            # OpenAI writes null on every other event once usage is asked for: that too is there because we asked.
            is_null = reply.usage is None and self._engine.nulls_usage and _NULL_USAGE(data) is not None
            hides_usage = (reply.usage is not None or is_null) and not wish.usage
            if hides_usage and not is_null and _holds_only_usage(data):
                return Edit.DROP
            return Edit.STRIP if hides_usage or hides_timings else Edit.KEEP
        keeps_usage = wish.usage and (wish.continuous_usage or not self._engine.continuous_usage)
        return Edit.KEEP if keeps_usage and not hides_timings else Edit.STRIP

    def strip(self, data: bytes) -> bytes:
        """An event's data without the members that the client did not ask for; every other member's bytes stay."""
        members = _members_of(data)
        if members is None:
            return data
        wish = self._wish
        if not wish.timings:
            members.pop("timings", None)
        keeps_usage = wish.usage and (
            wish.continuous_usage
            or not self._engine.continuous_usage
            or members.get("choices") == msgspec.Raw(b"[]")
        )
        if not keeps_usage:
            members.pop("usage", None)
        return msgspec.json.encode(members)


class TextReplyMeter(ReplyMeter):
    """Reads the counts of one ``chat.completion``, ``text_completion`` or list of embeddings."""

    __slots__ = ("_engine", "_prompts", "_reply", "_tags")

    def __init__(self, engine: Engine, body: bytes, prompts: int = 1) -> None:
        self._engine = engine
        self._prompts = prompts
        self._reply = decode(body)
        self._tags: Tags | None = None

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
        counted = usage_of_timings(timings) if timings is not None else None
        if self._reply.usage is None or self._reply.usage.empty:
            return clamp(counted or TokenUsage())
        usage = filled(usage_of(self._reply.usage, Provenance.REPORTED), counted)
        if self._prompts > 1:
            usage = without_cached(usage)
        if usage.reasoning.value == 0 and self._text():
            usage = msgspec.structs.replace(usage, reasoning=UNKNOWN)
        return clamp(usage)

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; None when the count is reported or there is no such text."""
        text = self._text()
        # Nearly every reply has none: its usage is not made once more for that.
        return text if text and self.usage().reasoning.value is None else None

    def split_reasoning(self, tags: Tags) -> None:
        """Take ``tags`` for what marks reasoning in an answer."""
        self._tags = tags

    def _text(self) -> str:
        text = ""
        for choice in self._reply.choices if self._reply else ():
            message = choice.message
            if message is not None and (said := message.reasoning_content or message.reasoning):
                text += said
            if self._tags is not None and (content := choice.text if message is None else message.content):
                text += split(content, self._tags).reasoning
        return text


def _counts(latest: Timings | Usage) -> TokenUsage:
    return usage_of_timings(latest) if isinstance(latest, Timings) else usage_of(latest, Provenance.RUNNING)


def _reasons(choice: Choice) -> bool:
    return choice.delta is not None and bool(choice.delta.reasoning_content or choice.delta.reasoning)


def _answers(choice: Choice) -> bool:
    if choice.delta is not None:
        return bool(choice.delta.content) or _calls(choice.delta)
    return bool(choice.text)


def _calls(delta: Delta) -> bool:
    return bytes(delta.tool_calls) not in {b"", b"null", b"[]"}


def _begins_raw(choices: list[Choice]) -> bool:
    """Whether the first text of an answer begins, or may go on to begin, with a reasoning tag."""
    said = ((choice.delta.content if choice.delta is not None else choice.text) or "" for choice in choices)
    return any(
        text and (text.startswith(_RAW_TAG) or _RAW_TAG.startswith(text)) for text in map(str.lstrip, said)
    )


def _holds_only_usage(data: bytes) -> bool:
    """Whether an event without choices holds nothing a client could want (Azure's filter results, say)."""
    members = _members_of(data)
    return members is not None and members.keys() <= _ENVELOPE


def _members_of(data: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _decode_members(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
