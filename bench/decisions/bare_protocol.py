"""The smallest proxy on both sides by hand: what a protocol of our own could save at most.

python -m bench.decisions.bare_protocol --port N
"""

import argparse
import asyncio
import gc
from typing import Any

import httptools
import uvloop

from bench.decisions.proxy_app import Answer, OwnClient

WHOLE = b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class ServerProtocol(asyncio.Protocol):
    """One client connection; a task for each request, one write for head and body."""

    def __init__(self, client: OwnClient) -> None:
        self._client = client
        self._pieces: list[bytes] = []
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None
        # The parser looks for its callbacks when it is made.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._task = asyncio.get_running_loop().create_task(self._serve(body))

    async def _serve(self, body: bytes) -> None:
        answer = await self._client(body)
        length = dict(answer.headers).get(b"content-length")
        if length is None:
            await self._pass(answer)
        else:
            reply = b""
            while piece := await answer.read():
                reply += piece
            self._transport.writelines((WHOLE % (answer.status, len(reply)), reply))
        answer.close()

    async def _pass(self, answer: Answer) -> None:
        self._transport.write(STREAM)
        while piece := await answer.read():
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        self._transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    client = OwnClient()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ServerProtocol(client), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    gc.freeze()
    uvloop.run(serve(arguments.parse_args().port))


if __name__ == "__main__":
    main()
