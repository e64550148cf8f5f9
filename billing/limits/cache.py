"""Every command and script of limits on Valkey: keys, words on the wire, and what the replies mean.

All keys of a tenant carry one hash tag, so that a script finds them on one node of a cluster::

    {<tenant hex>}:2:<bucket>    a limit's bucket (``LAYOUT`` of bucket.lua); absent when it is full and nothing is reserved
    {<tenant hex>}:2:held        usage id → what it holds; ``epoch`` → since when the tenant's buckets are remembered
    {<tenant hex>}:2:leases      usage id → when its lease ends
    billing:2:epoch              since when this store remembers anything
    billing:2:epoch:seen         when a gateway last looked at it; not on a cluster
    billing:2:epoch:process      which process answered then, by its run id; not on a cluster
    billing:2:epoch:{<number>}   on a cluster, since when one slot does: servers lose their memory one by one

The number is that of the layout. What gateways of another layout left is not read: to them and to us the store is new.
A bucket is named by its limit's id, or of one end user by a hash.

A tenant of whom nothing is held gets the epoch of the server beside it. On a cluster that is the marker of its slot,
which goes where the slot goes; no marker means that the slot began to remember now. Gateways mark all slots when they
have reached a server, within a minute, so that a tenant that is new begins as on a single server.

A server that comes back with an old snapshot is told to forget it before it is asked anything (``greet.lua``). On a cluster
that is not done: there each server must append to a file, or keep nothing.
"""

import asyncio
import itertools
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Protocol
from uuid import UUID

from billing.clock import MICROSECONDS_PER_SECOND
from billing.errors import Unavailable
from billing.infra import valkey
from billing.infra.valkey import SLOTS, Greeter, Part, Request, Script, ValkeyError, slot_of
from billing.limits.bucket import Ask, Bucket, Verdict, asks_of, changed, opened, refilled, verdict
from billing.limits.limit import Limit
from billing.limits.live import Usage
from billing.limits.need import NONE
from billing.limits.outbox import Kind, Post
from billing.limits.ports import Epoch, NotExecuted
from billing.limits.twin import Decision, State
from billing.limits.used import Used

EPOCH_KEY = b"billing:2:epoch"
SEEN_KEY = b"billing:2:epoch:seen"
PROCESS_KEY = b"billing:2:epoch:process"
MARKERS_MAX = 256
"""Slots that are marked at once, about once a second: all within 64 s."""
PAUSE_S = 0.02
_HEAD = 3
"""Words of a reply before its verdicts."""
_VERDICT = 4
TENANTS_MAX = 10_000
"""Tenants whose keys are remembered; others' are made anew."""
_STATES = tuple(State)
_GRANT, _RELEASE = Kind.GRANT, Kind.RELEASE  # members are looked up slowly, on the hot path
_pack_ask = struct.Struct("<6d3B").pack
_unpack_bucket = struct.Struct("<6dB").unpack

_log = logging.getLogger(__name__)


