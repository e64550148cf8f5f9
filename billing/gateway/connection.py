"""One HTTP/1.1 connection to an engine: it writes a request, parses the reply and knows whether it may be used again.

The parser is llhttp (``httptools``), strict: a reply with both framings, a bare line feed or a bad chunk size is
refused. A connection serves one exchange at a time. It may serve another only when the reply was read to its exact
end, both sides keep the connection alive, not one byte came beyond the end, and the request was wholly written.
"""

import asyncio
import select
from typing import Any, Protocol, cast

import httptools
import msgspec

from billing.errors import BillingError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from billing.gateway.forward import Destination
from billing.gateway.reply import Reply

WRITE_BYTES_MAX = 256 * 1024
"""Most of a request body handed to the transport at once; the rest follows as the engine takes it."""
NEVER = float("inf")

_FINAL_STATUS_MIN = 200
_SWITCHING_PROTOCOLS = 101
_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_LINE_FEED = 0x0A
_MALFORMED = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class Limits(msgspec.Struct, frozen=True):
    """How long an exchange may be silent (seconds) and how many bytes may come in a row that are not body."""

    head_timeout_s: float
    idle_timeout_s: float
    head_bytes_max: int


class Keeper(Protocol):
    """The pool, as its connections see it."""

    def freed(self, connection: "Connection", *, reusable: bool) -> None:
        """Its exchange has ended."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection is gone; the last call."""
        ...


class _Surplus(Exception):
    """Bytes follow the reply's end."""


