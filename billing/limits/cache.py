"""Every command and script of limits on Valkey: keys, words on the wire, and what the replies mean.

All keys of a tenant carry one hash tag, so that a script finds them on one node of a cluster::

    {<tenant hex>}:<limit hex>   a limit's bucket, six doubles; absent when it is full and nothing is reserved
    {<tenant hex>}:held          usage id → what it holds; ``epoch`` → since when the tenant's buckets are remembered
    {<tenant hex>}:leases        usage id → when its lease ends
    billing:epoch                since when this store remembers anything
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Protocol
from uuid import UUID

from billing.errors import Unavailable
from billing.infra.valkey import Part, Script, ValkeyError
from billing.limits.bucket import Ask, Verdict
from billing.limits.outbox import Kind, Post
from billing.limits.ports import Epoch
from billing.limits.twin import Decision, State

EPOCH_KEY = b"billing:epoch"
_HEAD = 2
"""Words of a reply before its verdicts."""
_VERDICT = 4
_pack_ask = struct.Struct("<7d").pack


class Transport(Protocol):
    """What is needed of ``infra/valkey.py``; futures raise ``Unavailable`` or ``ValkeyError`` and need no awaiting."""

    @property
    def connected(self) -> bool:
        """Whether the server takes calls."""
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
EPOCH = _source("epoch.lua")


class LimitCache:
    """The store of limits that all gateways share (:class:`~billing.limits.ports.Store`)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

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
        epoch_us: int | None,
        ends_max: int,
        grace_us: int,
    ) -> Decision:
        """All asks or none, in one script; raises ``Unavailable``, after which the outcome is unknown."""
        head: list[Part] = [request_id.bytes, lease_us, epoch_us or b"", b"", ends_max, grace_us]
        try:
            return _decision(await self._transport.script(ADMIT, *_admission(tenant_id, head, asks)))
        except ValkeyError as fault:
            raise Unavailable(f"Valkey refuses: {fault}") from fault

    def send(self, post: Post, epoch_us: int, done: Callable[[bool], None]) -> None:
        """Send a post without waiting; ``done`` is told once whether it was taken. A grant may carry the epoch."""
        if post.kind is Kind.GRANT:
            head: list[Part] = [post.id, post.lease_us, epoch_us, b"force", 0, 0]
            answer = self._transport.script(ADMIT, *_admission(post.tenant_id, head, post.asks))
        else:
            used: Part = b"" if post.used is None else post.used
            how = b"release" if post.kind is Kind.RELEASE else b""
            words = [post.id, used, how, post.memory_us, b""]
            answer = self._transport.script(SETTLE, _tenant_keys(post.tenant_id), words)
        answer.add_done_callback(lambda reply: done(_is_taken(post.kind, reply)))

    def renew(self, tenant_id: UUID, request_ids: Sequence[UUID], ends_us: int) -> Awaitable[int]:
        """Let leases end later, never sooner; sent at once, the answer is how many were still held.

        Ids that are not held stay so: a lease that has ended is announced again, not renewed.
        """
        leases = _tenant_keys(tenant_id)[1]
        words: list[Part] = [b"ZADD", leases, b"XX", b"GT", b"CH"]
        for request_id in request_ids:
            words += (ends_us, request_id.bytes)
        return _answer(self._transport.call(*words, key=leases))

    async def epoch(self) -> Epoch:
        """Since when the store remembers; begun now when it remembers nothing. Raises ``Unavailable``."""
        epoch_us, now_us = await _answer(self._transport.script(EPOCH, [EPOCH_KEY], []))
        return Epoch(int(epoch_us), int(now_us))


def _tenant_keys(tenant_id: UUID) -> list[bytes]:
    tag = tenant_id.hex.encode()
    return [b"{%s}:held" % tag, b"{%s}:leases" % tag]


def _admission(tenant_id: UUID, head: Sequence[Part], asks: Sequence[Ask]) -> tuple[list[bytes], list[Part]]:
    """Keys and words of the script: ``head``, no time of our own, then what each limit is asked."""
    keys = _tenant_keys(tenant_id)
    prefix = b"{%s}:" % tenant_id.hex.encode()
    words: list[Part] = [*head, b""]
    for ask in asks:
        keys.append(prefix + ask.bucket.encode())
        words.append(
            _pack_ask(ask.amount, ask.window_us, ask.burst, ask.created_us, ask.take, ask.hold, ask.is_shadow)
        )
    return keys, words


def _decision(reply: Sequence[int]) -> Decision:
    verdicts = [
        Verdict(reply[place] == 1, reply[place + 1], reply[place + 2], reply[place + 3])
        for place in range(_HEAD, len(reply), _VERDICT)
    ]
    return Decision(State(reply[0]), reply[1], tuple(verdicts))


def _is_taken(kind: Kind, reply: "asyncio.Future[Any]") -> bool:
    """Whether a post needs no sending again: the store has done it, or had done it before."""
    if reply.cancelled() or reply.exception() is not None:
        return False
    return kind is not Kind.GRANT or State(reply.result()[0]) in {State.ADMITTED, State.ENDED}


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
    answer.set_exception(Unavailable(f"Valkey refuses: {fault}") if isinstance(fault, ValkeyError) else fault)
    answer.exception()  # taken note of: who sends and forgets leaves no line in the log
