"""Counts the streams of chat completions and completions (protocols.md §1, §2, §3)."""

import re

import msgspec

from billing.tokens.engines import Engine, Merge
from billing.tokens.merging import CHOICES_TRACKED_MAX, Several, filled, later, without_cached
from billing.tokens.meter import Edit, StreamMeter
from billing.tokens.operation import Operation
from billing.tokens.payload import (
    Choice,
    Delta,
    Event,
    Timings,
    Usage,
    decode_event,
    decode_named_event,
    is_flat_error,
    timings_as_written,
    usage_as_written,
    usage_of,
    usage_of_timings,
)
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.reasoning_text import ReasoningText
from billing.tokens.salvage import is_said, members_as_written, without
from billing.tokens.sse import DONE
from billing.tokens.tags import Tags
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage, clamp


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
_NO_CALLS = (b"null", b"[]")
_KEEP, _STRIP = Edit.KEEP, Edit.STRIP
"""Python 3.11 takes 0.1 µs to find a member by its name."""


class TextStreamMeter(StreamMeter):
    """Follows a stream of ``chat.completion.chunk`` or ``text_completion`` events."""

    __slots__ = (
        "_before", "_choices", "_engine", "_finished", "_has_running", "_has_timings", "_is_alone", "_keeps_usage", "_latest",
        "_may_reason", "_operation", "_prompts", "_reasoning", "_reasonings", "_reported", "_reports", "_running", "_several",
        "_tagged", "_text", "_wish",
    )  # fmt: skip

    def __init__(self, engine: Engine, operation: Operation, choices: int, prompts: int, wish: Wish) -> None:
        super().__init__()
        self._engine = engine
        self._operation = operation
        self._choices = choices
        self._prompts = prompts
        self._wish = wish
        self._has_timings, self._has_running = engine.timings, engine.continuous_usage
        self._keeps_usage = wish.usage and (wish.continuous_usage or not engine.continuous_usage)
        """Whether the client sees a usage beside choices."""
        self._reported: Usage | None = None
        self._before: TokenUsage | None = None
        """What was reported before that."""
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
        self._is_alone = self._several is None
        """Whether there is one answer, and nothing is kept or told apart of its text."""

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:
        """Before the first event: ``keeps`` the text of reasoning for a tokenizer; ``tags`` that mark it in an answer."""
        self._text = ReasoningText(keeps=keeps, tags=tags)
        self._is_alone = False
        self._tagged = tags is not None

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        self.cut = 0
        if data == DONE:
            self.done = True
            return _KEEP
        event = decode_event(data) if self.response_id is not None else self._decode_first(data)
        if event is None:
            return _KEEP
        timings = timings_as_written(event.timings) if event.timings else None
        usage = usage_as_written(event.usage) if event.usage else None
        if not self._goes_on(event, usage, timings, now_us):
            self._follow(event, usage, timings, now_us)
            if not event.choices and usage is None and is_flat_error(data):
                self.failed = True
        return self._edit(event, usage, timings, data)

    def _goes_on(self, event: Event, usage: Usage | None, timings: Timings | None, now_us: int) -> bool:
        """Take an event as nearly all are: more of the one answer, with higher counts. False, and nothing taken, for any other.

        It does what :meth:`_follow` does, in half the time; a test holds the two against each other.
        """
        choices, earlier, last_us = event.choices, self._latest, self.last_token_us
        if earlier is None or last_us is None or len(choices) != 1 or not self._is_alone or event.error:
            return False
        choice = choices[0]
        delta = choice.delta
        if delta is None or not delta.content or delta.reasoning_content or delta.reasoning:
            return False
        if self.first_answer_us is None or choice.finish_reason:
            return False
        if timings is None and usage is not None and usage.continues(earlier):
            self._latest, counter = usage, usage.completion_tokens
        elif usage is None and timings is not None and timings.continues(earlier):
            self._latest, counter = timings, timings.predicted_n
        else:
            return False
        reasoning = self._reasoning
        if counter is not None and COUNT_MAX >= counter > reasoning.counter:
            reasoning.counter = counter
        self.events_spoken += 1
        if now_us - last_us > self.gap_max_us:  # noqa: PLR1730 - a call would cost more
            self.gap_max_us = now_us - last_us
        self.last_token_us = now_us
        return True

    def usage(self) -> TokenUsage:
        """The counts as known now: the engine's final usage if it came, else its last running counts."""
        counted = self._counted()
        if self._reports is not None and not self._reports.empty:
            final = self._reports.usage()
            # Without the usage of every choice the running counts say more.
            usage = filled(final, counted) if self._reports.whole else later(counted, final)
        elif self._reported is not None:
            # Cumulative counts never go down, not even at the end.
            reported = later(self._before, usage_of(self._reported, Provenance.REPORTED))
            usage = filled(later(counted, reported), counted)
            if self._prompts > 1:
                usage = without_cached(usage)
        else:
            usage = counted or TokenUsage()
        return clamp(self._with_reasoning(usage))

    def _decode_first(self, data: bytes) -> Event | None:
        """An event of a stream that has not told its id yet."""
        event = decode_named_event(data)
        if event is not None:
            # Azure's first event has empty ones.
            self.response_id, self.response_model = event.id or None, event.model or None
        return event

    def _follow(self, event: Event, usage: Usage | None, timings: Timings | None, now_us: int) -> None:
        """Take the event's text, reasons to finish and counts, whatever it holds."""
        if is_said(event.error):
            self.failed = True
        reasons = answers = False
        for choice in event.choices:
            delta = choice.delta
            if choice.finish_reason:
                self._finish(choice.index)
            if self._text is not None:
                heard = self._hear(choice, self._text)
                reasons, answers = reasons or heard[0], answers or heard[1]
            elif delta is None:
                answers = answers or bool(choice.text)
            else:
                reasons = reasons or bool(delta.reasoning_content or delta.reasoning)
                answers = answers or bool(delta.content) or _calls(delta)
        counter = None
        if self._several is None:
            counter = self._count(event, usage, timings)
        else:
            self._count_several(self._several, event, usage, timings, reasons=reasons)
        if counter is not None and self._text is not None:
            # The counter counts reasoning exactly: no text is needed.
            self._text.forget()
        self._reasoning.see(counter, reasoning=reasons)
        if reasons or answers:
            if answers and self.first_answer_us is None:
                self._may_reason = _begins_raw(event.choices)
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

    def _count(self, event: Event, usage: Usage | None, timings: Timings | None) -> int | None:
        """Take the counts of an event of the only choice; its cumulative output counter, None when it carries none."""
        counter = None
        if timings is not None and self._has_timings:
            self._advance(timings)
            counter = timings.predicted_n
        if usage is None or usage.empty:
            return counter
        if not event.choices or not self._has_running:
            self._report(usage)
            return counter
        self._advance(usage)
        return usage.completion_tokens

    def _report(self, usage: Usage) -> None:
        """Take what stands for the whole reply; where it is said again, cumulative counts do not go down either."""
        if self._reported is not None:
            self._before = later(self._before, usage_of(self._reported, Provenance.REPORTED))
        self._reported = usage

    def _count_several(
        self, several: Several, event: Event, usage: Usage | None, timings: Timings | None, *, reasons: bool
    ) -> None:
        """The same of an event that stands for one of several choices."""
        index = event.choices[0].index if event.choices else None
        running: TokenUsage | None = None
        if timings is not None and self._has_timings and index is not None:
            running = usage_of_timings(timings)
        if usage is not None and not usage.empty:
            if index is not None and self._has_running:
                running = usage_of(usage, Provenance.RUNNING)
            elif self._reports is not None:
                self._reports.add(usage_of(usage, Provenance.REPORTED))
            else:
                self._report(usage)
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
        if usage.reasoning.value:
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

    def _edit(self, event: Event, usage: Usage | None, timings: Timings | None, data: bytes) -> Edit:
        hides_timings = timings is not None and not self._wish.timings
        if usage is None or not event.choices:
            return self._edit_last(event, usage, data, hides_timings=hides_timings)
        if self._keeps_usage and not hides_timings:
            return _KEEP
        if timings is None:
            self.cut = _cut(data, b',"usage":', event.usage)
        return _STRIP

    def _edit_last(self, event: Event, usage: Usage | None, data: bytes, *, hides_timings: bool) -> Edit:
        """Of an event with usage alone, as the last of a stream, or with none."""
        # OpenAI writes null on every other event once usage is asked for: that too is there because we asked.
        is_null = usage is None and self._engine.nulls_usage and _NULL_USAGE(data) is not None
        hides_usage = (usage is not None or is_null) and not self._wish.usage
        if hides_usage and not is_null and _holds_only_usage(data):
            return Edit.DROP
        if hides_timings and usage is None and not is_null:
            self.cut = _cut(data, b',"timings":', event.timings)
        return _STRIP if hides_usage or hides_timings else _KEEP

    def strip(self, data: bytes) -> bytes:
        """An event's data without the members that the client did not ask for; every other member's bytes stay."""
        members = members_as_written(data)
        wish = self._wish
        if members is None:
            hidden = {"timings": wish.timings, "usage": wish.usage}
            return without(data, [name for name, is_wanted in hidden.items() if not is_wanted])
        if not wish.timings:
            members.pop("timings", None)
        if not (self._keeps_usage or (wish.usage and members.get("choices") == msgspec.Raw(b"[]"))):
            members.pop("usage", None)
        return msgspec.json.encode(members)


