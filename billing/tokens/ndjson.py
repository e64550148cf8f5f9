"""Newline-delimited JSON, framed on LF with a carried tail (Ollama's streams; performance.md, lesson 4).

A read may end anywhere, also inside a multi-byte character or between CR and LF: a CR before the LF belongs to its line,
and JSON holds no raw line end. Joining the raw lines and the rest gives the stream back, byte for byte.
"""

from billing.tokens.sse import EVENT_BYTES_MAX, Unframed

LINE_BYTES_MAX = EVENT_BYTES_MAX
"""A longer line is not framed any more: its bytes pass, and the meter keeps what it knew."""

_END = b"\n"


class NdjsonFramer:
    """Cuts a byte stream into raw lines, each with its line end; what is left over waits for the next read.

    However reads cut a long line, each byte of it is searched and copied a bounded number of times.
    """

    __slots__ = ("overflowed", "tail")

    def __init__(self) -> None:
        self.tail = bytearray()
        """What has come of the next line. It grows in its place: joined anew at each read it would take quadratic time."""
        self.overflowed = False

    def __repr__(self) -> str:
        return f"<NdjsonFramer tail={len(self.tail)} B{' overflowed' if self.overflowed else ''}>"

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes; of a line above ``LINE_BYTES_MAX`` its parts, as :class:`Unframed`."""
        if self.overflowed:
            return self._skip(piece)
        lines = piece.split(_END)
        rest = lines.pop()
        lines = [line + _END for line in lines]
        if lines and self.tail:
            lines[0] = self.rest() + lines[0]
        if rest:
            self.tail += rest
            lines += self._too_long()
        return lines

    def _too_long(self) -> list[bytes]:
        """All that is known of a line that is too long; nothing of another."""
        if len(self.tail) <= LINE_BYTES_MAX:
            return []
        self.overflowed = True
        return [Unframed(self.rest())]

    def _skip(self, piece: bytes) -> list[bytes]:
        """Pass on what belongs to the long line; after its end frame again."""
        end = piece.find(_END) + 1
        if not end:
            return [Unframed(piece)] if piece else []
        self.overflowed = False
        return [Unframed(piece[:end]), *self.feed(piece[end:])]

    def rest(self) -> bytes:
        """What came after the last line end; nothing is held afterwards."""
        rest = bytes(self.tail)
        self.tail.clear()
        return rest


def line_data(piece: bytes) -> bytes:
    """The text of a read that is one whole line, as nearly all are; empty for any other."""
    return piece.strip() if piece.find(_END) == len(piece) - 1 else b""
