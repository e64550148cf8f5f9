"""One pipelined connection to Valkey: the commands of one turn of the loop leave in one write, replies come in order.

On the path of every request (performance.md), so: no task, no timer and no lock a call. A caller that is cancelled or
gives up keeps its place in the line, and its late reply is read and dropped. A byte that nobody waits for means that
the line has shifted or may: the connection is closed.
"""

import asyncio
import itertools
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import hiredis
import msgspec

from billing.errors import Unavailable
from billing.infra.valkey_call import Call, NotExecuted, Part, Reply, ValkeyError, late
from billing.settings import MIB

REPLY_BYTES_MAX = 64 * MIB
"""Of one reply; nothing that is asked here has more than a few kB."""
POSTPONED_MAX = 2
"""Turns that the loop needs at most to read what lies in the socket; of TLS it may be none of the server's words."""
LATE_S = 0.005
"""A timer that is so late shows that this process was busy: replies may lie in the socket unread."""
TIMER_RESOLUTION_S = 0.001
"""uvloop's; a timer may fire so much early."""

_NOTHING = object()
_ASKING: tuple[Part, ...] = (b"ASKING",)
# hiredis declares a tuple of one.
_pack = cast("Callable[[tuple[Part, ...]], bytes]", hiredis.pack_command)


class Limits(msgspec.Struct, frozen=True):
    """``timeout_s``: of a call. ``stall_timeout_s``: of a reply, then the connection goes. ``queue_max``: calls waiting."""

    timeout_s: float
    stall_timeout_s: float
    queue_max: int


class Owner(Protocol):
    """Who keeps the connection, as it sees them."""

    def refused(self, call: Call, error: ValkeyError) -> None:
        """The server answered a call with an error; the call is the owner's now."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection takes no more calls; those that waited have failed."""
        ...


