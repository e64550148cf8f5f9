"""The way to one Valkey server, kept: a connection that is made again whenever it is lost, and refusals handled.

Not connected means that a call fails at once: its caller has a failure policy to apply. Only before the outcome of the
very first attempt calls are held, for no longer than they would wait for a reply.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from billing.errors import Unavailable
from billing.infra.valkey_call import Call, NotExecuted, Request, ValkeyError, error_of
from billing.infra.valkey_connection import Connection, Limits
from billing.infra.valkey_url import Address

BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 0.5

_log = logging.getLogger(__name__)


class Greeting(msgspec.Struct, frozen=True):
    """What a server says of itself in its reply to HELLO."""

    is_cluster: bool
    is_replica: bool


class Terms(msgspec.Struct, frozen=True):
    """``limits`` of calls, and how long one attempt to connect may take, with DNS, TLS and handshake."""

    limits: Limits
    connect_timeout_s: float
    tls: ssl.SSLContext | None
    monotonic: Callable[[], float]


class Keeper(Protocol):
    """Who keeps the links, as they see it."""

    async def greet(self, request: Request, greeting: Greeting) -> None:
        """Ask what must be asked before anything else; what it raises ends the attempt."""
        ...

    def connected_to(self, link: "Link", greeting: Greeting) -> None:
        """A connection is ready, for the first time or again."""
        ...

    def disconnected(self) -> None:
        """A connection was lost; calls to that server fail until the next ``connected_to``."""
        ...

    def redirected(self, link: "Link", call: Call, error: ValkeyError) -> None:
        """The server sent the call elsewhere (MOVED, ASK): the call is the keeper's now."""
        ...


class Link:
    """Keeps one connection to ``address``; made inside a running loop, at work from ``start`` to ``close``."""

    def __init__(self, address: Address, terms: Terms, keeper: Keeper) -> None:
        self.address = address
        self.connection: Connection | None = None
        self._terms = terms
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self.attempted: asyncio.Future[None] = self._loop.create_future()
        self._held: list[Call] | None = []
        self._task: asyncio.Task[None] | None = None
        self._fault = "not connected yet"

    def __repr__(self) -> str:
        if self.connection is not None:
            return f"<Link {self.address} connected, {self.connection.waiting} waiting>"
        return f"<Link {self.address} down: {self._fault}>"

    @property
    def waiting(self) -> int:
        """Calls without their reply."""
        return len(self._held or ()) if self.connection is None else self.connection.waiting

    def start(self) -> asyncio.Future[None]:
        """Begin to connect; the future is done after the first attempt, whatever came of it."""
        if self._task is None:
            self._task = self._loop.create_task(self._keep_connected())
        return self.attempted

    async def close(self) -> None:
        """End for good; what waits fails."""
        self._fault = "closed"
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close(self._fault)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._end_attempt()

    def send(self, call: Call) -> None:
        """Send a call, or fail it at once."""
        if self.connection is not None:
            self.connection.send(call)
        elif self._held is None or len(self._held) >= self._terms.limits.queue_max:
            call.fail(NotExecuted(f"Valkey at {self.address} is not connected: {self._fault}"))
        else:
            timeout_s = self._terms.limits.timeout_s
            call.limit(self._loop, timeout_s, timeout_s)
            self._held.append(call)

    # What the connection calls.

    def refused(self, call: Call, error: ValkeyError) -> None:
        """Send a call again by another way, or let it fail."""
        code = error.code
        if code == "NOSCRIPT" and call.script is not None:
            call.by_source()
            self.send(call)
        elif code in {"MOVED", "ASK"}:
            self._keeper.redirected(self, call, error)
        else:
            call.fail(error_of(error))
            if code == "READONLY" and self.connection is not None:
                # It was demoted: its name may lead to the new primary by now.
                self.connection.close("the server became a replica")

    def lost(self, connection: Connection) -> None:
        """Note that the connection takes no more calls."""
        if connection is self.connection:
            self.connection = None
            self._fault = connection.reason
            _log.warning("lost the connection to Valkey at %s: %s", self.address, connection.reason)
            self._keeper.disconnected()

    # Connecting.

    async def _keep_connected(self) -> None:
        delay_s = BACKOFF_MIN_S
        while True:
            began = self._terms.monotonic()
            try:
                connection, greeting = await self._open()
            # A host name that DNS cannot encode is a UnicodeError.
            except (OSError, TimeoutError, UnicodeError, Unavailable, ValkeyError) as error:
                self._note(str(error) or f"no connection within {self._terms.connect_timeout_s:g} s")
            else:
                await self._use(connection, greeting)
            if self._terms.monotonic() - began > BACKOFF_MAX_S:
                delay_s = BACKOFF_MIN_S
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_MAX_S)

    def _note(self, fault: str) -> None:
        """Remember why an attempt failed, and log it if it is news."""
        if fault != self._fault:
            _log.warning("no connection to Valkey at %s: %s", self.address, fault)
        self._fault = fault
        self._end_attempt()

    def _end_attempt(self) -> None:
        """The first attempt is over: send what was held for it, or fail it."""
        if not self.attempted.done():
            self.attempted.set_result(None)
        held, self._held = self._held or (), None
        for call in held:
            self.send(call)

    async def _use(self, connection: Connection, greeting: Greeting) -> None:
        """Let calls go through a connection until it is lost."""
        self.connection = connection
        _log.info("connected to Valkey at %s", self.address)
        try:
            self._end_attempt()
            self._keeper.connected_to(self, greeting)
            await connection.ended
        finally:
            connection.close(self._fault)

    async def _open(self) -> tuple[Connection, Greeting]:
        timeout_s = self._terms.connect_timeout_s
        patient = msgspec.structs.replace(self._terms.limits, timeout_s=timeout_s, stall_timeout_s=timeout_s)
        connection = Connection(self, str(self.address), patient, self._loop, self._terms.monotonic)
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(connection)
                greeting = await self._shake_hands(connection)
                await self._keeper.greet(connection.request, greeting)
        except BaseException as error:
            # Whatever it is, also a cancellation: nothing stays open.
            connection.close(str(error))
            raise
        connection.use(self._terms.limits)
        return connection, greeting

    async def _connect(self, connection: Connection) -> None:
        if self.address.path:
            await self._loop.create_unix_connection(lambda: connection, self.address.path)
        else:
            await self._loop.create_connection(
                lambda: connection, self.address.host, self.address.port, ssl=self._terms.tls
            )

    async def _shake_hands(self, connection: Connection) -> Greeting:
        """Authenticate, choose RESP2 and the database, and see that the server takes work: it may still be loading."""
        address = self.address
        user = (b"AUTH", address.user, address.password) if address.password else ()
        replies = [connection.request(b"HELLO", b"2", *user)]
        if address.database:
            replies.append(connection.request(b"SELECT", address.database))
        replies.append(connection.request(b"PING"))
        greeting = _greeting_of((await asyncio.gather(*replies))[0])
        if greeting.is_replica and not greeting.is_cluster:
            raise Unavailable("it is a replica, which takes no writes")
        return greeting


def _greeting_of(hello: Any) -> Greeting:
    if not isinstance(hello, list):
        raise Unavailable(f"it answered HELLO with {type(hello).__name__}, not as Valkey and Redis do")
    fields = dict(zip(hello[::2], hello[1::2], strict=False))
    return Greeting(fields.get(b"mode") == b"cluster", fields.get(b"role") != b"master")
