"""A stream on its way from the engine to the client: frame, meter, edit (pure).

Everything from ``[DONE]`` on is held back in ``terminal``: it leaves when the record is on disk (P2).
"""

from billing.tokens.meter import Edit, StreamMeter
from billing.tokens.sse import SseFramer, Unframed, data_of, is_plain, with_data


class StreamRelay:
    """Feed it the pieces of a body as they come; send on what it gives back, and ``terminal`` at the end."""

    __slots__ = ("_framer", "meter", "terminal")

    def __init__(self, meter: StreamMeter) -> None:
        self._framer = SseFramer()
        self.meter = meter
        self.terminal = b""

    def __repr__(self) -> str:
        return f"<StreamRelay {self.meter!r} {self._framer!r} terminal={len(self.terminal)} B>"

    def feed(self, piece: bytes, now_us: int) -> bytes:
        """The bytes that the client may see now; a part of an event waits until the rest of it has come."""
        return b"".join([self._pass(event, now_us) for event in self._framer.feed(piece)])

    def finish(self, now_us: int) -> bytes:
        """The end of the stream: an event without its blank line is counted, and its bytes are passed on."""
        rest = self._framer.rest()
        return self._pass(rest, now_us) if rest else b""

    def _pass(self, event: bytes, now_us: int) -> bytes:
        if self.terminal:
            self.terminal += event
            return b""
        if isinstance(event, Unframed):
            return event
        plain = is_plain(event)
        data = event[6:-2] if plain else data_of(event)
        if not data:
            return event
        edit = self.meter.see(data, now_us)
        if edit is Edit.STRIP:
            stripped = self.meter.strip(data)
            event = b"data: %b\n\n" % stripped if plain else with_data(event, stripped)
        elif edit is Edit.DROP:
            event = b""
        if self.meter.done:
            self.terminal = event
            return b""
        return event
