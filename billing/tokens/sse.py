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
_LINE_FEED, _RETURN = 0x0A, 0x0D
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

DONE = b"[DONE]"


class Unframed(bytes):
    """A part of an event that is too long to be framed."""

    __slots__ = ()


class SseFramer:
    """Cuts a byte stream into raw events, each with its blank line; what is left over waits for the next read.

    However reads cut a large event, each byte of it is searched and copied a bounded number of times.
    """

    __slots__ = ("_passed", "overflowed", "tail")

    def __init__(self) -> None:
        self.tail = bytearray()
        """What has come of the next event. It grows in its place: joined anew at each read it would take quadratic time."""
        self.overflowed = False
        self._passed = b""

    def __repr__(self) -> str:
        return f"<SseFramer tail={len(self.tail)} B{' overflowed' if self.overflowed else ''}>"

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes; of an event above ``EVENT_BYTES_MAX`` its parts, as :class:`Unframed`."""
        if self.overflowed:
            return self._skip(piece)
        if self.tail:
            return self._go_on(piece)
        events = _split(piece) if _RETURN in piece else _split_lf(piece)
        if rest := events.pop():
            self.tail += rest
            events += self._too_long()
        return events

    def _go_on(self, piece: bytes) -> list[bytes]:
        """Complete the event that began in earlier reads: its blank line ends in this one, and may begin before it."""
        held = self.tail
        known = len(held)
        held += piece
        end = _end_of_first(held, max(0, known + 1 - _BLANK_LINE_BYTES_MAX))
        if not end:
            return self._too_long()
        del held[end:]
        events = [self.rest()]
        if end < known + len(piece):
            events += self.feed(piece[end - known :])
        return events

    def _too_long(self) -> list[bytes]:
        """All that is known of an event that is too long; nothing of another."""
        if len(self.tail) <= EVENT_BYTES_MAX:
            return []
        self.overflowed = True
        self._passed = bytes(self.tail[1 - _BLANK_LINE_BYTES_MAX :])
        return [Unframed(self.rest())]

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
        """What came after the last blank line; nothing is held afterwards."""
        rest = bytes(self.tail)
        self.tail.clear()
        return rest


def plain_data(event: bytes) -> bytes:
    """The data of a raw event that is one ``data: `` line and its blank line, as nearly all are; empty for any other."""
    data = event[6:-2]
    # Numbers, not bytes: a search for one byte as a number takes a tenth of the time.
    if event[:6] == b"data: " and event[-2:] == b"\n\n" and _LINE_FEED not in data and _RETURN not in data:
        return data
    return b""


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


def _end_of_first(buffer: bytearray, start: int) -> int:
    """Where the first blank line from ``start`` on ends; 0 when there is none. The end of the buffer may be half of one."""
    if buffer.find(b"\r", start) < 0:
        found = buffer.find(b"\n\n", start)
        return found + 2 if found >= 0 else 0
    blank = _BLANK_LINE.search(buffer, start, len(buffer) - buffer.endswith(b"\r"))
    return blank.end() if blank else 0


def _split_lf(buffer: bytes) -> list[bytes]:
    lines = buffer.split(b"\n")
    if len(lines) % 2 and not any(lines[1::2]):
        # Every event is one line: to look for one byte takes half the time of looking for two.
        parts, last = lines[:-1:2], lines[-1]
    else:
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