class Transport(Protocol):
    """What is needed of ``infra/valkey.py``; futures raise ``Unavailable`` or ``ValkeyError`` and need no awaiting."""

    @property
    def connected(self) -> bool:
        """Whether the server takes calls."""
        ...

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie on several servers."""
        ...

    def greet_with(self, greeter: Greeter) -> None:
        """Have every connection begin so, before anything else is sent on it."""
        ...

    def call(self, *parts: Part, key: bytes | None = None) -> "asyncio.Future[Any]":
        """Send a command."""
        ...

    def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Part]) -> "asyncio.Future[Any]":
        """Run a script."""
        ...


def _source(*names: str) -> Script:
    return Script("\n".join(files("billing.limits").joinpath(name).read_text("utf-8") for name in names))


ADMIT = _source("bucket.lua", "admit.lua")
SETTLE = _source("bucket.lua", "settle.lua")
RENEW = _source("bucket.lua", "renew.lua")
EPOCH = _source("epoch.lua")
GREET = _source("greet.lua")


class LimitCache:
    """The store of limits that all gateways share (:class:`~billing.limits.ports.Store`)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._unmarked: deque[int] = deque()
        transport.greet_with(greet)

    def __repr__(self) -> str:
        return f"<LimitCache {self._transport!r}>"

    @property
    def connected(self) -> bool:
        """Whether it takes questions now."""
        return self._transport.connected

    async def admit(
        self,
        tenant_id: UUID,
        request_id: UUID,
        asks: Sequence[Ask],
        *,
        lease_us: int,
        ends_max: int,
        grace_us: int,
    ) -> Decision:
        """All asks or none, in one script; raises ``NotExecuted``, or ``Unavailable`` if the outcome is unknown."""
        head: list[Part] = [request_id.bytes, lease_us, self._marker(tenant_id), b"", b"", ends_max, grace_us]
        try:
            return _decision(await self._transport.script(ADMIT, *_admission(tenant_id, head, asks)))
        except (valkey.NotExecuted, ValkeyError) as fault:
            raise _translated(fault) from fault

    def send(self, post: Post, done: Callable[[bool], None]) -> None:
        """Send a post without waiting; ``done`` is told once whether it was taken."""
        if post.kind is _GRANT:
            head: list[Part] = [
                post.id,
                post.lease_us,
                self._marker(post.tenant_id),
                *_words(post.charged),
                0,
                0,
            ]
            answer = self._transport.script(ADMIT, *_admission(post.tenant_id, head, post.asks))
        else:
            how = b"release" if post.kind is _RELEASE else b""
            words: list[Part] = [post.id, *_words(post.used), how, post.memory_us, b""]
            answer = self._transport.script(SETTLE, _tenant_keys(post.tenant_id), words)
        answer.add_done_callback(lambda reply: done(_is_taken(post.kind, reply)))

    def renew(self, tenant_id: UUID, usages: Sequence[Usage], lease_us: int) -> Awaitable[int]:
        """Let leases end later, never sooner, and charge what was used so far; the answer is how many were still held.

        Sent at once. Ids that are not held stay so: a lease that has ended is announced again, not renewed.
        """
        words: list[Part] = [lease_us, b""]
        for usage_id, used in usages:
            words += (usage_id.bytes, *_words(used))
        return _answer(self._transport.script(RENEW, _tenant_keys(tenant_id), words))

    async def epoch(self) -> Epoch:
        """Since when the store remembers; begun now when it remembers nothing. Raises ``Unavailable``.

        On a cluster the slots get their own markers meanwhile, a few each time.
        """
        keys = [EPOCH_KEY, SEEN_KEY]
        if self._transport.is_cluster:
            keys = [EPOCH_KEY]
            for _ in range(min(MARKERS_MAX, len(self._unmarked))):
                self._mark(self._unmarked.popleft())
        epoch_us, now_us = await _answer(self._transport.script(EPOCH, keys, []))
        return Epoch(int(epoch_us), int(now_us))

    async def look(self, tenant_id: UUID, limits: Sequence[Limit]) -> list[Verdict]:
        """What is left of limits that are not for each end user, in the store's time; takes nothing. Raises ``Unavailable``."""
        prefix, held, _ = _keys_of(tenant_id.int)
        asks = asks_of(limits, NONE)
        keys = [prefix + ask.bucket.encode() for ask in asks]
        marker = self._marker(tenant_id)
        answers = (
            self._transport.call(b"TIME", key=held),
            self._transport.call(b"HGET", held, b"epoch", key=held),
            self._transport.call(b"GET", marker, key=marker),
            self._transport.call(b"MGET", *keys, key=held),
        )
        (seconds, part), own, epoch, values = [await _answer(each) for each in answers]
        now_us = int(seconds) * MICROSECONDS_PER_SECOND + int(part)
        epoch_us = int(float(own or epoch or now_us))
        return [_seen(ask, value, now_us, epoch_us) for ask, value in zip(asks, values, strict=True)]

    def returned(self) -> None:
        """A server was reached: whatever slots it may have lost are marked again.

        After those that are still to be marked: servers that come and go put off none for ever.
        """
        if self._transport.is_cluster:
            waiting = set(self._unmarked)
            self._unmarked.extend(slot for slot in range(SLOTS) if slot not in waiting)

    async def pause(self) -> None:
        """Let answers come for a moment."""
        await asyncio.sleep(PAUSE_S)

    def _mark(self, slot: int) -> None:
        def answered(reply: "asyncio.Future[Any]") -> None:
            if reply.cancelled() or reply.exception() is not None:
                self._unmarked.append(slot)  # its server is away, or has not found its cluster again

        self._transport.script(EPOCH, [marker_of(slot)], []).add_done_callback(answered)

    def _marker(self, tenant_id: UUID) -> bytes:
        """The key that tells since when what lies beside a tenant is remembered."""
        if not self._transport.is_cluster:
            return EPOCH_KEY
        return marker_of(slot_of(tenant_id.hex.encode()))


async def greet(request: Request, is_cluster: bool) -> None:
    """Begin a connection: have an old snapshot forgotten; of a cluster's server only say that one may come back.

    Raises ``Unavailable`` where that cannot be done now. A server that forbids it is trusted, and that is logged.
    """
    if is_cluster:
        await _look_at_file(request)
        return
    found = await request(b"EVAL", GREET.source, 3, EPOCH_KEY, SEEN_KEY, PROCESS_KEY)
    if found > 0:
        _log.warning("Valkey came back with an old snapshot, which was forgotten: limits begin empty")
    elif found < 0:
        _log.warning(
            "Valkey cannot be made to forget an old snapshot if it comes back with one: it forbids INFO or SCAN"
        )


