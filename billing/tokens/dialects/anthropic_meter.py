"""Counts messages in Anthropic's dialect, streamed and whole (protocols.md §5; for engines that imitate it §2–§4).

A stream begins with the usage of ``message_start``; each field that a ``message_delta`` tells replaces it, and nothing is
added. ``input_tokens`` is without what a cache read or wrote. Compaction is not in these numbers and is added; an advisor
is another model and is told apart. The output of ``message_start`` (0 to 8 tokens) is never taken: where a stream was cut
short before a ``message_delta``, its output is unknown.
"""

from typing import NamedTuple

import msgspec

from billing.tokens.dialects.anthropic_payload import (
    Block,
    Counted,
    Delta,
    Event,
    Iteration,
    Message,
    Usage,
    advanced,
    decode_event,
    decode_message,
    decode_told,
    known_sum,
    replaced,
)
from billing.tokens.engines import Engine, Says
from billing.tokens.members import MODEL_LENGTH_MAX
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.reasoning_text import ReasoningText
from billing.tokens.tags import Tags
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage, clamp

OTHER_MODELS_MAX = 16
COUNTED_NOTHING = TokenUsage(output=Count(0, Provenance.REPORTED, "count_tokens generates nothing"))
"""The usage of ``count_tokens``: the number that it tells is an answer, not usage."""

_ADVISOR = "advisor_message"
_COMPACTION = "compaction"
_THINKING = "thinking"
_REDACTED = "redacted_thinking"
_TOOL_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_REFUSAL = "refusal"
_START = "message_start.message.usage"
_DELTA = "message_delta.usage"
_BEGINNING = Count(None, None, f"no {_DELTA} came, and {_START} counts no more than the beginning")
_UNCOUNTED = Count(None, None, "0 output tokens told beside generated text")


class Source(NamedTuple):
    """Where numbers were found, and how far they can be trusted."""

    name: str
    provenance: Provenance


class Spoken(NamedTuple):
    """What was generated, as far as it shows whether a reported 0 can be true."""

    text: bool
    thought: bool
    refused: bool


class MessageStreamMeter(StreamMeter):
    """Follows the events of one streamed message."""

    __slots__ = ("_delta", "_engine", "_redacted", "_start", "_stop_reason", "_text", "_thought")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._start: Usage | None = None
        self._delta: Usage | None = None
        self._stop_reason: str | None = None
        self._thought = False
        self._redacted = False
        self._text: ReasoningText | None = None
        """There where reasoning text is kept."""

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:  # noqa: ARG002 - engines of this dialect split
        """Before the first event: ``keeps`` the text of reasoning for a tokenizer."""
        self._text = ReasoningText(keeps=True) if keeps else None

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data. Nothing is asked for on the client's behalf, so it may see all of it."""
        event = decode_event(data)
        if event is not None:
            self._follow(event, now_us)
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """The counts as known now: running ones until a reason to stop was told, the engine's final ones after it."""
        told = self._told()
        if told is None:
            return TokenUsage(output=_BEGINNING)
        final = Provenance.REPORTED if self.finished or self.done else Provenance.RUNNING
        spoken = Spoken(self.first_token_us is not None, self._thought, self._stop_reason == _REFUSAL)
        usage = _token_usage(told, self._prompt_source(final), Source(_DELTA, final), spoken, self._engine)
        return msgspec.structs.replace(usage, output=_BEGINNING) if self._delta is None else usage

    def other_models(self) -> dict[str, tuple[int, int]]:
        """Input and output tokens of models beside the one that was asked, by name."""
        return _other_models(self._told())

    def reasoning_text(self) -> str | None:
        """The kept reasoning text; None when its count is reported, or when not all of it was kept."""
        if self._text is None or self._redacted or self.usage().reasoning.value is not None:
            return None
        return self._text.text()

    def forget(self) -> None:
        """Drop the text that is kept (P13)."""
        if self._text is not None:
            self._text.forget()

    def _told(self) -> Usage | None:
        return self._start if self._delta is None else replaced(self._start, self._delta)

    def _prompt_source(self, final: Provenance) -> Source:
        delta = self._delta
        if delta is not None and delta.input_total is not None:
            return Source(_DELTA, final)
        return Source(_START, Provenance.ESTIMATED if self._engine.start_input_estimated else final)

    def _follow(self, event: Event, now_us: int) -> None:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._continue(event.delta, now_us)
            case "content_block_start" if event.content_block is not None:
                self._begin(event.content_block, now_us)
            case "message_start" if event.message is not None:
                self._open(event.message)
            case "message_delta":
                self._advance(event)
            case "message_stop":
                self.done = True
            case _ if event.is_error:
                self.failed = True

    def _open(self, message: Message) -> None:
        if self.response_id is None:
            self.response_id = message.id
            self.response_model = message.model
        usage = message.usage
        if self._start is None and usage is not None and not usage.tells_no_input:
            self._start = msgspec.structs.replace(usage, output_tokens=None, output_tokens_details=None)

    def _advance(self, event: Event) -> None:
        # An engine that lost its usage writes zeros: they say nothing.
        if event.usage is not None and not _is_empty(event.usage):
            self._delta = advanced(self._delta, event.usage)
        if event.delta is not None and event.delta.stop_reason:
            self._stop_reason = event.delta.stop_reason
            self.finished = True

    def _begin(self, block: Block, now_us: int) -> None:
        if block.type in {_THINKING, _REDACTED}:
            # Also without text: where it is omitted, tokens were spent on it all the same.
            self._thought = True
            self._redacted = self._redacted or block.type == _REDACTED
        self._speak(block.thinking, block.text or block.type in _TOOL_CALLS, now_us)

    def _continue(self, delta: Delta, now_us: int) -> None:
        # The text of a compaction is generated, but it is no part of the answer.
        self._speak(delta.thinking, delta.text or delta.partial_json, now_us)
        if delta.content and delta.type == "compaction_delta":
            self.spoke(now_us, answer=False)

    def _speak(self, thinking: str | None, answer: str | bool | None, now_us: int) -> None:
        if thinking:
            self._thought = True
            if self._text is not None:
                self._text.see(0, thinking, "")
        if thinking or answer:
            self.spoke(now_us, answer=bool(answer))


