"""The reply to one request as the proxy reads it, whatever brings its bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from billing.errors import BillingError, UpstreamBroken

UNREAD_BYTES_HIGH = 64 * 1024
"""Undelivered body above which the source is paused; one socket read (at most 256 KiB) may come on top."""
UNREAD_BYTES_LOW = 16 * 1024
"""Undelivered body at which the source goes on."""


STOPPED = b"stopped"
"""What wakes whoever pumps when the sink takes no more; told apart by identity."""
Sink = Callable[[bytes], bool]
"""Takes a piece of a body; False when it wants no other for now."""


class Source(Protocol):
    """What a reply asks of the connection that brings it, until the connection calls its ``end``."""

    heard: bool
    """Set for each piece that went to a sink: the longest silence between two reads begins anew."""

    def expect(self, *, body: bool) -> asyncio.Future[bytes]:
        """A future for the next bytes; with ``body`` the longest silence between two reads begins now."""
        ...

    def limit(self, limit_s: float, *, soonest: bool) -> None:
        """End the exchange in ``limit_s`` seconds; with ``soonest`` a limit set before holds if it comes first."""
        ...

    def end_sending(self) -> None:
        """Say to the engine that nothing more will be sent."""
        ...

    def stop(self) -> None:
        """Abort the exchange at once."""
        ...

    def pause_reading(self) -> None:
        """Leave what comes in the kernel, so that the engine is slowed down."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...


class Reply:
    """The reply to one request: its head is there, its body is read piece by piece, in order, by one reader.

    ``status`` and ``headers`` (names in lower case, in the order received) stand as soon as the pool hands it out;
    ``complete`` becomes true when the body's framing ended properly.
    """

    __slots__ = (
        "_ended", "_error", "_paused", "_pieces", "_quiet", "_sink", "_source", "_unread_bytes", "_waiter",
        "complete", "headers", "status",
    )  # fmt: skip

    def __init__(self, source: Source) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._source: Source | None = source
        self._pieces: deque[bytes] = deque()
        self._unread_bytes = 0
        self._waiter: asyncio.Future[bytes] | None = None
        self._sink: Sink | None = None
        self._error: BillingError | None = None
        self._ended = False
        self._quiet = False
        self._paused = False

    def __repr__(self) -> str:
        state = (
            "complete" if self.complete else "ended" if self._ended else "ending" if self._quiet else "open"
        )
        return f"<Reply {self.status} {state}, {self._unread_bytes} bytes unread>"

    # What the proxy calls.

    async def read(self) -> bytes:
        """The next piece of the body, without its framing, as one socket read brought it; ``b""`` at the end.

        Raises ``UpstreamBroken`` when the body breaks off, ``UpstreamTimeout`` when the engine falls silent. After
        :meth:`hang_up`, :meth:`expire` or :meth:`close` every end is ``b""``; ``complete`` tells which it was.
        Cancelling it aborts the exchange.
        """
        if self._pieces:
            return self._next()
        if not self._ended:
            piece = await self._wait()
            if piece:
                return piece
        if self._error is not None:
            raise self._error
        return b""

    async def pump(self, sink: "Sink") -> bool:
        """Give the sink each piece as the socket brings it, without waking a task for it; like so many ``read``.

        True as soon as the sink says that it takes no more for now (it has taken the piece it was given), False at the
        end. Raises what ``read`` raises, and what the sink raises.
        """
        while True:
            while self._pieces:
                if not sink(self._next()):
                    return True
            if self._ended:
                if self._error is not None:
                    raise self._error
                return False
            self._sink = sink
            try:
                if await self._wait() is STOPPED:
                    return True
            finally:
                self._sink = None

    def hang_up(self, grace_s: float) -> None:
        """The client is gone: end the sending side, and go on reading for at most ``grace_s`` seconds.

        What an engine still sends in those moments says what it used. Over TLS, which has no half-close, this only
        reads on. The connection never serves another exchange.
        """
        if self._source is not None:
            self._source.end_sending()
        self.expire(grace_s)

    def expire(self, limit_s: float) -> None:
        """Go on reading for at most ``limit_s`` seconds from now; of several limits the soonest holds."""
        if self._source is not None:
            # Between two reads of a body the deadline is an old one, already met.
            self._source.limit(limit_s, soonest=self._quiet or not self.status)
        self._quiet = True

    def close(self) -> None:
        """Abort the exchange now, unless the reply had come to its end; drop what is unread. May be called again."""
        self._quiet = True
        self._pieces.clear()
        self._unread_bytes = 0
        if self._source is not None:
            self._source.stop()

    # What the pool and the connection call.

    async def headed(self) -> "Reply":
        """This reply once its head has come; raises what ended it if none came.

        After a hang-up that is always ``UpstreamBroken``: an engine that says nothing more may well have worked.
        """
        if not self.status and not self._ended:
            await self._wait()
        if self.status:
            return self
        raise self._error or UpstreamBroken("the exchange was hung up before the head of its reply")

    def is_awaited(self) -> bool:
        """Whether a deadline that has passed ends it: somebody waits, or only a limited time of reading is left."""
        return self._quiet or self._waiter is not None

    def begin(self, status: int) -> None:
        """The head has come."""
        self.status = status
        self._wake()

    def deliver(self, piece: bytes) -> None:
        """One socket read's worth of body has come."""
        sink = self._sink
        if sink is not None:
            try:
                goes_on = sink(piece)
            # Whoever pumps gets it: nothing of a sink may end the connection's own reading.
            except Exception as fault:  # noqa: BLE001 - handed over whole
                self._stop_pumping(fault)
                return
            if not goes_on:
                self._stop_pumping(None)
            elif not self._quiet and self._source is not None:
                self._source.heard = True
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(piece)
            return
        self._pieces.append(piece)
        self._unread_bytes += len(piece)
        if self._unread_bytes > UNREAD_BYTES_HIGH and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def end(self, error: BillingError | None, *, complete: bool = False) -> None:
        """Nothing more will come; called once."""
        if self._paused and self._source is not None:
            # The connection may serve another exchange while this reply's last pieces are still unread.
            self._source.resume_reading()
        self._source = None
        self._ended = True
        self.complete = complete
        self._error = None if self._quiet else error
        self._wake()

    async def _wait(self) -> bytes:
        if self._waiter is not None or self._source is None:
            raise RuntimeError("a reply has one reader")
        self._waiter = waiter = self._source.expect(body=self.status != 0 and not self._quiet)
        try:
            return await waiter
        except BaseException:
            # A cancelled reader leaves bytes behind that nobody will read: the connection must not live on.
            self.close()
            raise

    def _stop_pumping(self, fault: Exception | None) -> None:
        """The sink takes no more, or failed."""
        waiter, self._waiter, self._sink = self._waiter, None, None
        if waiter is None or waiter.done():
            return
        if fault is None:
            waiter.set_result(STOPPED)
        else:
            waiter.set_exception(fault)

    def _next(self) -> bytes:
        piece = self._pieces.popleft()
        self._unread_bytes -= len(piece)
        if self._paused and self._unread_bytes <= UNREAD_BYTES_LOW and self._source is not None:
            self._paused = False
            self._source.resume_reading()
        return piece

    def _wake(self) -> None:
        # The outcome is stored and looked at after the wake-up: an exception set on a future whose task was cancelled
        # in the same tick would be reported as never retrieved.
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")
