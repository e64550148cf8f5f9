"""Which server of a cluster holds a key: the slot map, a link to each primary, and redirections followed.

The map is read when the cluster is met, after a redirection, and every second while a server that holds slots is away
(its replica may have taken over, and says nothing). Slots and hash tags: Redis Cluster specification.
"""

import asyncio
import binascii
import logging
from collections.abc import Callable
from typing import Any

from billing.errors import Unavailable
from billing.infra.valkey_call import Call, NotExecuted, ValkeyError
from billing.infra.valkey_link import Link
from billing.infra.valkey_url import Address

SLOTS = 16_384
REDIRECTS_MAX = 3
"""Of one call; more than that and the servers disagree."""
REFRESH_PAUSE_S = 0.1
"""Shortest time between two readings of the map: a moved slot causes one reading, not one for each call."""
REFRESH_RETRY_S = 1.0
SERVERS_MAX = 1_000

_log = logging.getLogger(__name__)


def slot_of(key: bytes) -> int:
    """The slot of a key, 0 … 16383: CRC-16 (XMODEM) of what stands in its first ``{…}``, or of all of it."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


class Cluster:
    """The links of a cluster, first of them ``seed``, which is where the map comes from as long as it is there."""

    def __init__(self, seed: Link, make_link: Callable[[Address], Link]) -> None:
        self._seed = seed
        self._make_link = make_link
        self._loop = asyncio.get_running_loop()
        self._links: dict[tuple[str, int], Link] = {(seed.address.host, seed.address.port): seed}
        self._slots: list[Link | None] = [None] * SLOTS
        self._met: asyncio.Future[None] = self._loop.create_future()
        self._reading: asyncio.Task[None] | None = None
        self._again = False
        self._leaving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        up = sum(link.connection is not None for link in self._links.values())
        known = sum(link is not None for link in self._slots)
        return f"<Cluster {up} of {len(self._links)} servers connected, {known} slots known>"

    @property
    def links(self) -> list[Link]:
        """The links to all servers that are known."""
        return list(self._links.values())

    def link_for(self, key: bytes | None) -> Link:
        """Where a call goes; without a key, or as long as the map is not known, to any server that is there."""
        link = self._slots[slot_of(key)] if key is not None else None
        return link or self._any()

    def _any(self) -> Link:
        if self._seed.connection is not None:
            return self._seed
        return next((link for link in self._links.values() if link.connection is not None), self._seed)

    def redirect(self, source: Link, call: Call, error: ValkeyError) -> None:
        """Send a call where its answer (``MOVED 866 host:port``, ``ASK …``) says, and note it if that is for good."""
        retry, (kind, slot, place) = call.retry, str(error).split(" ")[:3]
        if retry is None or retry.redirects >= REDIRECTS_MAX:
            call.fail(
                NotExecuted(f"Valkey's servers sent a call on more than {REDIRECTS_MAX} times: {error}")
            )
            return
        host, _, port = place.rpartition(":")
        retry.redirects += 1
        retry.asking = kind == "ASK"
        link = self._link_at(source, host, int(port))
        if not retry.asking:
            self._slots[int(slot)] = link
            self.refresh()
        link.send(call)

    def _link_at(self, source: Link, host: str, port: int) -> Link:
        """The link to a server; one that does not know its own name is where ``source`` is."""
        place = (host if host not in {"", "?"} else source.address.host, port)
        link = self._links.get(place)
        if link is None:
            if len(self._links) >= SERVERS_MAX:
                return source
            link = self._links[place] = self._make_link(self._seed.address.at(*place))
            link.start()
        return link

    # The map.

    def refresh(self, pause_s: float = REFRESH_PAUSE_S) -> None:
        """Read the map in ``pause_s`` seconds; asked again meanwhile, it is read once more and not more often."""
        if self._reading is None or self._reading.done():
            self._reading = self._loop.create_task(self._keep_reading(pause_s))
        else:
            self._again = True

    async def ready(self) -> None:
        """Wait until the map was read and each server tried once, whatever came of it."""
        await asyncio.wait([self._met])

    async def close(self) -> None:
        """End all links for good."""
        if self._reading is not None:
            self._reading.cancel()
        if not self._met.done():
            self._met.set_result(None)
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._leaving)

    async def _keep_reading(self, pause_s: float) -> None:
        complete = False
        while self._again or not complete:
            await asyncio.sleep(pause_s)
            self._again = False
            complete = await self._read()
            pause_s = REFRESH_PAUSE_S if complete else REFRESH_RETRY_S
            if not self._met.done():
                self._met.set_result(None)

    async def _read(self) -> bool:
        """Read the map from any server; whether every server in it is connected and no other is."""
        source = self._any()
        call = Call(self._loop.create_future(), (b"CLUSTER", b"SLOTS"))
        source.send(call)
        try:
            ranges = await call.future
        except (Unavailable, ValkeyError) as error:
            _log.warning("the slots of the cluster cannot be read from %s: %s", source.address, error)
            return False
        slots: list[Link | None] = [None] * SLOTS
        for first, last, primary in (entry[:3] for entry in ranges):
            link = self._link_at(source, *_place_of(primary))
            slots[first : last + 1] = [link] * (last + 1 - first)
        self._slots = slots
        used = {link for link in slots if link is not None}
        if used:
            await asyncio.wait([link.attempted for link in used])
        return self._let_go(used) and all(link.connection is not None for link in used)

    def _let_go(self, used: set[Link]) -> bool:
        """Close the links to servers that hold nothing any more, once nothing waits there; whether all are gone."""
        unused = [place for place, link in self._links.items() if link not in used and link is not self._seed]
        for place in unused:
            if not self._links[place].waiting:
                task = self._loop.create_task(self._links.pop(place).close())
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
        return not any(place in self._links for place in unused)


def _place_of(primary: list[Any]) -> tuple[str, int]:
    """Host and port of a server in the reply to CLUSTER SLOTS; the host may be missing."""
    return (primary[0] or b"").decode(), primary[1]
