"""Fetches an engine's ``/metrics`` page: one request on a connection of its own, bounded in time and size."""

import asyncio
import ssl
from urllib.parse import urlsplit

import httptools

from billing.errors import Unavailable

TIMEOUT_S = 2.0
PAGE_BYTES_MAX = 8 << 20
_READ_BYTES = 1 << 16
_OK = 200
_PORTS = {"http": 80, "https": 443}


class _Page:
    """Collects what the parser of a reply says."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


async def fetch_page(url: str) -> str:
    """The text at an ``http`` or ``https`` address. Raises ``Unavailable`` saying what came instead."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _fetch(url)
    except TimeoutError:
        raise Unavailable(f"no answer within {TIMEOUT_S:g} s") from None
    except ssl.SSLError as fault:
        raise Unavailable(f"no TLS connection: {fault.reason or type(fault).__name__}") from None
    except OSError as fault:
        raise Unavailable(f"cannot be reached: {fault.strerror or type(fault).__name__}") from None
    except httptools.HttpParserError:
        raise Unavailable("what answers does not speak HTTP") from None


async def _fetch(url: str) -> str:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=secure)
    try:
        head = f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: text/plain\r\nconnection: close\r\n\r\n"
        writer.write(head.encode("ascii"))
        return await _page(reader)
    finally:
        writer.close()


async def _page(reader: asyncio.StreamReader) -> str:
    page = _Page()
    parser = httptools.HttpResponseParser(page)
    while not page.is_complete:
        data = await reader.read(_READ_BYTES)
        if not data:
            break  # a reply without a length ends with its connection
        parser.feed_data(data)
        if len(page.body) > PAGE_BYTES_MAX:
            raise Unavailable(f"the page is larger than {PAGE_BYTES_MAX >> 20} MiB")
    status = parser.get_status_code()
    if status != _OK:
        raise Unavailable(f"answered with status {status}" if status else "hung up without an answer")
    return page.body.decode("utf-8", "replace")