async def _look_at_file(request: Request) -> None:
    try:
        told = await request(b"INFO", b"persistence")
    except (ValkeyError, Unavailable):
        return  # it is said for those who can read it; nothing depends on it
    if b"\naof_enabled:0" in told:
        _log.warning(
            "a server of the cluster has no append-only file: if it keeps snapshots, one that is killed hands out "
            'limits again; set `appendonly yes`, or keep none with `save ""`'
        )


def marker_of(slot: int) -> bytes:
    """The key of a cluster's slot that tells since when the slot is remembered; it lies in that slot."""
    return _markers()[slot]


@cache
def _markers() -> tuple[bytes, ...]:
    """For each slot the key with the smallest number that falls into it: always the same."""
    tags: dict[int, bytes] = {}
    for number in itertools.count():
        tag = b"%d" % number
        tags.setdefault(slot_of(tag), tag)
        if len(tags) == SLOTS:
            return tuple(b"%s:{%s}" % (EPOCH_KEY, tags[slot]) for slot in range(SLOTS))
    raise AssertionError("numbers have no end")


def _tenant_keys(tenant_id: UUID) -> tuple[bytes, bytes]:
    return _keys_of(tenant_id.int)[1:]


def _prefix(tenant_id: UUID) -> bytes:
    return _keys_of(tenant_id.int)[0]


@lru_cache(maxsize=TENANTS_MAX)
def _keys_of(tenant: int) -> tuple[bytes, bytes, bytes]:
    """What a tenant's keys begin with, and two of them; by its number, as the hash of a UUID is made in Python."""
    prefix = b"{%032x}:2:" % tenant
    return prefix, prefix + b"held", prefix + b"leases"


def _words(used: Used) -> tuple[Part, Part]:
    """Input and output as the scripts read them, empty where nobody knows."""
    return b"" if used.input is None else used.input, b"" if used.output is None else used.output


def _admission(tenant_id: UUID, head: Sequence[Part], asks: Sequence[Ask]) -> tuple[list[bytes], list[Part]]:
    """Keys and words of the script: ``head``, no time of our own, then what each limit is asked."""
    prefix, held, leases = _keys_of(tenant_id.int)
    keys = [held, leases]
    words: list[Part] = [*head, b""]
    for ask in asks:
        keys.append(prefix + ask.bucket.encode())
        words.append(
            _pack_ask(
                ask.amount,
                ask.window_us,
                ask.burst,
                ask.created_us,
                ask.take,
                ask.hold,
                ask.is_shadow,
                ask.side,
                ask.is_strict,
            )
        )
    return keys, words


def _seen(ask: Ask, value: bytes | None, now_us: int, epoch_us: int) -> Verdict:
    """What is left of a bucket as the script would find it."""
    if value is None:
        return verdict(opened(ask, now_us, epoch_us), ask, does_fit=True)
    level, reserved, at_us, amount, window_us, burst, strict = _unpack_bucket(value)
    found = Bucket(level, reserved, int(at_us), amount, int(window_us), burst, strict == 1)
    return verdict(refilled(changed(found, ask), now_us), ask, does_fit=True)


def _decision(reply: Sequence[int]) -> Decision:
    verdicts = [
        Verdict(reply[place] == 1, reply[place + 1], reply[place + 2], reply[place + 3])
        for place in range(_HEAD, len(reply), _VERDICT)
    ]
    return Decision(_STATES[reply[0]], reply[1], tuple(verdicts), reply[2] == 1)


def _is_taken(kind: Kind, reply: "asyncio.Future[Any]") -> bool:
    """Whether a post needs no sending again: the store has done it, or had done it before."""
    if reply.cancelled() or reply.exception() is not None:
        return False
    return kind is not _GRANT or State(reply.result()[0]) in {State.ADMITTED, State.ENDED}


def _translated(fault: BaseException) -> BaseException:
    """A fault of the transport in the words of admission; what is none of these stays as it is."""
    if isinstance(fault, valkey.NotExecuted):
        return NotExecuted(str(fault))
    return Unavailable(f"Valkey refuses: {fault}") if isinstance(fault, ValkeyError) else fault


def _answer(reply: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """The same reply, in which an error of the server's is ``Unavailable``; it need not be awaited."""
    answer: asyncio.Future[Any] = reply.get_loop().create_future()
    reply.add_done_callback(lambda done: _copy(done, answer))
    return answer


def _copy(reply: "asyncio.Future[Any]", answer: "asyncio.Future[Any]") -> None:
    if answer.done():
        return  # nobody waits any more
    fault = Unavailable("given up") if reply.cancelled() else reply.exception()
    if fault is None:
        answer.set_result(reply.result())
        return
    answer.set_exception(_translated(fault))
    answer.exception()  # taken note of: who sends and forgets leaves no line in the log