class MessageReplyMeter(ReplyMeter):
    """Reads the counts of one whole message."""

    __slots__ = ("_engine", "_message")

    def __init__(self, engine: Engine, body: bytes) -> None:
        self._engine = engine
        self._message = decode_message(body) or Message()

    @property
    def response_id(self) -> str | None:
        """The engine's id of the reply."""
        return self._message.id

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._message.model

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        told = self._message.usage
        if told is None or _is_empty(told):
            return TokenUsage()
        source = Source("usage", Provenance.REPORTED)
        return _token_usage(told, source, source, self._spoken(), self._engine)

    def other_models(self) -> dict[str, tuple[int, int]]:
        """Input and output tokens of models beside the one that was asked, by name."""
        return _other_models(self._message.usage)

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; None when the count is reported or the text is not all there."""
        blocks = self._message.content or []
        if any(block.type == _REDACTED for block in blocks) or self.usage().reasoning.value is not None:
            return None
        return "".join(block.thinking or "" for block in blocks) or None

    def _spoken(self) -> Spoken:
        blocks = self._message.content or []
        return Spoken(
            text=any(block.text or block.thinking or block.type in _TOOL_CALLS for block in blocks),
            thought=any(block.type in {_THINKING, _REDACTED} for block in blocks),
            refused=self._message.stop_reason == _REFUSAL,
        )


class CountTokensStreamMeter(StreamMeter):
    """Follows what no engine streams: the reply of ``count_tokens``."""

    __slots__ = ()

    def see(self, data: bytes, now_us: int) -> Edit:  # noqa: ARG002 - there is nothing to count
        """The client may see all of it."""
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """Nothing is generated."""
        return COUNTED_NOTHING


class CountTokensReplyMeter(ReplyMeter):
    """Reads the reply of ``count_tokens``."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def response_id(self) -> str | None:
        """Such a reply has none."""
        return None

    @property
    def response_model(self) -> str | None:
        """Such a reply has none."""
        return None

    @property
    def counted(self) -> int | None:
        """The number that was told; not usage."""
        told = decode_told(self._body)
        return told.input_tokens if told else None

    def usage(self) -> TokenUsage:
        """Nothing is generated, whatever number was told."""
        return COUNTED_NOTHING


def _is_empty(usage: Usage) -> bool:
    """Whether it says nothing: zeros in the place of an input and an output are placeholders, not counts."""
    return usage.tells_no_input and not usage.output_tokens


