"""Counts the replies of ``/v1/responses``, streamed and whole (protocols.md §3, §4, §5)."""

import msgspec

from billing.tokens.dialects.openai_responses_payload import (
    FAILED,
    SEARCHES,
    Event,
    Response,
    counted,
    event_of,
    reasoning_text,
    response_of,
)
from billing.tokens.engines import Engine
from billing.tokens.merging import filled, later
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import Timings, usage_of_timings
from billing.tokens.reasoning import ReasoningCounter
from billing.tokens.reasoning_text import ReasoningText
from billing.tokens.salvage import is_said, members_as_written, without
from billing.tokens.sse import DONE
from billing.tokens.tags import Tags
from billing.tokens.usage import Count, Part, Provenance, TokenUsage, clamp

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_REASONING = "response.reasoning"
_NOT_GENERATED = "response.shell_call_output"
"""What a command printed comes as deltas, too."""
_TOOL_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call"})


class ResponsesStreamMeter(StreamMeter):
    """Follows a stream of ``response.…`` events. Its last is completed, incomplete or failed; ``[DONE]`` need not follow.

    ``timings_asked``: the client itself wants llama.cpp's running counts on every event.
    """

    __slots__ = (
        "_engine", "_latest", "_reasoning", "_reported", "_running", "_searches", "_text", "_text_kind", "_timings_asked",
    )  # fmt: skip

    def __init__(self, engine: Engine, *, timings_asked: bool = False) -> None:
        super().__init__()
        self._engine = engine
        self._timings_asked = timings_asked
        self._reported: TokenUsage | None = None
        self._latest: Timings | None = None
        self._running: TokenUsage | None = None
        self._reasoning = ReasoningCounter()
        self._searches = 0
        self._text: ReasoningText | None = None
        """There where reasoning text is kept: the reasoning itself or its summary, whichever comes."""
        self._text_kind = ""

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:  # noqa: ARG002 - engines of this dialect split
        """Before the first event: ``keeps`` the text of reasoning for a tokenizer."""
        self._text = ReasoningText(keeps=True) if keeps else None

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        if data == DONE:
            self.done = True
            return Edit.KEEP
        event = event_of(data)
        if event is None:
            return Edit.KEEP
        self._follow(event, event.type or "", now_us)
        return self._edit(event)

    def usage(self) -> TokenUsage:
        """The counts as known now: those of the last event, else llama.cpp's running ones."""
        running = self._counted()
        usage = running if self._reported is None else filled(self._reported, running)
        if usage.reasoning.value is None:
            usage = msgspec.structs.replace(usage, reasoning=self._reasoning.count())
        return clamp(usage)

    def reasoning_text(self) -> str | None:
        """The kept reasoning text; None when the count is known, when there is no such text, or not all of it was kept."""
        if self._text is None or self.usage().reasoning.value is not None:
            return None
        return self._text.text()

    def forget(self) -> None:
        """Drop the text that is kept (P13)."""
        if self._text is not None:
            self._text.forget()

    def strip(self, data: bytes) -> bytes:
        """An event's data without the running counts that the client did not ask for; every other byte of a member stays."""
        members = members_as_written(data)
        if members is None:
            return without(data, {"timings"})
        members.pop("timings", None)
        return msgspec.json.encode(members)

    def _follow(self, event: Event, kind: str, now_us: int) -> None:
        if event.response is not None:
            self.response_id = self.response_id or event.response.id
            self.response_model = self.response_model or event.response.model
        if kind == "error" or is_said(event.error):
            self.failed = True
        counter = self._count(event)
        delta = kind.endswith(".delta") and bool(event.delta) and not kind.startswith(_NOT_GENERATED)
        reasons = delta and kind.startswith(_REASONING)
        self._reasoning.see(counter, reasoning=reasons)
        if reasons and self._text is not None:
            self._keep(self._text, kind, event.delta or "", is_counted=counter is not None)
        calls = (
            kind == "response.output_item.added" and event.item is not None and event.item.type in _TOOL_CALLS
        )
        if delta or calls:
            self.finished = False
            self.spoke(now_us, answer=not reasons)
        if kind == "response.output_item.done" and event.item is not None:
            self._searches += event.item.type in SEARCHES
            # Nothing but the last event need follow a message, and clients hang up when they have it.
            self.finished = event.item.type == "message"
        if kind in _TERMINAL:
            self._end(event.response or Response(), failed=kind == "response.failed")

    def _keep(self, text: ReasoningText, kind: str, delta: str, *, is_counted: bool) -> None:
        """Text and summary together would count the same twice; where a counter runs, no text is needed."""
        self._text_kind = self._text_kind or kind
        if is_counted:
            text.forget()
        elif kind == self._text_kind:
            text.see(0, delta, "")

    def _end(self, response: Response, *, failed: bool) -> None:
        status = FAILED if failed else response.status
        final = msgspec.structs.replace(response, status=status)
        self._reported = counted(final, self._engine, reasons=self._reasoning.seen)
        self.failed = self.failed or failed
        self.finished = self.done = True

    def _count(self, event: Event) -> int | None:
        """Take the event's running counts; its cumulative output counter, None when it carries none."""
        timings = event.timings if self._engine.timings else None
        if timings is None:
            return None
        if self._latest is not None and not timings.continues(self._latest):
            self._running = later(self._running, usage_of_timings(self._latest))
        self._latest = timings
        return timings.predicted_n

    def _counted(self) -> TokenUsage:
        usage = self._running or TokenUsage()
        if self._latest is not None:
            usage = later(self._running, usage_of_timings(self._latest))
        if self._searches:
            searched = Count(self._searches, Provenance.RUNNING, "search items of the stream")
            usage = msgspec.structs.replace(usage, parts=usage.parts | {Part.SEARCH: searched})
        return usage

    def _edit(self, event: Event) -> Edit:
        """The last event has its timings whatever was asked: they stay there."""
        injected = (
            event.timings is not None and bool(self._engine.stream_fields) and event.type not in _TERMINAL
        )
        return Edit.STRIP if injected and not self._timings_asked else Edit.KEEP


class ResponsesReplyMeter(ReplyMeter):
    """Reads the counts of one whole ``response`` or ``response.compaction``."""

    __slots__ = ("_engine", "_response", "_text")

    def __init__(self, engine: Engine, body: bytes) -> None:
        self._engine = engine
        self._response = response_of(body)
        self._text = "" if self._response is None else reasoning_text(self._response)

    @property
    def response_id(self) -> str | None:
        """The engine's id of the reply."""
        return self._response.id if self._response else None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._response.model if self._response else None

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        if self._response is None:
            return TokenUsage()
        return clamp(counted(self._response, self._engine, reasons=bool(self._text)))

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; None when the count is reported or there is no such text."""
        return self._text or None if self.usage().reasoning.value is None else None
