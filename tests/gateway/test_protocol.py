"""The client side of the gateway over sockets: what a connection may cost, and who has left."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from billing.gateway.mount import AsgiClient
from billing.gateway.protocol import (
    CONNECTION,
    JOINED_BYTES_MAX,
    JoinedWrites,
    LimitedProtocol,
    limited_protocol,
)
from billing.gateway.write_batch import WriteBatch

HEAD_BYTES_MAX = 4096
HEAD_TIMEOUT_S = 0.3
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\n"


class App:
    """An application that answers, or streams until its client has left."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        connection: LimitedProtocol = scope["extensions"][CONNECTION]
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            connection.on_gone = self.left.set
            while not connection.gone:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.01)
            return
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def serving(proxied: App | None = None) -> AsyncIterator[tuple[App, int]]:
    app = App()
    protocol = limited_protocol(HEAD_BYTES_MAX, HEAD_TIMEOUT_S, proxied)
    config = uvicorn.Config(
        app, port=0, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    for _ in range(500):
        if server.started:
            break
        await asyncio.sleep(0.01)
    yield app, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def exchange(
    port: int, *pieces: bytes, pause_s: float = 0.0, limit_s: float = 5.0, closes: bool = False
) -> bytes:
    """What the server says to these pieces until it closes, or the client does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)
        if closes:
            said = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    while piece := await reader.read(1 << 20):
                        said += piece
            return said
        async with asyncio.timeout(limit_s):
            return await reader.read(-1)
    except (ConnectionResetError, BrokenPipeError):
        return b"reset"
    finally:
        writer.close()


async def test_a_head_that_never_ends_is_refused() -> None:
    async with serving() as (app, port):
        assert b"431" in await exchange(port, REQUEST + b"x: " + b"a" * (HEAD_BYTES_MAX + 1))
        assert app.bodies == []


async def test_proxied_paths_go_past_the_application_of_all_others() -> None:
    proxied = App()
    async with serving(proxied) as (app, port):
        await exchange(port, b"POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (len(proxied.bodies), len(app.bodies)) == (1, 0)
        await exchange(port, b"POST /api/chat HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (len(proxied.bodies), len(app.bodies)) == (2, 0)
        await exchange(port, b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (len(proxied.bodies), len(app.bodies)) == (2, 1)


async def test_trailers_that_never_end_are_refused() -> None:
    chunked = REQUEST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    async with serving() as (_, port):
        for trailers in (b"".join(b"t%d: 1\r\n" % number for number in range(2_000)), b"t: " + b"a" * 20_000):
            pieces = [trailers[start : start + 1000] for start in range(0, len(trailers), 1000)]
            said = await exchange(port, chunked, *pieces, pause_s=0.001)
            assert b"431" in said or said == b"reset"


async def test_a_client_that_sends_no_head_in_time_is_closed() -> None:
    async with serving() as (_, port):
        for pieces in ((), (b"P",), (REQUEST,), (b"\r\n",)):
            assert await exchange(port, *pieces, limit_s=2.0) == b""


async def test_a_slow_but_steady_body_is_not_a_head() -> None:
    async with serving() as (app, port):
        head = REQUEST + b"connection: close\r\ncontent-length: 8\r\n\r\n"
        said = await exchange(port, head, *[b"x"] * 8, pause_s=0.1)
        assert said.endswith(b"done\r\n0\r\n\r\n")
        assert app.bodies == [b"x" * 8]


async def test_a_hang_up_is_noticed_also_behind_a_pipelined_request() -> None:
    for behind in (b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
        async with serving() as (app, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n" + behind)
            await reader.readuntil(b"x")
            writer.close()
            async with asyncio.timeout(2):
                await app.left.wait()


async def test_an_offer_of_http2_is_ignored_and_the_body_is_read() -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    async with serving() as (app, port):
        said = await exchange(port, REQUEST + offer + b'content-length: 19\r\n\r\n{"a":\r\n"upgrade:"}\n')
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert app.bodies == [b'{"a":\r\n"upgrade:"}\n']


class Written:
    """A transport that keeps what is written, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.writes.append(b"(closed)")


def joined() -> tuple[Any, JoinedWrites]:
    written: Any = Written()
    return written, JoinedWrites(written, WriteBatch())


def test_what_is_held_leaves_in_one_write() -> None:
    written, writes = joined()
    writes.hold()
    writes.write(b"head ")
    writes.write(b"body")
    assert (written.writes, repr(writes)) == ([], "<JoinedWrites 2 held>")
    writes.release()
    writes.write(b"more")
    assert written.writes == [b"head body", b"more"]


def test_what_is_long_is_not_copied_and_keeps_its_place() -> None:
    written, writes = joined()
    writes.hold()
    writes.write(b"head")
    writes.write(b"x" * (JOINED_BYTES_MAX + 1))
    writes.write(b"end")
    writes.release()
    assert [len(data) for data in written.writes] == [4, JOINED_BYTES_MAX + 1, 3]


def test_a_close_loses_nothing_that_is_held() -> None:
    written, writes = joined()
    writes.hold()
    writes.write(b"all")
    writes.close()
    assert written.writes == [b"all", b"(closed)"]


async def test_what_was_passed_on_before_is_written_before() -> None:
    written: Any = Written()
    batch = WriteBatch()
    writes = JoinedWrites(written, batch)
    soon = asyncio.get_running_loop().call_soon
    batch.add(written, b"chunk", soon)
    writes.write(b"end")
    batch.add(written, b"another", soon)
    writes.close()
    assert written.writes == [b"chunk", b"end", b"another", b"(closed)"]


class Slow(App):
    """Streams for longer than a head may take."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = AsgiClient(receive, send, 5.0)
        await receive()
        client.watch(scope["extensions"][CONNECTION])
        await client.head(200, [(b"content-type", b"text/event-stream")])
        for number in range(8):
            if not client.pass_on(b"event %d\n" % number):
                await client.chunk(b"event %d\n" % number)
            await asyncio.sleep(HEAD_TIMEOUT_S / 4)
        await client.end(b"the end\n")
        client.unwatch()


async def test_a_pipelined_head_that_waits_behind_a_stream_does_not_end_it() -> None:
    whole = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    last = whole.replace(b"host: x\r\n", b"host: x\r\nconnection: close\r\n")
    async with serving(Slow()) as (_, port):
        said = await exchange(port, whole, whole + last[:20], last[20:], pause_s=0.02)
    assert said.count(b"the end") == 3


async def test_nothing_stands_inside_a_reply_that_has_begun() -> None:
    whole = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    async with serving(Slow()) as (_, port):
        said = await exchange(port, whole, b"\x00garbage\r\n\r\n", pause_s=0.05)
    assert b"event 0" in said
    assert said.count(b"HTTP/1.1") == 1


class Hasty(App):
    """Answers before the body has come, as a refusal does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})