def _token_usage(told: Usage, prompt: Source, answer: Source, spoken: Spoken, engine: Engine) -> TokenUsage:
    """Counts of a usage object. ``prompt`` and ``answer`` are where its input and its output were found."""
    added = [row for row in told.iterations or () if row.type == _COMPACTION]
    also = ", with those of compaction" if added else ""
    parts = "input_tokens + cache_creation_input_tokens + cache_read_input_tokens"
    whole = _with(told.input_total, [row.input_total for row in added])
    cached = known_sum(told.cache_read_input_tokens, *(row.cache_read_input_tokens for row in added))
    written = known_sum(told.cache_written, *(row.cache_written for row in added))
    if cached == 0 and engine.cached is Says.DOUBTFUL_ZERO:
        cached = None
    usage = TokenUsage(
        input=count(whole, prompt.provenance, f"{prompt.name}.{parts}{also}"),
        cached_input=count(cached, prompt.provenance, f"{prompt.name}.cache_read_input_tokens{also}"),
        cache_write=count(written, prompt.provenance, f"{prompt.name}.cache_creation_input_tokens{also}"),
        output=_output(_with(told.output_tokens, [row.output_tokens for row in added]), answer, also, spoken),
        reasoning=_reasoning(told, answer, spoken, engine),
    )
    return clamp(msgspec.structs.replace(usage, parts=_parts(told, added, usage, prompt, answer)))


def _with(total: int | None, rows: list[int | None]) -> int | None:
    """A number of the whole with those that stand beside it; unknown without the first."""
    return None if total is None else known_sum(total, *rows)


def _output(tokens: int | None, answer: Source, also: str, spoken: Spoken) -> Count:
    if tokens == 0 and spoken.text and not spoken.refused:
        return _UNCOUNTED
    return count(tokens, answer.provenance, f"{answer.name}.output_tokens{also}")


def _reasoning(told: Usage, answer: Source, spoken: Spoken, engine: Engine) -> Count:
    """Reasoning as reported; a 0 beside reasoning is no count, unless this engine's is to be believed."""
    details = told.output_tokens_details
    if details is None or (
        details.thinking_tokens == 0 and spoken.thought and engine.reasoning is not Says.YES
    ):
        return UNKNOWN
    return count(
        details.thinking_tokens, answer.provenance, f"{answer.name}.output_tokens_details.thinking_tokens"
    )


def _parts(
    told: Usage, added: list[Iteration], usage: TokenUsage, prompt: Source, answer: Source
) -> dict[Part, Count]:
    """The written cache that lives for an hour, and the searches and fetches.

    No search beside an unknown output is no count that a request could be billed by, so it is left out.
    """
    searches = told.server_tool_use.total if told.server_tool_use is not None else None
    if searches == 0 and usage.output.value is None:
        searches = None
    parts = {
        Part.CACHE_WRITE_1H: count(
            _written_for_an_hour(told, added, usage.cache_write.value),
            prompt.provenance,
            f"{prompt.name}.cache_creation.ephemeral_1h_input_tokens",
        ),
        Part.SEARCH: count(
            searches, answer.provenance, f"{answer.name}.server_tool_use, web searches and fetches"
        ),
    }
    return {part: found for part, found in parts.items() if found.value is not None}


def _written_for_an_hour(told: Usage, added: list[Iteration], written: int | None) -> int | None:
    """Known where the splits that were told add up to all that was written; ``message_delta`` has none of its own."""
    rows = [row for row in told.iterations or () if row.type != _ADVISOR]
    groups: list[list[Counted]] = [[*rows], [told, *added]]
    for group in groups:
        splits = [each.cache_creation for each in group if each.cache_creation is not None]
        if splits and sum(split.total or 0 for split in splits) == written:
            return sum(split.ephemeral_1h_input_tokens or 0 for split in splits)
    return None


def _other_models(told: Usage | None) -> dict[str, tuple[int, int]]:
    """By the name of the model: input, with what a cache read and wrote, and output. A row that lacks one is left out."""
    found: dict[str, tuple[int, int]] = {}
    for row in (told.iterations or ()) if told is not None else ():
        tokens, output, model = row.input_total, row.output_tokens, row.model
        if row.type != _ADVISOR or tokens is None or output is None or not model:
            continue
        if len(model) <= MODEL_LENGTH_MAX and (model in found or len(found) < OTHER_MODELS_MAX):
            earlier = found.get(model, (0, 0))
            found[model] = (earlier[0] + tokens, earlier[1] + output)
    return found
