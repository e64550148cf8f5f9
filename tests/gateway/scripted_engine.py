"""An engine that does what a script says, to the byte: it splits, stalls, breaks off, appends, and notes what it got.

A script is a function from a request to the steps that answer it::

    async with ScriptedEngine(in_turn([Send(sized(b"hello"))], [Reset()])) as engine:
        reply = await pool.send(engine.origin, head, body)

:func:`replay` makes the steps of a recorded engine reply.
"""

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from billing.gateway.forward import Destination

HEAD_END = b"\r\n\r\n"
LOOPBACK_PEM = Path(__file__).with_name("loopback.pem")
"""A key and its self-signed certificate for ``localhost`` and 127.0.0.1, made for these tests, valid from 2020 to 2119."""
YIELDS_PER_SPLIT = 4
"""Turns of the loop between two pieces, so that a reader in the same loop gets each in a read of its own."""
HOLD_LIMIT_S = 10.0
"""Longest time that any step waits."""


@dataclass(frozen=True)
class Send:
    """Write bytes, in one piece, or cut at ``offsets`` or every ``split_every`` bytes, ``pause_s`` apart."""

    data: bytes
    offsets: Sequence[int] = ()
    split_every: int | None = None
    pause_s: float = 0.0

    def pieces(self) -> list[bytes]:
        cuts = range(self.split_every, len(self.data), self.split_every) if self.split_every else self.offsets
        edges = [0, *cuts, len(self.data)]
        return [self.data[start:end] for start, end in itertools.pairwise(edges) if start < end]


@dataclass(frozen=True)
class Stall:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Never answer: read what comes until the client is gone."""


@dataclass(frozen=True)
class AwaitEof:
    """Wait until the client has ended its sending side; what it sent until then is noted as ``rest``."""

    limit_s: float = HOLD_LIMIT_S


@dataclass(frozen=True)
class ReadBody:
    """Read the request's body now; for an engine with ``read_bodies=False``."""


@dataclass(frozen=True)
class EndSending:
    """Half-close: end the sending side, stay connected."""


@dataclass(frozen=True)
class Close:
    """Close the connection properly."""


@dataclass(frozen=True)
class Reset:
    """Break the connection off with a TCP reset; what was written before may be lost on the way."""


Step = Send | Stall | Hold | AwaitEof | ReadBody | EndSending | Close | Reset


@dataclass
class Received:
    """One request as it arrived; ``connection`` counts the engine's connections from 0."""

    connection: int
    head: bytes
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == wanted:
                return value.strip().decode()
        return None


@dataclass
class ConnectionLog:
    """What became of one connection; ``ended`` by the client: ``eof`` or ``reset``."""

    fileno: int
    requests: int = 0
    ended: Literal["", "eof", "reset"] = ""
    rest: bytes = b""
    sent_bytes: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)


Script = Callable[[Received], Iterable[Step]]


def in_turn(*answers: Iterable[Step]) -> Script:
    """One answer a request, in order of arrival; the last one for all that follow."""
    remaining = [list(answer) for answer in answers]

    def answer(_: Received) -> Iterable[Step]:
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return answer


def sized(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A reply with a content-length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + HEAD_END + body


def chunked_head(*headers: str) -> bytes:
    """The head of a chunked reply."""
    return "\r\n".join(["HTTP/1.1 200 OK", *headers, "Transfer-Encoding: chunked"]).encode() + HEAD_END


def chunk(data: bytes, extension: str = "") -> bytes:
    """One chunk in its framing; of no data: the last chunk without the line that ends the trailers."""
    return f"{len(data):x}{extension}\r\n".encode() + data + (b"\r\n" if data else b"")


def chunked(*pieces: bytes) -> bytes:
    """A whole chunked reply."""
    return chunked_head() + b"".join(map(chunk, pieces)) + b"0\r\n\r\n"


def replay(
    recording: Path | bytes,
    *,
    framing: Literal["chunked", "length", "close", "recorded"] = "chunked",
    chunk_bytes: int | None = None,
    split_every: int | None = None,
    offsets: Sequence[int] = (),
    pause_s: float = 0.0,
) -> list[Step]:
    """The steps of a recorded reply: status line, headers, blank line, body without framing.

    Its framing headers are replaced. ``chunked`` makes a chunk of each event, or of ``chunk_bytes`` bytes; ``recorded``
    sends everything as it is, for recordings that hold raw chunks and break off; add the step that ends it. The split
    counts from the first byte of the head.
    """
    raw = recording if isinstance(recording, bytes) else recording.read_bytes()
    wire = raw if framing == "recorded" else _framed(raw, framing, chunk_bytes)
    steps: list[Step] = [Send(wire, offsets=offsets, split_every=split_every, pause_s=pause_s)]
    return [*steps, Close()] if framing == "close" else steps


def _framed(raw: bytes, framing: str, chunk_bytes: int | None) -> bytes:
    head, _, body = raw.partition(HEAD_END)
    dropped = (b"transfer-encoding:", b"content-length:")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(dropped)]
    if framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(map(chunk, _parts(body, chunk_bytes))) + b"0\r\n\r\n"
    elif framing == "length":
        lines.append(f"Content-Length: {len(body)}".encode())
    return b"\r\n".join(lines) + HEAD_END + body