class Connection(asyncio.Protocol):
    """A connection from its making to its loss; ``ended`` is done when it takes no more calls."""

    __slots__ = (
        "_answered", "_due", "_flights", "_flushing", "_gets", "_limits", "_loop", "_monotonic", "_outgoing", "_owner",
        "_pending", "_postponed", "_queued", "_readable", "_reader", "_spared", "_timer", "_transport", "_unfinished_bytes", "_where", "ended", "reason",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        where: str,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
    ) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self.reason = ""
        self._owner = owner
        self._where = where
        self._limits = limits
        self._loop = loop
        self._monotonic = monotonic
        self._transport: asyncio.Transport | None = None
        self._readable = select.poll()
        self._postponed = 0
        self._reader = hiredis.Reader(notEnoughData=_NOTHING, replyError=ValkeyError, errors="replace")
        self._gets: Callable[[], Any] = self._reader.gets
        # Made in this turn and not written yet: a reply that comes before that is not theirs.
        self._queued: list[Call] = []
        self._outgoing: list[bytes] = []
        self._flushing = False
        self._pending: deque[Call] = deque()
        self._answered = 0
        self._unfinished_bytes = 0
        # Of each write: when it was, and how many calls had been written with it in all.
        self._flights: deque[tuple[float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._spared = False

    def __repr__(self) -> str:
        state = f"closed: {self.reason}" if self.ended.done() else "open"
        return f"<Connection {self._where} {state}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Calls without their reply, also those that nobody waits for any more."""
        return len(self._pending) + len(self._queued)

    def use(self, limits: Limits) -> None:
        """Other limits from now on: the handshake, which is over, has its own."""
        self._limits = limits
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def request(self, *parts: Part) -> Reply:
        """Send a command of the connection's own."""
        call = Call(self._loop.create_future(), parts)
        self.send(call)
        return call.future

    def send(self, call: Call) -> None:
        """Write it with the others of this turn; it fails at once when ``queue_max`` calls wait."""
        queued = self._queued
        if len(self._pending) + len(queued) >= self._limits.queue_max:
            call.fail(NotExecuted(f"{self._limits.queue_max} calls wait for Valkey at {self._where} already"))
            return
        packed = _pack(call.parts)
        if call.retry is not None and call.retry.asking:
            self._outgoing.append(_pack(_ASKING))
            queued.append(_unheard(self._loop))
        self._outgoing.append(packed)
        queued.append(call)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self, reason: str) -> None:
        """Fail what waits and abort; nothing is taken any more. Safe to repeat."""
        if self.ended.done():
            return
        self.reason = reason
        self.ended.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._owner.lost(self)
        fault = f"the connection to Valkey at {self._where} was lost: {reason}"
        for call in self._pending:
            call.fail(Unavailable(fault))
        for call in self._queued:
            call.fail(NotExecuted(fault))  # made in this turn and not written
        for line in (self._pending, self._queued, self._outgoing, self._flights):
            line.clear()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, unless nobody wants the connection any more."""
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self.ended.done():
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.close(str(exc) if exc else "the server closed it")

    def eof_received(self) -> None:
        """The server sends nothing more: what waits can fail now."""
        self.close("the server closed it")

    def data_received(self, data: bytes) -> None:
        """Give each reply to the call whose turn it is."""
        pending, gets = self._pending, self._gets
        waiting = len(pending)
        if waiting:
            self._reader.feed(data)
            try:
                while pending and (reply := gets()) is not _NOTHING:
                    call = pending.popleft()
                    future = call.future
                    # A caller that is gone gets nothing, and neither does the next one.
                    if not future.done():
                        if reply.__class__ is ValkeyError:
                            self._refuse(call, reply, waiting)
                        else:
                            future.set_result(reply)
            except hiredis.ProtocolError as error:
                self.close(str(error))
                return
        answered = waiting - len(pending)
        self._answered += answered
        self._unfinished_bytes = 0 if answered else self._unfinished_bytes + len(data)
        if not pending and (not waiting or self._reader.has_data()):
            self.close("the server sent more than was asked for")
        elif self._unfinished_bytes > REPLY_BYTES_MAX:
            self.close(f"a reply is longer than {REPLY_BYTES_MAX} bytes")

    def _refuse(self, call: Call, error: ValkeyError, waiting: int) -> None:
        """Hand an error reply to the owner, which may send the call again in what is left of its time."""
        number = self._answered + waiting - len(self._pending)
        sent_at = next(flight[0] for flight in self._flights if flight[1] >= number)
        timeout_s = self._limits.timeout_s
        call.limit(self._loop, max(0.0, sent_at + timeout_s - self._monotonic()), timeout_s)
        self._owner.refused(call, error)

    def _flush(self) -> None:
        """Write the commands of this turn, unless there is something to read that cannot be meant for them."""
        self._flushing = False
        if self._transport is None or not self._queued:
            return
        if not self._pending and self._postponed < POSTPONED_MAX and self._readable.poll(0):
            self._postponed += 1
            self._flushing = True
            self._loop.call_soon(self._flush)
            return
        self._postponed = 0
        self._pending.extend(self._queued)
        self._queued.clear()
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        self._forget_answered()
        now = self._monotonic()
        self._flights.append((now, self._answered + len(self._pending)))
        if self._timer is None:
            self._watch_at(now + self._limits.timeout_s, now)

    # Time: one timer for all calls. Those of one write expire together.

    def _forget_answered(self) -> None:
        flights, answered = self._flights, self._answered
        while flights and flights[0][1] <= answered:
            flights.popleft()

    def _watch_at(self, due: float, now: float) -> None:
        self._due = due
        self._timer = self._loop.call_later(due - now, self._watch)

    def _watch(self) -> None:
        """Fail the calls that have waited too long, and close the connection when its oldest reply is overdue."""
        now = self._monotonic()
        self._timer = None
        if now - self._due > LATE_S and not self._spared:
            # uvloop runs timers before it reads sockets: let it read what has come while this process was busy.
            self._spared = True
            self._watch_at(now + TIMER_RESOLUTION_S, now)
            return
        self._spared = False
        self._forget_answered()
        if not self._flights:
            return
        stalled_at = self._flights[0][0] + self._limits.stall_timeout_s
        if stalled_at <= now + TIMER_RESOLUTION_S:
            self.close(f"no reply for {self._limits.stall_timeout_s:g} s")
        else:
            self._watch_at(min(stalled_at, self._expire(now)), now)

    def _expire(self, now: float) -> float:
        """Fail what is due; when the next is."""
        timeout_s, late_until = self._limits.timeout_s, 0
        next_due = now + timeout_s  # of whatever is written from now on
        for sent_at, number in self._flights:
            if sent_at + timeout_s > now + TIMER_RESOLUTION_S:
                next_due = sent_at + timeout_s
                break
            late_until = number
        for call in itertools.islice(self._pending, max(0, late_until - self._answered)):
            call.fail(late(timeout_s))
        return next_due


def _unheard(loop: asyncio.AbstractEventLoop) -> Call:
    """A call whose reply is dropped."""
    call = Call(loop.create_future(), _ASKING)
    call.future.cancel()
    return call
