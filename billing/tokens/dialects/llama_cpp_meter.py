"""Counts the native replies of llama.cpp: ``/completion``, ``/infill`` and what stands beside them (protocols.md §3).

Every event says ``tokens_predicted`` and ``tokens_evaluated``, the whole prompt; the final one, with ``stop`` true, ends its
answer, and no ``[DONE]`` follows. What came from the cache stands in ``timings.cache_n``; ``tokens_cached`` is the size of
the slot and says nothing of it.
"""

from typing import Any

import msgspec

from billing.tokens.dialects.llama_cpp_fields import View, decode_array, decode_members
from billing.tokens.fixed import NOTHING_GENERATED, FixedReplyMeter
from billing.tokens.merging import without_cached
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import Timings
from billing.tokens.salvage import is_array, members_as_written, read, read_each, without
from billing.tokens.tally import Answer, Names, Tally
from billing.tokens.usage import Count, Provenance, TokenUsage, clamp

NAMES = Names(input="tokens_evaluated", cached="timings.cache_n", output="tokens_predicted")


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, or a final object: the answer numbered ``index`` so far."""

    index: int = 0
    content: str | None = None
    stop: bool | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    timings: Timings | None = None
    cache_n: int | None = msgspec.field(default=None, name="timings/cache_n")
    """The same number as in ``timings``, where only that was asked for."""
    model: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Event)
_array_decoder = msgspec.json.Decoder(list[Event])


def _count(answer: Answer, event: Event) -> None:
    """Take an event's counts; old builds lack some fields, which its timings then say."""
    timings = event.timings
    evaluated, predicted, cached = event.tokens_evaluated, event.tokens_predicted, event.cache_n
    if timings is not None:
        cached = cached if timings.cache_n is None else timings.cache_n
        predicted = timings.predicted_n if predicted is None else predicted
        if evaluated is None and timings.prompt_n is not None:
            evaluated = timings.prompt_n + (timings.cache_n or 0)
    answer.advance(evaluated, cached, predicted)


class NativeStreamMeter(StreamMeter):
    """Follows a stream of one or several answers; it is done when each has said ``stop``."""

    __slots__ = ("_expected", "_stopped", "_tally", "_view")

    def __init__(self, choices: int, prompts: int, view: View) -> None:
        super().__init__()
        self._view = view
        self._expected = choices * prompts
        self._stopped: set[int] = set()
        self._tally = Tally(NAMES, choices, prompts)

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""
        event = read(_decoder, data)
        if event is None:
            # An array of prompts begins with the event `null`.
            return Edit.KEEP
        _count(self._tally.answer(event.index), event)
        if event.content:
            self.spoke(now_us, answer=True)
        if event.error:
            self.failed = True
        if event.stop is True:
            return self._end(event)
        # The last partial event before a stop word has timings unasked; it cannot be told from the others.
        return Edit.KEEP if event.timings is None or self._view.timed else Edit.STRIP

    def usage(self) -> TokenUsage:
        """The counts as known now: reported once every answer has ended, else running."""
        return clamp(self._tally.usage(Provenance.REPORTED if self.done else Provenance.RUNNING))

    def _end(self, event: Event) -> Edit:
        self.response_model = self.response_model or event.model
        if len(self._stopped) < self._expected:
            self._stopped.add(event.index)
        self.finished = self.done = len(self._stopped) >= self._expected
        return Edit.STRIP if self._view.fields or not self._view.timed else Edit.KEEP

    def strip(self, data: bytes) -> bytes:
        """An event's data without the members that the client did not ask for; every other member's bytes stay."""
        members = members_as_written(data)
        if members is None:
            return data if self._view.timed else without(data, {"timings"})
        if members.get("stop") == msgspec.Raw(b"true"):
            return msgspec.json.encode(self._view.of_final(members, stream=True))
        return msgspec.json.encode(self._view.of_partial(members))


class NativeReplyMeter(ReplyMeter):
    """Reads one final object, or an array of them, one for each choice of each prompt in order."""

    __slots__ = ("_events", "_prompts", "_tally", "_view")

    def __init__(self, body: bytes, choices: int, prompts: int, view: View) -> None:
        self._prompts = prompts
        self._view = view
        self._events = _events(body)
        self._tally = Tally(NAMES, choices, prompts)
        for number, event in enumerate(self._events):
            _count(self._tally.answer(number), event)

    @property
    def response_id(self) -> str | None:
        """There is none."""
        return None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return next((event.model for event in self._events if event.model), None)

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        usage = self._tally.usage(Provenance.REPORTED)
        # Of several prompts together a whole reply is not taken to say what the cache held, here as in the OpenAI dialect.
        return clamp(without_cached(usage) if self._prompts > 1 else usage)

    def stripped(self, body: bytes) -> bytes:
        """The reply with the ``response_fields`` that the client asked for, and no others."""
        if not self._view.fields:
            return body
        try:
            several = decode_array(body) if is_array(body) else [decode_members(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return body
        finals = [self._view.of_final(members, stream=False) for members in several]
        if finals == several:
            return body
        return msgspec.json.encode(finals if is_array(body) else finals[0])


def _events(body: bytes) -> list[Event]:
    if is_array(body):
        return read_each(_array_decoder, Event, body) or []
    event = read(_decoder, body)
    return [] if event is None else [event]


EMBEDDED = TokenUsage(output=NOTHING_GENERATED)
"""A native embedding says no counts: nothing was generated; how long the input was, nobody says."""
_NOT_RUN = Count(0, Provenance.REPORTED, "a tokenizer alone computes nothing on the model")
TOKENIZED = TokenUsage(input=_NOT_RUN, output=_NOT_RUN)
"""Tokens of a text, or the text of tokens: the model itself does not run."""


def embedding_reply_meter() -> FixedReplyMeter:
    """What reads the reply of ``/embedding``, which is not proxied."""
    return FixedReplyMeter(EMBEDDED)
