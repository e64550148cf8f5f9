"""uvicorn's HTTP protocol with a limit on what a request's head may cost, and errors in the callers' own dialect.

uvicorn 0.54 collects a head of any size; here a head that does not end within its limit is answered 431 and the
connection closed. Made by :func:`limited_protocol`, because uvicorn constructs protocols by class.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from billing.errors import BillingError, HeadersTooLarge, InvalidInput
from billing.gateway.ports import Headers
from billing.gateway.problem import problem
from billing.gateway.write_batch import WriteBatch

CONNECTION = "billing.connection"
"""The ASGI extension under which a request finds its connection: a callback costs a task less than awaiting ``receive``."""

OWN_PATHS = frozenset({"/healthz", "/readyz"})
"""What Litestar serves. Everything else is the proxy's, past Litestar, whose routing would cost 16 µs a request."""

JOINED_BYTES_MAX = 64 * 1024
"""A piece of a reply longer than this is written by itself: copying it would cost more than the system call."""

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_BODILESS = frozenset({*range(100, 200), 204, 304})
_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class JoinedWrites:
    """The transport as uvicorn's reply cycle sees it: while held, what is written waits and then leaves in one write.

    uvicorn writes a reply's head and the first bytes of its body one by one, and each write is a system call.
    """

    __slots__ = ("_batch", "_held", "_transport")

    def __init__(self, transport: asyncio.Transport, batch: WriteBatch) -> None:
        self._transport = transport
        self._batch = batch
        self._held: list[bytes] | None = None

    def __repr__(self) -> str:
        return f"<JoinedWrites {'through' if self._held is None else f'{len(self._held)} held'}>"

    def hold(self) -> None:
        """Let what is written from now on wait."""
        self._held = []

    def release(self) -> None:
        """Write what has waited."""
        held, self._held = self._held, None
        if held:
            self._write(b"".join(held))

    def write(self, data: bytes) -> None:
        """Write, or keep for :meth:`release`; what is too long to be copied lets go of all."""
        if self._held is None:
            self._write(data)
            return
        if len(data) > JOINED_BYTES_MAX:
            self.release()
            self._write(data)
            return
        self._held.append(data)

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write what has waited, then close."""
        self.release()
        self._batch.flush()
        self._transport.close()

    def _write(self, data: bytes) -> None:
        """Write behind the chunks that were passed on before; nothing to a client that is gone."""
        self._batch.flush()
        if not self._transport.is_closing():
            self._transport.write(data)


class LimitedProtocol(HttpToolsProtocol):
    """One client connection whose request heads are bounded."""

    head_bytes_max = 64 * 1024
    head_timeout_s = 30.0
    proxied: Any = None
    """The ASGI application of all paths but ``OWN_PATHS``."""
    is_whole = False
    """Whether every request that has begun to come has come whole."""
    gone = False
    """Whether the client has hung up."""
    on_gone: Callable[[], None] | None = None
    """Called when the client hangs up."""
    running: Any = None
    """The request that is being answered; with pipelined ones behind it, that is not the newest."""
    batch = WriteBatch()
    """The chunks of all connections that wait for the end of this tick."""
    joined: JoinedWrites
    """How this connection's replies are written."""
    _in_head = False
    _bare_bytes = 0
    _has_advanced = False
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected; it must send a head in time."""
        super().connection_made(transport)
        self.joined = JoinedWrites(transport, self.batch)
        self._arm()

    def on_message_begin(self) -> None:
        """A request's head begins."""
        self._in_head, self._bare_bytes = True, 0
        self.is_whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; what follows is body, which has its own limit."""
        self._in_head, self._bare_bytes = False, 0
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self.joined)
        self.scope["extensions"] = cast("dict[str, dict[object, object]]", {CONNECTION: self})

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        self._has_advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come whole."""
        self.is_whole = self._has_advanced = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has hung up, or the reply has ended the connection."""
        running = self.running
        if running is not None and not running.response_complete:
            # uvicorn tells only the newest request.
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)
        self._disarm()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client. Heads and trailers that go on for too long, in bytes or seconds, end the connection."""
        self._has_advanced = False
        if (self._in_head or self.is_whole or self.cycle is None) and _UPGRADE.search(data):
            data = _without_upgrade(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._has_advanced and not self.is_whole:
            self._bare_bytes += len(data)
            if self._bare_bytes > self.head_bytes_max:
                self._refuse(
                    HeadersTooLarge(f"the request's headers are longer than {self.head_bytes_max} bytes")
                )
                return
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            self._arm()
        else:
            self._disarm()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        if app is self.app and self.proxied is not None and cycle.scope["path"] not in OWN_PATHS:
            app = self.proxied
        super()._start_asgi_task(cycle, app)

    def begin_reply(self, status: int, headers: Headers, data: bytes, *, more: bool) -> bool:
        """Write head and first bytes of a reply at once, past the server's messages; False where only they know how.

        As ``RequestResponseCycle.send`` of uvicorn 0.54 does for two messages, which looks at each header three times and
        writes twice. Headers have names in lower case, say nothing of the connection, and are of a framed
        message or ours: no line end stands in them.
        """
        cycle = self.running
        length = next((value for name, value in headers if name == b"content-length"), None)
        if not self._is_plain(cycle, status) or (length is not None and (more or int(length) != len(data))):
            return False
        lines = [STATUS_LINE[status]]
        lines += [b"%b: %b\r\n" % pair for pair in cycle.default_headers]
        lines += [b"%b: %b\r\n" % pair for pair in headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        cycle.chunked_encoding = length is None
        if length is None:
            lines += (
                b"transfer-encoding: chunked\r\n\r\n",
                b"%x\r\n%b\r\n" % (len(data), data) if data else b"",
            )
            lines.append(b"" if more else b"0\r\n\r\n")
        else:
            lines.append(b"\r\n")
            if len(data) <= JOINED_BYTES_MAX:
                lines.append(data)
        self.joined.write(b"".join(lines))
        if length is not None and len(data) > JOINED_BYTES_MAX:
            self.joined.write(data)
        if not more:
            self._complete(cycle)
        return True

    def _is_plain(self, cycle: Any, status: int) -> bool:
        """Whether a reply that has not begun has a body, and nothing must be waited for."""
        return not (
            cycle.response_started
            or cycle.disconnected
            or cycle.access_log
            or self.flow.write_paused
            or status in _BODILESS
            or cycle.scope["method"] == "HEAD"
        )

    def _complete(self, cycle: Any) -> None:
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.joined.close()
        cycle.on_response()

    def _arm(self) -> None:
        """Give the client its time for a head; nothing is armed for one that comes whole in a read."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._end_waiting)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_waiting(self) -> None:
        self._head_timer = None
        if self.running is not None and not self.running.response_complete:
            # The rest of a pipelined head waits in the kernel behind what is being answered.
            self._arm()
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def expect_reading(self, timeout_s: float) -> None:
        """Hang up on a client that takes nothing of what it was sent last for so long: closing waits for it for ever."""
        waiting = self.transport.get_write_buffer_size()
        if waiting and self._stall_timer is None:
            self._stall_timer = self.loop.call_later(
                timeout_s, self._end_stalled, timeout_s, waiting, self.running
            )

    def _end_stalled(self, timeout_s: float, before: int, reply: Any) -> None:
        self._stall_timer = None
        # What is written of a later reply has its own limit (``AsgiClient``).
        if self.running is reply and self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self.expect_reading(timeout_s)

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP, answered as OpenAI's clients expect an error."""
        self._refuse(InvalidInput(msg))

    def _refuse(self, fault: BillingError) -> None:
        self.batch.flush()
        if self.running is not None and not self.running.response_complete:
            # A reply has begun: nothing else may stand inside it.
            self.transport.close()
            return
        answer = problem(fault)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (answer.status, _REASONS[answer.status], len(answer.body)) + answer.body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """The same head with its wish for another protocol renamed, which RFC 9110 §7.8 lets a server ignore.

    Java's client and ``curl --http2`` offer ``h2c`` with every request; the parser would take no body from them.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + blank + rest


def limited_protocol(head_bytes_max: int, head_timeout_s: float, proxied: Any = None) -> type[Any]:
    """The protocol class with limits of its own on the bytes of a request's head and on the seconds it may take.

    ``proxied`` is the ASGI application of the proxied paths; without it all paths go to the server's own.
    """
    own = {
        "head_bytes_max": head_bytes_max,
        "head_timeout_s": head_timeout_s,
        "proxied": staticmethod(proxied) if proxied is not None else None,
        "batch": WriteBatch(),
    }
    return type("GatewayProtocol", (LimitedProtocol,), own)
