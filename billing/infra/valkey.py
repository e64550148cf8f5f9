"""The hot path's way to Valkey or Redis, one server or a cluster: pipelined, bounded, and quick to say that it cannot.

    valkey = Valkey("redis://127.0.0.1:6379/0", timeout_s=0.05, queue_max=20_000)
    await valkey.connect()
    reply = await valkey.script(ADMIT, [b"{tenant}:tokens"], [1_000])

It transports only; commands and scripts belong to each noun's ``cache.py``. Elsewhere redis-py serves.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from billing.infra.valkey_call import Call, Greeter, NotExecuted, Part, Reply, Request, Script, ValkeyError
from billing.infra.valkey_cluster import SLOTS, Cluster, slot_of
from billing.infra.valkey_connection import Limits
from billing.infra.valkey_link import Greeting, Link, Terms
from billing.infra.valkey_url import Address, address_of

__all__ = [
    "SLOTS",
    "Greeter",
    "NotExecuted",
    "Part",
    "Reply",
    "Request",
    "Script",
    "Valkey",
    "ValkeyError",
    "slot_of",
]

STALL_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 1.0


def _nothing() -> None:
    """For a client that nobody watches."""


class Valkey:
    """A client for one event loop; made inside it.

    ``timeout_s``: longest wait for a reply; after it the outcome is unknown. ``queue_max``: calls waiting at one server.
    ``stall_timeout_s``: a reply that is so late ends its connection, and a new one is made. ``connect_timeout_s``: of one
    attempt. ``on_connected`` is called in the loop each time a server is reached (again): its memory may be another.
    ``url``: see ``valkey_url.py``; raises ``Misconfigured``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        queue_max: int,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        on_connected: Callable[[], None] = _nothing,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._create_future = self._loop.create_future
        self._on_connected = on_connected
        address = address_of(url)
        limits = Limits(timeout_s, stall_timeout_s, queue_max)
        self._terms = Terms(limits, connect_timeout_s, address.tls_context(), monotonic)
        self._greeters: list[Greeter] = []
        self._cluster: Cluster | None = None
        self._link = self._make_link(address)

    def __repr__(self) -> str:
        return f"<Valkey {self._cluster or self._link!r}>"

    @property
    def connected(self) -> bool:
        """Whether the server takes calls; of a cluster, whether at least one does."""
        links = [self._link] if self._cluster is None else self._cluster.links
        return any(link.connection is not None for link in links)

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie on several servers; known once a server was reached."""
        return self._cluster is not None

    @property
    def waiting(self) -> int:
        """Calls without their reply, at all servers."""
        return sum(link.waiting for link in ([self._link] if self._cluster is None else self._cluster.links))

    async def connect(self) -> None:
        """Try once, and return whatever came of it; from then on it is tried until ``close``."""
        await asyncio.wait([self._link.start()])
        if self._cluster is not None:
            await self._cluster.ready()

    async def close(self) -> None:
        """Close all connections; what waits fails with ``Unavailable``, and so does every later call."""
        if self._cluster is not None:
            await self._cluster.close()
        await self._link.close()

    def greet_with(self, greeter: Greeter) -> None:
        """Have every connection that is made from now on begin so, before any call is sent on it."""
        self._greeters.append(greeter)

    def call(self, *parts: Part, key: bytes | None = None) -> Reply:
        """Send a command; ``key`` is needed on a cluster, and says which server.

        Sent when it is called, in one write with all others of this turn of the loop. The future raises ``NotExecuted``
        (not connected, queue full, or the server cannot serve now: nothing was done), another ``Unavailable`` (no reply
        in ``timeout_s``, connection lost: the outcome is unknown) or ``ValkeyError``. It need not be awaited, and
        cancelling it does not undo the command.
        """
        call = Call(self._create_future(), parts)
        (self._link if self._cluster is None else self._cluster.link_for(key)).send(call)
        return call.future

    def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Part]) -> Reply:
        """Run a script like ``call``; on a cluster all ``keys`` carry the same hash tag, and the first says where."""
        call = Call(self._create_future(), (b"EVALSHA", script.sha, len(keys), *keys, *args), script)
        if self._cluster is None:
            self._link.send(call)
        else:
            self._cluster.link_for(keys[0] if keys else None).send(call)
        return call.future

    # What the links call.

    async def greet(self, request: Request, greeting: Greeting) -> None:
        """Let each noun say what it has to say first."""
        for each in self._greeters:
            await each(request, greeting.is_cluster)

    def connected_to(self, link: Link, greeting: Greeting) -> None:
        """A server was reached: the first of a cluster opens the map."""
        if greeting.is_cluster:
            self._meet(link)
        # Not from here: an error in it must not end the link.
        self._loop.call_soon(self._on_connected)

    def disconnected(self) -> None:
        """A server is gone: of a cluster, another may hold its slots soon."""
        if self._cluster is not None:
            self._cluster.refresh()

    def redirected(self, link: Link, call: Call, error: ValkeyError) -> None:
        """A server sent a call elsewhere."""
        self._meet(link).redirect(link, call, error)

    def _meet(self, link: Link) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(link, self._make_link)
            self._cluster.refresh(0.0)
        return self._cluster

    def _make_link(self, address: Address) -> Link:
        return Link(address, self._terms, self)