def _counts(latest: Timings | Usage) -> TokenUsage:
    return usage_of_timings(latest) if isinstance(latest, Timings) else usage_of(latest, Provenance.RUNNING)


def _calls(delta: Delta) -> bool:
    return bool(delta.tool_calls) and bytes(delta.tool_calls) not in _NO_CALLS


def _cut(data: bytes, name: bytes, value: msgspec.Raw) -> int:
    """How many bytes to take from the end of an object to leave a member out, its ``}`` included; 0 where it is not the last.

    After ``name``, which no string can hold, follow the whole value and the end of the text: so it is a member of the
    outermost object.
    """
    tail = name + value + b"}"
    return len(tail) if data[-len(tail) :] == tail else 0


def _begins_raw(choices: list[Choice]) -> bool:
    """Whether the first text of an answer begins, or may go on to begin, with a reasoning tag."""
    said = ((choice.delta.content if choice.delta is not None else choice.text) or "" for choice in choices)
    return any(
        text and (text.startswith(_RAW_TAG) or _RAW_TAG.startswith(text)) for text in map(str.lstrip, said)
    )


def _holds_only_usage(data: bytes) -> bool:
    """Whether an event without choices holds nothing a client could want (Azure's filter results, say)."""
    members = members_as_written(data)
    return members is not None and members.keys() <= _ENVELOPE
