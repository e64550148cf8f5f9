"""A proxy that serves many streams at the same time, their pieces fed in an order that a test chooses."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from billing.directory.caller import Backend, Deployment, Model
from billing.directory.snapshot import Changes, Snapshot
from billing.errors import UpstreamBroken
from billing.gateway.forward import Destination
from billing.gateway.ports import Exchange, Headers, Request
from billing.gateway.proxy import Proxy
from billing.ids import uuid7
from billing.metering.event import Closed
from billing.settings import GatewaySettings
from billing.tokens.engines import ENGINES
from tests.gateway.fake_client import NOW_US, FakeClient, FakeClock, Journal
from tests.gateway.fakes import CALLER, KEY, FakeAdmission, FakeDirectory, FakeSpool, FakeTokenizer
from tests.property.interleaved_streams import Stream

ASSEMBLES = "-assembled"
TURNS_A_PIECE = 3
"""Turns of the loop that a proxy needs to take a piece, pass it on and ask for the next."""
TIMEOUT_S = 10.0
NO_ID = UUID(int=0)
REASONING_TOKENS = 20
"""What the tokenizer counts of any text."""


class End(StrEnum):
    """How a stream ends."""

    WHOLE = "whole"
    SHORT = "short"
    """The body ends without the end that its framing promises."""
    BROKEN = "broken"
    """The connection breaks."""
    LEFT = "left"
    """The client hangs up."""


class Feed(NamedTuple):
    """A stream in pieces, and how it ends behind them."""

    stream: Stream
    pieces: list[bytes]
    end: End = End.WHOLE


class Seen(NamedTuple):
    """What became of a stream: its record and what its client got, both without its id."""

    record: Closed
    status: int
    body: bytes


class FedReply:
    """An engine's reply whose pieces come when the test feeds them."""

    def __init__(self, media_type: bytes) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ended = False
        self.status = 200
        self.headers: Headers = [(b"content-type", media_type)]
        self.complete = False

    def __repr__(self) -> str:
        return f"<FedReply {self._pieces.qsize()} waiting{' complete' if self.complete else ''}>"

    def feed(self, piece: bytes) -> None:
        """The next piece."""
        self._pieces.put_nowait(piece)

    def finish(self, end: End) -> None:
        """There are no more pieces."""
        self.complete = end is End.WHOLE
        self._pieces.put_nowait(None if end is End.BROKEN else b"")

    async def pump(self, sink: Callable[[bytes], bool]) -> bool:
        """Each piece in turn, as a sink takes it."""
        while piece := await self.read():
            if not sink(piece):
                return True
        return False

    async def read(self) -> bytes:
        if self._ended:
            return b""
        piece = await self._pieces.get()
        self._ended = not piece
        if piece is None:
            raise UpstreamBroken("the connection was reset")
        return piece

    def hang_up(self, grace_s: float) -> None:
        """The engine stops at once."""
        self.finish(End.SHORT)

    def expire(self, limit_s: float) -> None:
        """Nothing more is fed after the end."""

    def close(self) -> None:
        """Nobody reads on."""
        self._ended = True


class FedUpstream:
    """Finds the reply of a request by the id that the gateway sends along."""

    def __init__(self, replies: dict[bytes, FedReply]) -> None:
        self._replies = replies

    def __repr__(self) -> str:
        return f"<FedUpstream {len(self._replies)} replies>"

    async def send(
        self, destination: Destination, head: bytes, body: bytes, begun: Callable[[Exchange], None]
    ) -> FedReply:
        found = head.partition(b"x-request-id: ")[2].partition(b"\r\n")[0]
        reply = self._replies[found]
        begun(reply)
        return reply


