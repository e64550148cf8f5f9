import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from billing.dashboard.client import PAGE_BYTES_MAX, fetch_page
from billing.errors import Unavailable


@asynccontextmanager
async def server(*parts: bytes) -> AsyncIterator[Callable[[str], str]]:
    """Answers any request with these bytes and hangs up; gives the address of a path."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # whoever asked had enough
            for part in parts:
                writer.write(part)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield lambda path: f"http://127.0.0.1:{port}{path}"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na 1",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na \r\n1\r\n1\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\na 1",
    ],
)
async def test_a_page_is_read_however_it_is_framed(reply: bytes) -> None:
    async with server(reply) as address:
        assert await fetch_page(address("/metrics")) == "a 1"


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "answered with status 401"),
        (b"", "hung up without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "what answers does not speak HTTP"),
    ],
)
async def test_anything_else_is_said(reply: bytes, sentence: str) -> None:
    async with server(reply) as address:
        with pytest.raises(Unavailable, match=sentence):
            await fetch_page(address("/metrics"))


async def test_a_page_without_an_end_is_given_up() -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {1 << 40}\r\n\r\n".encode()
    async with server(head, *[b"x" * (1 << 20)] * (2 + (PAGE_BYTES_MAX >> 20))) as address:
        with pytest.raises(Unavailable, match="larger than 8 MiB"):
            await fetch_page(address("/metrics"))


async def test_nobody_there_is_said() -> None:
    async with server() as address:
        gone = address("/metrics")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await fetch_page(gone)