async def test_an_upgrade_in_the_body_of_a_refused_request_is_no_head() -> None:
    body = b"a\r\nupgrade: h2c\r\n\r\n"
    head = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    last = b"POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    async with serving(Hasty()) as (_, port):
        said = await exchange(port, head, body, last, pause_s=0.05)
    assert said.count(b"HTTP/1.1 401") == 2


HEADERS = [(b"content-type", b"text/plain"), (b"x-request-id", b"7")]


class Whole(App):
    """Sends a reply through the gateway's client, or by the server's own messages."""

    def __init__(self, status: int, pieces: list[bytes], *, sized: bool, past: bool) -> None:
        super().__init__()
        self._status, self._pieces, self._past = status, pieces, past
        length = [(b"content-length", b"%d" % sum(map(len, pieces)))] if sized else []
        self._headers = HEADERS + length

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        *first, last = self._pieces
        if self._past:
            client = AsgiClient(receive, send, 5.0)
            client.watch(scope["extensions"][CONNECTION])
            await client.head(self._status, self._headers)
            for piece in first:
                await client.chunk(piece)
            await client.end(last)
            client.unwatch()
            return
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        for piece in first:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": last})


ASKED = {
    "kept": b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    "closed": b"POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    "old": b"POST /v1/x HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    "head": b"HEAD /v1/x HTTP/1.1\r\nhost: x\r\n\r\n",
    "continued": b"POST /v1/x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
    "two": b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" * 2,
}


PIECES = {"one": [b"all"], "none": [b""], "two": [b"a", b"b"], "long": [b"x" * (JOINED_BYTES_MAX + 1)]}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("sized", [True, False])
async def test_a_reply_past_the_servers_messages_is_what_they_would_have_made(
    asked: bytes, pieces: list[bytes], *, sized: bool
) -> None:
    async def said(past: bool, status: int) -> bytes:
        async with serving(Whole(status, pieces, sized=sized, past=past)) as (_, port):
            reply = await exchange(port, asked, limit_s=0.2, closes=True)
        return re.sub(rb"date: [^\r]*", b"date: ", reply)

    for status in (200, 204, 429):
        ours, theirs = await asyncio.gather(said(True, status), said(False, status))
        assert ours == theirs != b""
