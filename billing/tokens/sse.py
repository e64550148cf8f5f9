"""Server-sent events, framed on blank lines with a carried tail (WHATWG HTML §9.2; performance.md, lesson 4).

A read may end anywhere, also inside a multi-byte character or between CR and LF. Joining the raw bytes of all events
and the rest gives the stream back, byte for byte.
"""

import re

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""A longer event is not framed any more: its bytes pass, and the meter keeps what it knew."""

# A line ends with CRLF, LF or CR; a blank line is two line ends in a row. CR not followed by LF stands alone, so that
# one CRLF is never taken for two ends.
_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_END + _END)
_LINE = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE_BYTES_MAX = 4
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

DONE = b"[DONE]"


class Unframed(bytes):
    """A part of an event that is too long to be framed."""

    __slots__ = ()


class SseFramer:
    """Cuts a byte stream into raw events, each with its blank line; what is left over waits in ``tail``."""

    __slots__ = ("_passed", "overflowed", "tail")

    def __init__(self) -> None:
        self.tail = b""
        self.overflowed = False
        self._passed = b""

    def __repr__(self) -> str:
        return f"<SseFramer tail={len(self.tail)} B{' overflowed' if self.overflowed else ''}>"

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes; of an event above ``EVENT_BYTES_MAX`` its parts, as :class:`Unframed`."""
        if self.overflowed:
            return self._skip(piece)
        buffer = self.tail + piece if self.tail else piece
        events = _split(buffer) if b"\r" in buffer else _split_lf(buffer)
        self.tail = events.pop()
        if len(self.tail) > EVENT_BYTES_MAX:
            self.overflowed = True
            self._passed = self.tail[1 - _BLANK_LINE_BYTES_MAX :]
            events.append(Unframed(self.rest()))
        return events

    def _skip(self, piece: bytes) -> list[bytes]:
        """Pass on what belongs to the long event; after its blank line frame again."""
        known = len(self._passed)
        buffer = self._passed + piece
        blank = _BLANK_LINE.search(buffer[:-1] if buffer.endswith(b"\r") else buffer)
        if blank is None:
            self._passed = buffer[1 - _BLANK_LINE_BYTES_MAX :]
            return [Unframed(piece)]
        self.overflowed, self._passed = False, b""
        return [Unframed(buffer[known : blank.end()]), *self.feed(buffer[blank.end() :])]

    def rest(self) -> bytes:
        """What came after the last blank line; the tail is empty afterwards."""
        rest, self.tail = self.tail, b""
        return rest


def is_plain(event: bytes) -> bool:
    """Whether a raw event is one ``data: `` line and its blank line, as nearly all are: its data is ``event[6:-2]``."""
    return (
        event.find(b"\n") == len(event) - 2
        and event.startswith(b"data: ")
        and event.endswith(b"\n")
        and b"\r" not in event
    )


def data_of(event: bytes) -> bytes:
    """The data of a raw event: its ``data`` lines joined by LF; empty for a comment or an event without data."""
    lines = []
    for line in _LINE.split(event.removeprefix(_BYTE_ORDER_MARK)):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def with_data(event: bytes, data: bytes) -> bytes:
    """The same event with other data: its other lines (``event``, ``id``, comments) stay, in their order, before it."""
    mark = _BYTE_ORDER_MARK if event.startswith(_BYTE_ORDER_MARK) else b""
    lines = _LINE.split(event.removeprefix(_BYTE_ORDER_MARK))
    kept = [line for line in lines if line and line.partition(b":")[0] != b"data"]
    return mark + b"\n".join([*kept, b"data: " + data]) + b"\n\n"


def _split_lf(buffer: bytes) -> list[bytes]:
    parts = buffer.split(b"\n\n")
    last = parts.pop()
    return [part + b"\n\n" for part in parts] + [last]


def _split(buffer: bytes) -> list[bytes]:
    events, start = [], 0
    # A CR at the very end may be half of a CRLF: whether it ends a line shows only with the next byte.
    for blank in _BLANK_LINE.finditer(buffer[:-1] if buffer.endswith(b"\r") else buffer):
        events.append(buffer[start : blank.end()])
        start = blank.end()
    events.append(buffer[start:])
    return events
