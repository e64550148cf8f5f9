"""A client that takes nothing is hung up on in time, also while the head of a pipelined reply waits behind another's body."""

import asyncio
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
