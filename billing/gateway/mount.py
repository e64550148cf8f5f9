"""The proxied paths as a raw ASGI application, mounted inside the Litestar application: any ASGI server can serve it.

Litestar's own request handling is left aside here, because it costs more than the whole proxy (performance.md).
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from litestar.types import HTTPScope, Receive, Scope, Send

from billing.clock import Clock
from billing.errors import BillingError, HeadersTooLarge, InvalidInput, TooLarge
from billing.gateway.ports import Headers, Request
from billing.gateway.protocol import CONNECTION, LimitedProtocol
from billing.gateway.proxy import Proxy
from billing.gateway.routes import dialect_of
from billing.ids import NewId
from billing.settings import GatewaySettings

IDLE_POLL_S = 0.01


class AsgiClient:
    """The client port over ASGI. The head waits for the first bytes of the body, so that both leave in one write."""

    __slots__ = (
        "_act", "_connection", "_head", "_receive", "_send", "_stall_timeout_s", "_started",
        "_watcher", "gone",
    )  # fmt: skip

    def __init__(self, receive: Receive, send: Send, stall_timeout_s: float) -> None:
        self._receive = receive
        self._stall_timeout_s = stall_timeout_s
        self._send = send
        self._head: dict[str, Any] | None = None
        self._started = False
        self._act: Callable[[], None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._connection: LimitedProtocol | None = None
        self.gone = False

    def __repr__(self) -> str:
        return f"<AsgiClient {'gone' if self.gone else 'started' if self._started else 'waiting'}>"

    @property
    def started(self) -> bool:
        """Whether something of the reply has been sent."""
        return self._started

    def watch(self, connection: LimitedProtocol | None) -> None:
        """Begin to listen for the caller's leaving; the request's body must have been read.

        Under our own protocol the connection says it; under any other a task waits for ASGI's message, for 20 µs more.
        """
        self._connection = connection
        if connection is None:
            self._watcher = asyncio.get_running_loop().create_task(self._listen())
        elif connection.gone:
            self._leave()
        else:
            connection.on_gone = self._leave

    def unwatch(self) -> None:
        """Stop listening; the exchange is over."""
        # While this exchange drained, the connection's next request may have begun to listen in its place.
        if self._connection is not None and self._connection.on_gone == self._leave:
            self._connection.on_gone = None
        if self._watcher is not None and not self._watcher.done():
            self._watcher.cancel()

    def on_gone(self, act: Callable[[], None] | None) -> None:
        """Call ``act`` once, as soon as the caller hangs up; at once if it has already."""
        self._act = act
        if self.gone and act is not None:
            act()

    async def head(self, status: int, headers: Headers) -> None:
        """Keep status and headers for the first bytes of the body."""
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def chunk(self, data: bytes) -> None:
        """Send a piece of the body; returns when the transport can take more."""
        if data:
            await self._write(data, more=True)

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body and end the reply."""
        await self._write(data, more=False)
        if self._connection is not None and not self.gone:
            self._connection.expect_reading(self._stall_timeout_s)

    def pass_on(self, data: bytes) -> bool:
        """Send a piece, where that needs no waiting: under our own protocol, once the head has left.

        Past uvicorn's messages, as ``RequestResponseCycle.send`` of uvicorn 0.54 writes a reply of unknown length.
        """
        if self.gone:
            return True
        connection = self._connection
        if connection is None or not self._started or connection.flow.write_paused:
            return False
        running = connection.running
        if not running.chunked_encoding or running.response_complete:
            return False
        connection.batch.add(
            connection.transport, b"%x\r\n%b\r\n" % (len(data), data), connection.loop.call_soon
        )
        return True

    def abort(self) -> None:
        """Close the connection without the body's proper end; under a foreign server, which sees the missing end, later."""
        if self._connection is not None:
            self._connection.transport.abort()
        self._leave()

    async def _write(self, data: bytes, *, more: bool) -> None:
        if self.gone:
            return
        try:
            body = {"type": "http.response.body", "body": data, "more_body": more}
            if self._started or self._head is None:
                await self._send_body(body)
            else:
                self._started = True
                await self._send_first(self._head, body)
        except OSError:
            # ASGI 2.4: a server may say so when the caller has left; uvicorn says nothing.
            self._leave()

    async def _send_first(self, head: Any, body: Any) -> None:
        """Send the head with the first piece of the body, in one write where the connection can."""
        connection = self._connection
        if connection is None:
            await self._send(head)
            await self._send_body(body)
            return
        if connection.begin_reply(head["status"], head["headers"], body["body"], more=body["more_body"]):
            return
        connection.joined.hold()
        try:
            await self._send_body(head)
            await self._send_body(body)
        finally:
            connection.joined.release()

    async def _send_body(self, message: Any) -> None:
        """Send; a client that takes nothing for too long, while an engine works for it, is hung up on."""
        connection = self._connection
        if connection is None or not connection.flow.write_paused:
            await self._send(message)
            return
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await self._send(message)
        except TimeoutError:
            connection.transport.abort()
            self._leave()

    async def _listen(self) -> None:
        """The only message that can come after a body's end is that the caller has left (or that the reply is complete)."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if not self.gone:
            self.gone = True
            if self._act is not None:
                self._act()


class ProxyMount:
    """Turns ASGI requests into calls of the proxy, within the limits of the settings."""

    def __init__(self, proxy: Proxy, *, clock: Clock, new_id: NewId, settings: GatewaySettings) -> None:
        self._proxy = proxy
        self._clock = clock
        self._new_id = new_id
        self._settings = settings
        self.active = 0

    def __repr__(self) -> str:
        return f"<ProxyMount {self.active} active>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; other kinds of connection are not mounted here."""
        at_us, usage_id = self._clock(), self._new_id()
        connection = cast("LimitedProtocol | None", (scope.get("extensions") or {}).get(CONNECTION))
        client = AsgiClient(receive, send, self._settings.client_stall_timeout_s)
        self.active += 1
        try:
            request = await self._read(cast("HTTPScope", scope), receive, usage_id, at_us, connection)
            if request is None:
                return
            client.watch(connection)
            await self._proxy.serve(request, client)
        except BillingError as fault:
            await self._proxy.refuse(client, fault, usage_id, dialect_of(_path_of(scope)))
        except Exception:
            # A defect of ours: the server above logs it with its traceback and closes a reply that has begun; a caller
            # who has nothing yet is told in words that his client understands.
            if not client.started:
                failed = BillingError("the gateway failed")
                await self._proxy.refuse(client, failed, usage_id, dialect_of(_path_of(scope)))
            raise
        finally:
            self.active -= 1
            client.unwatch()

    async def idle(self, limit_s: float) -> bool:
        """Wait until no request is in flight, at most ``limit_s``; whether it came to that."""
        for _ in range(int(limit_s / IDLE_POLL_S)):
            if not self.active:
                break
            await asyncio.sleep(IDLE_POLL_S)
        return not self.active

    async def _read(
        self,
        scope: HTTPScope,
        receive: Receive,
        usage_id: UUID,
        at_us: int,
        connection: LimitedProtocol | None,
    ) -> Request | None:
        """The request with its whole body; None when the caller left before it was sent."""
        headers = list(scope["headers"])
        self._check_headers(headers)
        named = dict(headers)
        path = _path_of(scope)
        if connection is None or not connection.is_whole:
            self._proxy.welcome(scope["method"], path, named, at_us)
        body = await self._read_body(receive, named.get(b"content-length"), connection)
        if body is None:
            return None
        return Request(
            id=usage_id,
            at_us=at_us,
            method=scope["method"],
            path=path,
            headers=named,
            body=body,
        )

    def _check_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        if len(headers) > self._settings.request_header_count_max:
            raise HeadersTooLarge(
                f"the request has {len(headers)} headers, more than {self._settings.request_header_count_max}"
            )
        size = sum(len(name) + len(value) for name, value in headers)
        if size > self._settings.request_header_bytes_max:
            raise HeadersTooLarge(
                f"the request's headers are {size} bytes long, more than {self._settings.request_header_bytes_max}"
            )

    async def _read_body(
        self, receive: Receive, announced: bytes | None, connection: LimitedProtocol | None
    ) -> bytes | None:
        limit = self._settings.request_body_bytes_max
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"the request body is {announced.decode()} bytes long, more than {limit}")
        if connection is not None and connection.is_whole:
            # Everything has come with the head, as nearly always: no timer, which would cost 10 µs.
            return await _gather(receive, limit)
        try:
            async with asyncio.timeout(self._settings.request_body_timeout_s):
                return await _gather(receive, limit)
        except TimeoutError:
            raise InvalidInput(
                f"the request body did not arrive within {self._settings.request_body_timeout_s:g} seconds"
            ) from None


def _path_of(scope: Any) -> str:
    """The path as it was sent, nothing unescaped."""
    return str(scope["raw_path"].partition(b"?")[0], "latin-1")


async def _gather(receive: Receive, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message["body"]
        more = message["more_body"]
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the request body is longer than {limit} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
