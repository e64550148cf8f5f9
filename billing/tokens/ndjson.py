"""Newline-delimited JSON, framed on LF with a carried tail (Ollama's streams; performance.md, lesson 4).

A read may end anywhere, also inside a multi-byte character or between CR and LF: a CR before the LF belongs to its line,
and JSON holds no raw line end. Joining the raw lines and the rest gives the stream back, byte for byte.
"""

from billing.tokens.sse import EVENT_BYTES_MAX, Unframed

LINE_BYTES_MAX = EVENT_BYTES_MAX
"""A longer line is not framed any more: its bytes pass, and the meter keeps what it knew."""

_END = b"\n"


class NdjsonFramer:
    """Cuts a byte stream into raw lines, each with its line end; what is left over waits in ``tail``."""

    __slots__ = ("overflowed", "tail")

    def __init__(self) -> None:
        self.tail = b""
        self.overflowed = False

    def __repr__(self) -> str:
        return f"<NdjsonFramer tail={len(self.tail)} B{' overflowed' if self.overflowed else ''}>"

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes; of a line above ``LINE_BYTES_MAX`` its parts, as :class:`Unframed`."""
        if self.overflowed:
            return self._skip(piece)
        lines = (self.tail + piece if self.tail else piece).split(_END)
        self.tail = lines.pop()
        lines = [line + _END for line in lines]
        if len(self.tail) > LINE_BYTES_MAX:
            self.overflowed = True
            lines.append(Unframed(self.rest()))
        return lines

    def _skip(self, piece: bytes) -> list[bytes]:
        """Pass on what belongs to the long line; after its end frame again."""
        end = piece.find(_END) + 1
        if not end:
            return [Unframed(piece)] if piece else []
        self.overflowed = False
        return [Unframed(piece[:end]), *self.feed(piece[end:])]

    def rest(self) -> bytes:
        """What came after the last line end; the tail is empty afterwards."""
        rest, self.tail = self.tail, b""
        return rest