def _directory() -> Snapshot:
    """A model for each engine, and one more at a backend that assembles whole replies."""
    backends, models, places = [], [], []
    for number, name in enumerate((*ENGINES, *(f"{name}{ASSEMBLES}" for name in ENGINES)), 1):
        engine, backend_id, model_id = (
            name.removesuffix(ASSEMBLES),
            UUID(int=number),
            UUID(int=number + 1_000),
        )
        policy = "stream_and_assemble" if name != engine else "abort"
        url = f"http://engine-{number}:8000"
        backends.append(
            Backend(backend_id, name, url, engine, None, None, archived=False, version=1, on_hang_up=policy)
        )
        models.append(Model(model_id, f"tiny-{name}", (), archived=False, created_us=NOW_US, version=1))
        place = Deployment(
            UUID(int=number + 2_000), model_id, backend_id, "tiny", 1, 0, archived=False, version=1
        )
        places.append(place)
    made = Snapshot()
    made.apply(Changes(version=1, backends=tuple(backends), models=tuple(models), deployments=tuple(places)))
    return made


DIRECTORY = _directory()


class Interleaving:
    """Serves feeds through one proxy."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._ids = [uuid7(NOW_US, number.to_bytes(10, "big")) for number in range(len(feeds))]
        self._replies = [FedReply(feed.stream.media_type) for feed in feeds]
        self._clients = [FakeClient(Journal()) for _ in feeds]
        journal = Journal()
        self._spool = FakeSpool(journal)
        by_id = {
            str(usage_id).encode(): reply for usage_id, reply in zip(self._ids, self._replies, strict=True)
        }
        self._proxy = Proxy(
            directory=FakeDirectory({KEY: CALLER}, DIRECTORY),
            upstream=FedUpstream(by_id),
            spool=self._spool,
            admission=FakeAdmission(journal, []),
            tokenizer=FakeTokenizer(journal, REASONING_TOKENS),
            clock=FakeClock(),
            settings=GatewaySettings(),
        )

    def __repr__(self) -> str:
        return f"<Interleaving of {len(self._feeds)} {self._proxy!r}>"

    async def run(self, turns: Sequence[int]) -> list[Seen]:
        """Feed the next piece of stream ``turns[0]``, then of ``turns[1]`` …; each stream ends behind its last piece."""
        tasks = [asyncio.ensure_future(self._serve(number)) for number in range(len(self._feeds))]
        await asyncio.sleep(0)
        left = [list(feed.pieces) for feed in self._feeds]
        for number, feed in enumerate(self._feeds):
            if not feed.pieces:
                self._end(number)
        for number in turns:
            self._replies[number].feed(left[number].pop(0))
            await _turn(TURNS_A_PIECE)
            if not left[number]:
                self._end(number)
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*tasks)
        return [self._seen(number) for number in range(len(self._feeds))]

    def _end(self, number: int) -> None:
        if self._feeds[number].end is End.LEFT:
            self._clients[number].leave()
        self._replies[number].finish(self._feeds[number].end)

    async def _serve(self, number: int) -> None:
        stream = self._feeds[number].stream
        path, body = stream.sent()
        headers = {b"authorization": KEY, b"content-type": stream.content_type}
        request = Request(self._ids[number], NOW_US, "POST", path, headers, body)
        await self._proxy.serve(request, self._clients[number])

    def _seen(self, number: int) -> Seen:
        records = [record for record in self._spool.closed if record.id == self._ids[number]]
        client, stream = self._clients[number], self._feeds[number].stream
        assert len(records) == 1, (
            f"{stream.name}: {len(records)} records; {client.status} {client.body[:300]!r}"
        )
        body = client.body.replace(str(self._ids[number]).encode(), str(NO_ID).encode())
        return Seen(msgspec.structs.replace(records[0], id=NO_ID), client.status, body)


async def _turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def interleaved(feeds: Sequence[Feed], turns: Sequence[int]) -> list[Seen]:
    """What becomes of streams whose pieces come in an order."""
    return asyncio.run(Interleaving(feeds).run(turns))


def alone(stream: Stream, body: bytes, end: End = End.WHOLE) -> Seen:
    """What becomes of a stream that comes in one piece, with no other beside it."""
    feed = Feed(stream, [body] if body else [], end)
    return interleaved([feed], [0] * len(feed.pieces))[0]
