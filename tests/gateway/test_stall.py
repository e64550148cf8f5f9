"""A client that takes nothing is hung up on in time, also while the head of a pipelined reply waits behind another's body."""

import asyncio
import contextlib
from typing import Any

import pytest

from billing.gateway.mount import AsgiClient
from billing.gateway.protocol import CONNECTION
from tests.gateway.test_protocol import App, serving

BODY = b"x" * (6 << 20)
"""More than a socket's buffers hold on both sides."""
STALL_S = 0.3
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class Replies(App):
    """Answers each request with a large whole reply, through the gateway's own client port."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[bool, float]] = []
        """Of each request whether its client was gone at the end, and how many seconds it took."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        began_s = asyncio.get_running_loop().time()
        client = AsgiClient(receive, send, STALL_S)
        await receive()
        client.watch(scope["extensions"][CONNECTION])
        await client.head(200, [(b"content-length", str(len(BODY)).encode())])
        await client.end(BODY)
        self.ends.append((client.gone, asyncio.get_running_loop().time() - began_s))
        client.unwatch()


@pytest.mark.parametrize("requests", [1, 2], ids=["one request", "a second one behind it"])
async def test_a_client_that_reads_nothing_is_hung_up_on(requests: int) -> None:
    replies = Replies()
    async with serving(replies) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()
        writer.write(REQUEST * requests)
        for _ in range(400):
            if len(replies.ends) == requests:
                break
            await asyncio.sleep(0.01)
        writer.transport.abort()
    # The first reply is written whole at once, and waits in the server; whoever writes next waits for the stalled client.
    assert len(replies.ends) == requests
    assert all(seconds < STALL_S * 4 for _, seconds in replies.ends)
    assert [gone for gone, _ in replies.ends] == [False, True][:requests]


async def test_a_reply_that_nobody_takes_is_not_kept_for_ever() -> None:
    async with serving(Replies()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()
        writer.write(REQUEST)
        await asyncio.sleep(STALL_S * 4)
        writer.transport.resume_reading()
        read = 0
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                while piece := await reader.read(1 << 20):
                    read += len(piece)
        writer.close()
    assert read < len(BODY)


async def test_a_client_that_reads_slowly_gets_it_all() -> None:
    async with serving(Replies()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        read = 0
        async with asyncio.timeout(20):
            while read < len(BODY):
                read += len(await reader.read(1 << 18))
                await asyncio.sleep(STALL_S / 10)
        writer.close()
    assert read == len(BODY)


class Passes(App):
    """Streams pieces past the server's messages, and what must wait through them."""

    def __init__(self, pieces: list[bytes], *, breaks: bool = False) -> None:
        super().__init__()
        self._pieces = pieces
        self._breaks = breaks
        self.passed: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = AsgiClient(receive, send, 5.0)
        await receive()
        client.watch(scope["extensions"][CONNECTION])
        await client.head(200, [(b"content-type", b"text/event-stream")])
        for piece in self._pieces:
            self.passed.append(client.pass_on(piece))
            if not self.passed[-1]:
                await client.chunk(piece)
        if self._breaks:
            client.abort()
        else:
            await client.end(b"last")
        client.unwatch()


async def read_reply(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST.replace(b"host: x\r\n", b"host: x\r\nconnection: close\r\n"))
    try:
        async with asyncio.timeout(10):
            return await reader.read(-1)
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def unchunked(reply: bytes) -> bytes:
    body, out = reply.partition(b"\r\n\r\n")[2], b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        out, body = out + rest[:length], rest[length + 2 :]
    return out


async def test_what_is_passed_on_at_once_is_a_reply_like_any_other() -> None:
    pieces = [b"data: %d\n\n" % number for number in range(100)]
    app = Passes(pieces)
    async with serving(app) as (_, port):
        reply = await read_reply(port)
    assert unchunked(reply) == b"".join(pieces) + b"last"
    assert reply.endswith(b"0\r\n\r\n")
    # The first travels with the head.
    assert app.passed == [False] + [True] * 99


async def test_a_client_that_does_not_keep_up_is_waited_for() -> None:
    pieces = [b"x" * 100_000] * 100
    app = Passes(pieces)
    async with serving(app) as (_, port):
        reply = await read_reply(port)
    assert unchunked(reply) == b"".join(pieces) + b"last"
    assert app.passed.count(False) > 1


async def test_an_aborted_reply_has_no_proper_end() -> None:
    async with serving(Passes([b"sound", b"sound"], breaks=True)) as (_, port):
        assert not (await read_reply(port)).endswith(b"0\r\n\r\n")
