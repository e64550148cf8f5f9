"""The gateway's HTTP/1.1 client: connections to engines, kept and reused.

Written for this one use because it is on the path of every request and every chunk (performance.md): one write a
request, one callback a socket read, bookkeeping that does not grow with the number of connections.
"""

import asyncio
import ssl
from collections.abc import Callable

from billing.errors import UpstreamBroken, UpstreamUnreachable
from billing.gateway.connection import Connection, Limits
from billing.gateway.forward import Destination
from billing.gateway.ports import Exchange
from billing.gateway.reply import Reply

SWEEP_INTERVAL_S = 0.1
"""How often deadlines are looked at: a timeout can be late by as much, in the middle of a stream by twice as much."""
CLOSE_WAIT_S = 1.0
"""Longest wait for aborted connections to be gone when the pool closes."""


class UpstreamPool:
    """Sends requests to engines over kept connections; made inside a running loop, and used in that loop only.

    ``connect_timeout_s``: DNS, TCP and TLS together. ``head_timeout_s``: from the request to the head of its reply.
    ``idle_timeout_s``: the longest silence of an engine while somebody reads its body. ``connections_idle_max``: kept
    for each destination. ``connection_idle_s``: how long they are kept; below the shortest keep-alive of the engines (5 s).
    ``head_bytes_max``: of a reply's head, and of anything else that is not body. ``ssl_context``: for TLS origins;
    the system's trust by default.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        head_timeout_s: float,
        idle_timeout_s: float,
        connections_idle_max: int,
        connection_idle_s: float,
        head_bytes_max: int = 64 * 1024,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.connections_opened = 0
        self.retries = 0
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_s = connect_timeout_s
        self._limits = Limits(head_timeout_s, idle_timeout_s, head_bytes_max)
        self._idle_max = connections_idle_max
        self._idle_s = connection_idle_s
        self._ssl_context = ssl_context
        self._open: set[Connection] = set()
        self._active: set[Connection] = set()
        # A dict is a stack that also forgets any member at once: the newest is reused, the oldest expires first.
        self._idle: dict[Destination, dict[Connection, None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        if self._closed:
            return f"<UpstreamPool closed, {len(self._open)} open>"
        return f"<UpstreamPool {len(self._active)} active, {sum(map(len, self._idle.values()))} idle>"

    async def send(
        self,
        destination: Destination,
        head: bytes,
        body: bytes,
        begun: Callable[[Exchange], None] | None = None,
    ) -> Reply:
        """Send a request and wait for the head of its reply, which may come before the request is wholly written.

        ``head`` is the complete request head with its blank line. ``begun`` is called with the exchange, before the
        wait, so that it can be hung up; once more if the request is sent once more. That happens when a reused
        connection turns out to be dead and not one byte of a reply has come: on a fresh connection, never on another
        kept one, which may be as dead. A hang-up forbids it.

        Raises ``UpstreamUnreachable`` (no connection could be made), ``UpstreamTimeout``, or ``UpstreamBroken`` (also
        when a hang-up came before the head). Cancelling it aborts the exchange.
        """
        connection = self._take(destination)
        if connection is not None:
            try:
                return await _start(connection, head, body, begun).headed()
            except UpstreamUnreachable:
                self.retries += 1
        connection = await self._connect(destination)
        try:
            return await _start(connection, head, body, begun).headed()
        except UpstreamUnreachable as fault:
            # This engine was reached and may have worked on the request: what it used is unknown, not nothing.
            raise UpstreamBroken(
                f"{destination.authority} took the request and ended without a reply"
            ) from fault

    async def close(self) -> None:
        """Close what is idle, abort the rest (their readers get ``UpstreamBroken``), accept nothing more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.close()
        if self._open:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=CLOSE_WAIT_S)

    def freed(self, connection: Connection, *, reusable: bool) -> None:
        """An exchange has ended (called by its connection): keep the connection, or close it."""
        self._active.discard(connection)
        idle = self._idle.setdefault(connection.destination, {})
        if reusable and len(idle) < self._idle_max:
            connection.deadline = self._loop.time() + self._idle_s
            idle[connection] = None
        else:
            connection.close()

    def lost(self, connection: Connection) -> None:
        """A connection is gone (called by it)."""
        self._open.discard(connection)
        self._active.discard(connection)
        idle = self._idle.get(connection.destination)
        if idle is not None:
            idle.pop(connection, None)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _take(self, destination: Destination) -> Connection | None:
        """The newest kept connection that is open and silent; those that are not are closed."""
        idle = self._idle.get(destination)
        while idle:
            connection, _ = idle.popitem()
            if connection.is_fresh():
                self._activate(connection)
                return connection
            connection.close()
        return None

    async def _connect(self, destination: Destination) -> Connection:
        self._check_open(destination)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(destination, self._limits, self, self._loop),
                    destination.host,
                    destination.port,
                    ssl=self._context() if destination.tls else None,
                )
        except (OSError, UnicodeError) as error:
            # TimeoutError, socket.gaierror and ssl.SSLError are OSErrors; a host that is no name is a UnicodeError.
            raise UpstreamUnreachable(
                f"no connection to {destination.authority}: {str(error) or type(error).__name__}"
            ) from error
        if self._closed or connection.is_closed():
            connection.close()
            self._check_open(destination)
            raise UpstreamUnreachable(f"{destination.authority} closed the connection at once")
        # Counted here and not when it is made: uvloop does not tell a connection that its cancelled making closed it.
        self.connections_opened += 1
        self._open.add(connection)
        self._activate(connection)
        return connection

    def _check_open(self, destination: Destination) -> None:
        if self._closed:
            raise UpstreamUnreachable(f"no connection to {destination.authority}: the pool is closed")

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    def _activate(self, connection: Connection) -> None:
        self._active.add(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        """Look at every deadline, as long as there is a connection.

        One timer for the pool: a timer for each awaited chunk would cost more than the chunk's parsing, where setting a
        deadline is one attribute. A sweep over 5,000 streams takes a fifth of a millisecond, ten times a second.
        """
        now = self._loop.time()
        for connection in [one for one in self._active if one.heard or one.deadline < now]:
            connection.check_deadline(now)
        for destination, idle in list(self._idle.items()):
            while idle and (oldest := next(iter(idle))).deadline < now:
                del idle[oldest]
                oldest.close()
            if not idle:
                del self._idle[destination]
        busy = self._active or self._idle
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if busy else None


def _start(
    connection: Connection, head: bytes, body: bytes, begun: Callable[[Exchange], None] | None
) -> Reply:
    reply = connection.start(head, body)
    if begun is not None:
        try:
            begun(reply)
        except BaseException:
            # Nobody would read this reply, nor close it.
            reply.close()
            raise
    return reply
