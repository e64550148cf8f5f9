"""Relays of streams whose client wants to be told the cost: the last event with usage waits until it is known (pure).

That is when the record is closed, with what a tokenizer may have counted.
"""

from billing.gateway.cost import holds_usage, with_cost
from billing.gateway.relay import LineRelay, StreamRelay
from billing.tokens.meter import StreamMeter
from billing.tokens.operation import Dialect, Framing
from billing.tokens.sse import data_of, with_data

BESIDE = frozenset({Dialect.OLLAMA, Dialect.TGI, Dialect.LLAMA_CPP, Dialect.TRITON})
"""Dialects without a usage object: the cost stands in the last event beside the counts."""


class TellingRelay(StreamRelay):
    """Relays server-sent events but the last one with usage, which ``told`` gives.

    What follows it does not wait: of several choices the first may tell its usage long before the others end, and one
    event is all that is ever held. Only a last event that was not finished stays behind it.
    """

    __slots__ = ("_after", "_beside", "_taken", "_usage")

    def __init__(self, meter: StreamMeter, *, beside: bool = False) -> None:
        super().__init__(meter)
        self._beside = beside
        self._usage = b""
        self._after = b""
        """A part of an event at the stream's end."""
        self._taken = 0
        """Bytes of the terminal event, where that is the one with usage."""

    @property
    def held(self) -> bytes:
        """What was kept back of a stream that broke off; a part of an event is dropped."""
        kept = b"" if self._taken else self._usage
        return kept if kept.endswith(self._end) else b""

    def told(self, cost: bytes) -> bytes:
        """The end of the stream with its cost, a JSON text."""
        rest = self._after + self.terminal[self._taken :]
        return (self._priced(self._usage, cost) if self._usage else b"") + rest

    def finish(self, now_us: int) -> bytes:
        """The end of the stream; a part of an event after the one that waits would take that for its own end."""
        waited = self._usage
        out = super().finish(now_us)
        if not waited or self._usage is not waited:
            return out
        self._after = out
        return b""

    def feed(self, piece: bytes, now_us: int) -> bytes:
        """The bytes that the client may see now; every event is looked at, so each must be framed."""
        return b"".join([self._pass(event, now_us) for event in self._framer.feed(piece)])

    def _pass(self, event: bytes, now_us: int) -> bytes:
        had_ended = bool(self.terminal)
        out = super()._pass(event, now_us)
        present = self.terminal or out
        if had_ended or not self._tells(present):
            return out
        before, self._usage = self._usage, present
        self._taken = len(self.terminal)
        return before

    def _tells(self, event: bytes) -> bool:
        if self._beside:
            return self.meter.done
        return holds_usage(self._data(event), finished=self.meter.finished or self.meter.done)

    def _data(self, event: bytes) -> bytes:
        return data_of(event)

    def _priced(self, event: bytes, cost: bytes) -> bytes:
        return with_data(event, with_cost(data_of(event), cost))


class TellingLineRelay(TellingRelay, LineRelay):
    """The same for lines of JSON."""

    __slots__ = ()

    def _data(self, event: bytes) -> bytes:
        return event.strip()

    def _priced(self, event: bytes, cost: bytes) -> bytes:
        return with_cost(event.strip(), cost) + b"\n"


def telling_relay(framing: Framing, meter: StreamMeter, dialect: Dialect) -> TellingRelay:
    """The relay of a stream of events that is framed so."""
    kind = TellingLineRelay if framing is Framing.NDJSON else TellingRelay
    return kind(meter, beside=dialect in BESIDE)