class Connection(asyncio.Protocol):
    """A connection, from its making to its loss; ``deadline`` is in the loop's time and watched by the pool."""

    __slots__ = (
        "_body_end", "_chunked", "_ended", "_head_only", "_headed", "_hung_up", "_keep_alive", "_keeper", "_limits", "_loop",
        "_overhead_bytes", "_parser", "_pieces", "_readable", "_reply", "_transport", "_unsent", "_until_close",
        "_where", "_write_paused", "deadline", "destination", "heard", "on_body", "requests",
    )  # fmt: skip

    def __init__(
        self, destination: Destination, limits: Limits, keeper: Keeper, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.destination = destination
        self.deadline = NEVER
        self.heard = False
        self.requests = 0
        self._where = destination.authority
        self._limits = limits
        self._keeper = keeper
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._readable = select.poll()
        self._reply: Reply | None = None
        self._unsent: memoryview | None = None
        self._write_paused = False
        self._hung_up = False
        self._pieces: list[bytes] = []
        # The parser calls the list itself: one Python frame less for each chunk.
        self.on_body = self._pieces.append
        self._parser: Any = httptools.HttpResponseParser(self)
        self._reset(b"")

    def __repr__(self) -> str:
        state = "reading" if self._headed and self._reply else "waiting" if self._reply else "idle"
        if self.is_closed():
            state = "closed"
        return f"<Connection {self._where} {state}, {self.requests} requests>"

    def _reset(self, head: bytes) -> None:
        self._head_only = head.startswith(b"HEAD ")
        self._headed = self._ended = self._keep_alive = self._chunked = self._until_close = False
        self._overhead_bytes = 0
        self._body_end = b""

    # What the pool calls.

    def start(self, head: bytes, body: bytes) -> Reply:
        """Write a request; the reply is awaited with ``headed``. Raises ``UpstreamUnreachable`` if it is closed."""
        if self._transport is None or self._transport.is_closing():
            raise UpstreamUnreachable(f"{self._where} closed the connection before the request")
        reply = self._reply = Reply(self)
        self._reset(head)
        self.requests += 1
        self.heard = False
        self.deadline = self._loop.time() + self._limits.head_timeout_s
        if not body:
            self._transport.write(head)
        elif len(body) <= WRITE_BYTES_MAX:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send_more()
        return reply

    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    def is_fresh(self) -> bool:
        """Whether an idle connection is open and silent.

        Asks the kernel, not the loop: bytes that an engine sent beyond a reply, or its farewell, may have arrived
        since the loop last looked, and would be taken for the next reply.
        """
        return not self.is_closed() and not self._readable.poll(0)

    def check_deadline(self, now: float) -> None:
        """End the exchange whose deadline has passed, if it waits for the engine and not for its reader.

        Where a piece of body has come since the last look, the longest silence begins at this one: to ask a clock for each
        piece would cost as much as parsing it.
        """
        if self.heard:
            self.heard = False
            self.deadline = now + self._limits.idle_timeout_s
            return
        reply = self._reply
        if reply is not None and reply.is_awaited():
            missing = (
                f"no body for {self._limits.idle_timeout_s:g} s"
                if self._headed
                else f"no reply within {self._limits.head_timeout_s:g} s"
            )
            self._end(UpstreamTimeout(f"{self._where}: {missing}"))

    def close(self) -> None:
        """Abort the connection and what is on it."""
        if self._reply is not None:
            self._end(UpstreamBroken(f"{self._where}: closed by the gateway"))
        elif self._transport is not None:
            self._transport.abort()

    # What its reply calls.

    def expect(self, *, body: bool) -> asyncio.Future[bytes]:
        """A future for the next bytes; with ``body`` the longest silence between two reads begins now."""
        if body:
            self.deadline = self._loop.time() + self._limits.idle_timeout_s
        return self._loop.create_future()

    def limit(self, limit_s: float, *, soonest: bool) -> None:
        """End the exchange in ``limit_s`` seconds; with ``soonest`` a limit set before holds if it comes first."""
        deadline = self._loop.time() + limit_s
        self.heard = False
        self.deadline = min(deadline, self.deadline) if soonest else deadline

    def end_sending(self) -> None:
        """Half-close, where the transport can; the connection is never used again, even where it cannot."""
        self._hung_up = True
        self._unsent = None
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def stop(self) -> None:
        """Abort the exchange at once."""
        self._end(None)

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """One socket read: parse it, and hand on what body was in it as one piece."""
        reply = self._reply
        if reply is None:
            # Nobody asked: whatever this is, it must not be taken for the reply to the next request.
            self.close()
            return
        headed, fault = self._headed, None
        try:
            if headed or self._overhead_bytes + len(data) <= self._limits.head_bytes_max:
                self._parser.feed_data(data)
            else:
                self._feed_head(data)
        except _MALFORMED as error:
            fault = error
        if self._ended:
            self._finish(reply, exact=fault is None and self._ends_exactly(data, headed))
            return
        pieces = self._pieces
        if pieces:
            # As `_gather`: a call less for each chunk.
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._overhead_bytes = 0
            reply.deliver(piece)
            if fault is None:
                return
        else:
            self._overhead_bytes += len(data)
        if fault is not None or self._overhead_bytes > self._limits.head_bytes_max:
            self._refuse(fault)

    def eof_received(self) -> None:
        """The engine sends no more; nothing is left to wait for, so the transport closes."""
        self._cut(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._cut(error)
        self._transport = None
        # The parser holds this object's methods: without the cut the cycle would wait for the collector.
        self._parser = None
        self._keeper.lost(self)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The engine took what was written."""
        self._write_paused = False
        self._send_more()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Stop at the first byte of a second reply: it answers no request."""
        if self._ended:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers, which come after the head, are dropped."""
        if not self._headed and self._reply is not None:
            self._reply.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: note how the body ends, and let the waiting ``send`` have it."""
        reply = self._reply
        if reply is None or self._ended:
            return
        status = self._parser.get_status_code()
        sized = self._read_framing(reply.headers)
        if status < _FINAL_STATUS_MIN:
            if status == _SWITCHING_PROTOCOLS or sized or self._chunked:
                raise UpstreamBroken(f"{self._where}: an informational reply {status} that nobody asked for")
            reply.headers.clear()
            return
        self._headed = True
        self._until_close = not sized and not self._chunked
        # HTTP/1.0 knows no chunks: such a reply may be read, its end may not be trusted (RFC 9112 section 6.1).
        self._keep_alive = self._parser.should_keep_alive() and not (
            self._chunked and self._parser.get_http_version() != "1.1"
        )
        self._ended = self._head_only
        reply.begin(status)

    def on_message_complete(self) -> None:
        """The body has ended; what this read brought of it is set apart from whatever may follow."""
        if self._headed and not self._ended:
            self._ended = True
            if self._pieces:
                self._body_end = self._gather()

    def _read_framing(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Note a chunked body; whether the length is given. The parser refuses both at once and two lengths."""
        sized = False
        for name, value in headers:
            if name == b"content-length":
                sized = True
            elif name == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked":
                    raise UpstreamBroken(f"{self._where}: transfer-encoding {value!r} was not asked for")
                self._chunked = True
        return sized

    def _feed_head(self, data: bytes) -> None:
        """Parse a read that is larger than what is left for the head; the same bytes pass however they are split."""
        room = self._limits.head_bytes_max - self._overhead_bytes
        self._parser.feed_data(data[:room])
        if not self._headed:
            raise httptools.HttpParserError(f"the head is larger than {self._limits.head_bytes_max} bytes")
        self._parser.feed_data(data[room:])

    def _gather(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return piece

    def _ends_exactly(self, data: bytes, headed: bool) -> bool:
        """Whether the reply's end is the end of this read, which ended it; ``headed``: the head came in an earlier one.

        The parser stops at a second reply, but skips line ends before one, so those are looked for here. Where a read
        begins within the line ends that close the head or the last chunk it cannot be told, and the answer is no.
        """
        if self._chunked:
            return len(data) > len(_HEAD_END) and data[-5] != _LINE_FEED and data.endswith(_HEAD_END)
        if headed:
            return len(self._body_end) == len(data)
        head_bytes = data.find(_HEAD_END) + len(_HEAD_END)
        return data[0] not in _LINE_END and head_bytes + len(self._body_end) == len(data)

    def _finish(self, reply: Reply, *, exact: bool) -> None:
        """The reply has come to its proper end."""
        self._reply = None
        body_end, self._body_end = self._body_end, b""
        if body_end:
            reply.deliver(body_end)
        reply.end(None, complete=True)
        reusable = exact and self._keep_alive and self._is_sent() and not self._hung_up and not self._pieces
        self._pieces.clear()
        self._unsent = None
        if self._head_only:
            # This one still expects the body that a reply to HEAD announces and does not have.
            self._parser = httptools.HttpResponseParser(self)
        self._keeper.freed(self, reusable=reusable)

    def _cut(self, error: Exception | None) -> None:
        """The engine ended the connection, properly or (``error``) not."""
        if self._reply is None:
            return
        if self._headed and self._until_close and error is None:
            self._end(None, complete=True)
        elif not self._headed and not self._overhead_bytes:
            self._end(
                UpstreamUnreachable(f"{self._where} closed the connection before any byte of the reply")
            )
        else:
            self._end(UpstreamBroken(f"{self._where}: the reply broke off: {error or 'end of stream'}"))

    def _refuse(self, fault: Exception | None) -> None:
        """The engine's bytes cannot be read; an error of our own making stands behind the parser's."""
        cause = fault.__context__ if fault is not None else None
        if isinstance(cause, BillingError):
            self._end(cause)
        else:
            what = fault or f"{self._overhead_bytes} bytes without a body"
            self._end(UpstreamBroken(f"{self._where}: not a reply: {what}"))

    def _end(self, error: BillingError | None, *, complete: bool = False) -> None:
        """End the exchange and with it the connection."""
        reply, self._reply = self._reply, None
        if reply is not None:
            self._unsent = None
            reply.end(error, complete=complete)
            self._keeper.freed(self, reusable=False)

    def _is_sent(self) -> bool:
        return (
            self._unsent is None
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    def _send_more(self) -> None:
        """Write the rest of a large body, a slice at a time, as long as the transport takes it."""
        transport, unsent = self._transport, self._unsent
        while unsent and not self._write_paused and transport is not None and not transport.is_closing():
            transport.write(unsent[:WRITE_BYTES_MAX])
            unsent = self._unsent = unsent[WRITE_BYTES_MAX:]
        if not unsent:
            self._unsent = None
