"""Counts the whole replies of chat completions, completions and embeddings (protocols.md §1, §2, §3)."""

import msgspec

from billing.tokens.engines import Engine
from billing.tokens.merging import filled, without_cached
from billing.tokens.meter import ReplyMeter
from billing.tokens.payload import decode, is_flat_error, usage_of, usage_of_timings
from billing.tokens.salvage import is_said
from billing.tokens.tags import Tags, split
from billing.tokens.usage import UNKNOWN, Provenance, TokenUsage, clamp


class TextReplyMeter(ReplyMeter):
    """Reads the counts of one ``chat.completion``, ``text_completion`` or list of embeddings."""

    __slots__ = ("_body", "_engine", "_prompts", "_reply", "_tags")

    def __init__(self, engine: Engine, body: bytes, prompts: int = 1) -> None:
        self._engine = engine
        self._prompts = prompts
        self._body = body
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

    @property
    def failed(self) -> bool:
        """Whether it holds an error, and neither choices nor usage."""
        reply = self._reply
        if reply is None or reply.choices or reply.usage is not None:
            return False
        return is_said(reply.error) or is_flat_error(self._body)

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