def _parts(body: bytes, chunk_bytes: int | None) -> list[bytes]:
    if chunk_bytes is not None:
        return [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
    events = [event + b"\n\n" for event in body.split(b"\n\n")]
    events[-1] = events[-1][:-2]
    return [event for event in events if event]


class ScriptedEngine:
    """A server on a free loopback port; use it as an async context manager."""

    def __init__(self, script: Script, *, read_bodies: bool = True, tls: bool = False) -> None:
        self.requests: list[Received] = []
        self.connections: list[ConnectionLog] = []
        self.port = 0
        self._script = script
        self._read_bodies = read_bodies
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<ScriptedEngine :{self.port} {len(self.connections)} connections, {len(self.requests)} requests>"

    @property
    def origin(self) -> Destination:
        return Destination("127.0.0.1", self.port, self._tls, "")

    async def __aenter__(self) -> Self:
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(LOOPBACK_PEM)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        log = ConnectionLog(writer.get_extra_info("socket").fileno())
        number = len(self.connections)
        self.connections.append(log)
        try:
            await _Exchange(self, reader, writer, log, number).serve()
        except asyncio.IncompleteReadError:
            log.ended = "eof"
        except ConnectionError:
            log.ended = "reset"
        except asyncio.CancelledError:
            # Only this engine's own end cancels; asyncio's streams report a handler that ends as cancelled.
            return
        finally:
            log.closed.set()
            writer.transport.abort() if self._tls else writer.close()

    def answer(self, received: Received) -> Iterable[Step]:
        self.requests.append(received)
        return self._script(received)

    @property
    def reads_bodies(self) -> bool:
        return self._read_bodies


class _Exchange:
    """One connection's requests and their steps."""

    def __init__(
        self,
        engine: ScriptedEngine,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        log: ConnectionLog,
        number: int,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._log = log
        self._number = number

    async def serve(self) -> None:
        while not self._writer.is_closing():
            received = Received(self._number, await self._reader.readuntil(HEAD_END))
            self._log.requests += 1
            if self._engine.reads_bodies:
                await self._read_body(received)
            for step in self._engine.answer(received):
                await self._do(step, received)

    async def _do(self, step: Step, received: Received) -> None:
        match step:
            case Send():
                await self._send(step)
            case Stall():
                await asyncio.sleep(step.seconds)
            case Hold():
                await self._until_eof(HOLD_LIMIT_S)
            case AwaitEof():
                await self._until_eof(step.limit_s)
            case ReadBody():
                await self._read_body(received)
            case EndSending():
                self._writer.write_eof()
            case Close():
                self._writer.close()
            case Reset():
                self._reset()

    async def _read_body(self, received: Received) -> None:
        received.body = await self._reader.readexactly(int(received.header("content-length") or 0))

    async def _send(self, step: Send) -> None:
        for number, piece in enumerate(step.pieces()):
            if number:
                await self._pause(step.pause_s)
            self._writer.write(piece)
            await self._writer.drain()
            self._log.sent_bytes += len(piece)

    async def _pause(self, pause_s: float) -> None:
        if pause_s:
            await asyncio.sleep(pause_s)
            return
        for _ in range(YIELDS_PER_SPLIT):
            await asyncio.sleep(0)

    async def _until_eof(self, limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            self._log.rest += await self._reader.read(-1)
        self._log.ended = "eof"

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
