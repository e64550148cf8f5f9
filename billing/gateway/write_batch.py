"""The chunks that one tick of the loop passes on, written together at its end.

A write of its own between two reads costs a fifth more for each chunk: the system calls push this process's code out of the
processor's nearest memory, and it them (docs/decisions/0011-batched-writes.md).
"""

from collections.abc import Callable
from typing import Protocol

PENDING_BYTES_MAX = 64 * 1024
"""What waits is written at once when it is more, so that a client that does not keep up is noticed within a tick."""


class Writable(Protocol):
    """A transport."""

    def write(self, data: bytes, /) -> None:
        """Write, or buffer."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""


class WriteBatch:
    """Collects writes and does them in their order; whoever writes to one of the transports by himself flushes first."""

    __slots__ = ("_pending", "_size")

    def __init__(self) -> None:
        self._pending: list[tuple[Writable, bytes]] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<WriteBatch {len(self._pending)} pending>"

    def add(self, transport: Writable, data: bytes, at_end: Callable[[Callable[[], None]], object]) -> None:
        """Write when this tick of the loop has ended, which is when ``at_end`` (``call_soon``) calls what it is given."""
        if not self._pending:
            at_end(self.flush)
        self._pending.append((transport, data))
        self._size += len(data)
        if self._size > PENDING_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what waits, now. What was meant for a client that has left since is dropped."""
        pending = self._pending
        if not pending:
            return
        self._pending, self._size = [], 0
        for transport, data in pending:
            if not transport.is_closing():
                transport.write(data)
