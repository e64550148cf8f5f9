"""The smallest proxy as an ASGI application, the same for every server and every upstream client that is compared.

It reads the request whole, sends it on, passes a reply of known length whole and a stream piece by piece. No key, no
meter, no record: what differs between two of these is the server or the client alone. The engine's port stands in the
environment variable ``BENCH_ENGINE_PORT``, because servers make their applications from a name.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from litestar import Litestar, asgi

from billing.gateway.forward import Destination, destination, request_head
from billing.gateway.upstream import UpstreamPool

REQUEST_ID = "00000000-0000-7000-8000-000000000000"


class Answer(Protocol):
    """A reply whose head is there."""

    status: int
    headers: list[tuple[bytes, bytes]]

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end."""

    def close(self) -> None:
        """No more will be read."""


Ask = Callable[[bytes], Awaitable[Answer]]


class PlainProxy:
    """An ASGI application around a client."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        answer = await self._ask(await _body(receive))
        headers = dict(answer.headers)
        length = headers.get(b"content-length")
        kept = [(b"content-type", headers[b"content-type"])]
        try:
            if length is None:
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                while piece := await answer.read():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                body = b""
                while piece := await answer.read():
                    body += piece
                kept.append((b"content-length", length))
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                await send({"type": "http.response.body", "body": body})
        finally:
            answer.close()


async def _body(receive: Any) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def engine_url() -> str:
    """Where the engine is."""
    return f"http://127.0.0.1:{os.environ['BENCH_ENGINE_PORT']}"


class OwnClient:
    """The gateway's own client."""

    def __init__(self) -> None:
        self._place: Destination = destination(engine_url())
        self._pool: UpstreamPool | None = None

    async def __call__(self, body: bytes) -> Answer:
        """Send a request."""
        if self._pool is None:
            # A pool belongs to a loop, which there is none of when a server imports its application.
            asyncio.get_running_loop()
            self._pool = UpstreamPool(
                connect_timeout_s=2,
                head_timeout_s=60,
                idle_timeout_s=60,
                connections_idle_max=1024,
                connection_idle_s=4,
            )
        head = request_head(
            self._place, "/v1/chat/completions", len(body), {}, request_id=REQUEST_ID, credential=None
        )
        return await self._pool.send(self._place, head, body)


def mounted(ask: Ask) -> Litestar:
    """The proxy inside a Litestar application, as the gateway mounts it."""
    return Litestar(
        route_handlers=[asgi("/v1", is_mount=True, copy_scope=False)(PlainProxy(ask).__call__)],
        openapi_config=None,
        logging_config=None,
    )


def own() -> Litestar:
    """Litestar mount, own client."""
    return mounted(OwnClient())


def plain() -> PlainProxy:
    """No framework, own client."""
    return PlainProxy(OwnClient())
