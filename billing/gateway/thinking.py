"""Reasoning that no counter of an engine said, counted by a tokenizer before the close record (protocols.md §7).

Only where the plan prices reasoning apart: otherwise an invoice is the same without, the count stays unknown, and nobody
is asked. What cannot be counted in time is estimated, and says so (P3).
"""

import msgspec

from billing.gateway.ports import Tokenizer
from billing.gateway.work import Work
from billing.tokens import estimate
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.usage import Count, Provenance, TokenUsage, clamp


class Thinking:
    """Counts the reasoning of replies that have ended."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"<Thinking {self._tokenizer!r}>"

    async def counted(self, work: Work, meter: ReplyMeter | StreamMeter, usage: TokenUsage) -> TokenUsage:
        """The same usage, with the reasoning that is to be counted; a stream's kept text is dropped (P13)."""
        if not work.counts_reasoning or usage.output.value is None:
            return usage
        text = meter.reasoning_text()
        if text is not None:
            told = await self._count(work, text) or _estimated(meter, text)
            usage = clamp(msgspec.structs.replace(usage, reasoning=told))
        if isinstance(meter, StreamMeter):
            meter.forget()
        return usage

    async def _count(self, work: Work, text: str) -> Count | None:
        """By the backend's own tokenizer; where its engine has none, by the model's vocabulary."""
        how = work.engine.tokenize
        if how is not None:
            tokens = await self._tokenizer.count(work.target, how, text)
            method = f"{how.path} of the reasoning text at the backend"
        elif work.vocabulary is not None:
            tokens = await self._tokenizer.count_here(work.vocabulary, text)
            method = "the model's own vocabulary over the reasoning text"
        else:
            return None
        return None if tokens is None else Count(tokens, Provenance.COUNTED, method)


def _estimated(meter: ReplyMeter | StreamMeter, text: str) -> Count:
    """As the dialect knows to guess, else by the length of the text."""
    guessed = meter.reasoning_estimate()
    if guessed.value is not None:
        return guessed
    tokens = estimate.input_tokens(len(text.encode()))
    return Count(tokens, Provenance.ESTIMATED, f"{estimate.BYTES_PER_TOKEN} bytes a token")
