"""Limits for tests: limits in short, a store in memory, a gateway's admission on a real Valkey, the scripts at any time."""

import contextlib
import itertools
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import redis

from billing.errors import LimitReached, LimitsUnavailable, Unavailable
from billing.infra.system import monotonic_us, now_us
from billing.infra.valkey import Part, Script, Valkey
from billing.limits import cache
from billing.limits.admission import Admission, Permit
from billing.limits.bucket import Ask, Bucket
from billing.limits.cache import ADMIT, RENEW, SETTLE, LimitCache
from billing.limits.limit import Enforce, Limit, Meter, OnFailure
from billing.limits.live import Usage
from billing.limits.need import Need
from billing.limits.outbox import Kind, Post
from billing.limits.ports import Epoch, NotExecuted
from billing.limits.twin import Decision, Twin
from billing.limits.used import Used
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import eventually
from tests.metering_kit import id_maker

PATIENT = LimitsSettings(timeout_s=2.0)
"""For tests that are about something else than time: these machines have other work."""
TENANT = UUID(int=1)
NOW_US = 1_795_500_000_000_000
"""When the store in memory begins."""
FUTURE_US = 1 << 52
"""A limit made so late is younger than any store."""

new_id = id_maker(seed=77)


def need(tokens: int) -> Need:
    """Of a request that may use so many tokens of input, and is sure to make no output."""
    return Need(tokens, 0, tokens, 0)


def used(tokens: float) -> Used:
    """So many tokens of input, and no output."""
    return Used(tokens, 0)


_numbers = itertools.count(1)


def fresh_tenant() -> UUID:
    """A tenant that no other test has used on the shared Valkey."""
    return UUID(int=(time.time_ns() << 16) | next(_numbers))


def limit(tenant_id: UUID, meter: Meter = Meter.REQUESTS, amount: int = 50, **changes: Any) -> Limit:
    """An enforced, closed limit of a tenant, younger than the store."""
    fields: dict[str, Any] = {
        "id": new_id(), "tenant_id": tenant_id, "project_id": None, "key_id": None, "model": None, "meter": meter,
        "amount": amount, "window_s": None if meter is Meter.CONCURRENCY else 60, "burst": None,
        "enforce": Enforce.ENFORCED, "on_failure": OnFailure.CLOSED, "created_us": FUTURE_US,
    }  # fmt: skip
    return Limit(**fields | changes)


@contextlib.asynccontextmanager
async def gateway(url: str, settings: LimitsSettings = PATIENT) -> AsyncIterator[Admission]:
    """One worker's admission with a connection of its own, wired as a process does."""
    later: list[Admission] = []
    valkey = Valkey(
        url,
        timeout_s=settings.timeout_s,
        queue_max=settings.queue_max,
        on_connected=lambda: [each.reconnected() for each in later] and None,
    )
    admission = Admission(LimitCache(valkey), now_us, monotonic_us, settings)
    later.append(admission)
    await valkey.connect()
    try:
        await admission.renew()
        yield admission
    finally:
        await valkey.close()


@contextlib.asynccontextmanager
async def gateways(
    url: str, count: int, settings: LimitsSettings = PATIENT
) -> AsyncIterator[list[Admission]]:
    """Several workers on one Valkey."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(gateway(url, settings)) for _ in range(count)]


async def settled(admission: Admission, limit_s: float = 2.0) -> None:
    """Wait until the store has taken everything."""
    await eventually(lambda: admission.unsent == 0, limit_s)


async def admitted(admission: Admission, limits: list[Limit], bound: int = 10) -> Permit | LimitReached:
    try:
        return await admission.admit(new_id(), limits, need(bound))
    except LimitReached as refusal:
        return refusal


async def count(admission: Admission, limits: list[Limit], tries: int, bound: int = 10) -> int:
    answers = [await admitted(admission, limits, bound) for _ in range(tries)]
    return sum(isinstance(answer, Permit) for answer in answers)


class Scripts:
    """The scripts of one tenant on a real Valkey at a time that the test makes up, which nobody else may do."""

    def __init__(self, url: str, tenant_id: UUID) -> None:
        self.client = redis.Redis.from_url(url)
        self.tenant_id = tenant_id

    def admit(self, usage_id: bytes, asks: Sequence[Ask], now: int, *, lease_us: int, epoch_us: int | None = None,
              charged: Used | None = None, ends_max: int = 0, grace_us: int = 0) -> Decision:  # fmt: skip
        """As :meth:`billing.limits.twin.Twin.admit`."""
        head: list[Part] = [
            usage_id,
            lease_us,
            now if epoch_us is None else epoch_us,
            *((b"", b"") if charged is None else cache._words(charged)),
            ends_max,
            grace_us,
        ]
        keys, words = cache._admission(self.tenant_id, head, asks)
        words[len(head)] = now
        return cache._decision(self._run(ADMIT, keys, words))

    def settle(self, usage_id: bytes, used: Used, now: int, *, is_released: bool = False,
               memory_us: int = 0) -> bool:  # fmt: skip
        """As :meth:`billing.limits.twin.Twin.settle`."""
        words: list[Part] = [
            usage_id,
            *cache._words(used),
            b"release" if is_released else b"",
            memory_us,
            now,
        ]
        return bool(self._run(SETTLE, cache._tenant_keys(self.tenant_id), words))

    def renew(self, usages: Sequence[tuple[bytes, Used]], now: int, *, lease_us: int) -> int:
        """As :meth:`billing.limits.twin.Twin.renew`."""
        words: list[Part] = [lease_us, now]
        for usage_id, used in usages:
            words += (usage_id, *cache._words(used))
        return int(self._run(RENEW, cache._tenant_keys(self.tenant_id), words))

    def _run(self, script: Script, keys: Sequence[bytes], words: Sequence[Part]) -> Any:
        return self.client.eval(script.source, len(keys), *keys, *words)

    def keys(self) -> list[bytes]:
        """Keys of the tenant."""
        return sorted(self.client.scan_iter(b"{%s}*" % self.tenant_id.hex.encode()))

    def bucket(self, of: Limit) -> Bucket:
        """What is kept of a limit."""
        value = self.client.get(cache._prefix(self.tenant_id) + of.id.hex.encode())
        level, reserved, at_us, amount, window_us, burst, strict = struct.unpack("<6dB", cast("bytes", value))
        return Bucket(level, reserved, int(at_us), amount, int(window_us), burst, strict == 1)

    def close(self) -> None:
        """Forget the tenant."""
        for key in self.keys():
            self.client.delete(key)
        self.client.close()


class Time:
    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


class FakeStore:
    """A store in memory on the twin.

    ``deaf`` does what it is asked and lets nobody know; ``away`` does nothing; ``full`` refuses and says so. ``postponed``
    answers to posts only in the next pause. Of a cluster only the server of ``lost_tenants`` may be away, or the one that
    tells the epoch (``is_epoch_away``).
    """

    def __init__(self, time: Time) -> None:
        self.time = time
        self.twin = Twin()
        self.began_us: int | None = None
        self.away = self.deaf = self.full = self.postponed = False
        self.answers: list[Callable[[], None]] = []
        self.returns = 0
        self.asked: list[str] = []
        self.lost_tenants: set[UUID] = set()
        self.is_epoch_away = False
        self.posts: list[Post] = []

    @property
    def connected(self) -> bool:
        return not self.away

    def _heard(self, what: str) -> None:
        self.asked.append(what)
        if self.away or self.deaf:
            raise Unavailable("no answer")

    async def admit(self, tenant_id: UUID, request_id: UUID, asks: Sequence[Ask], *, lease_us: int, ends_max: int,
                    grace_us: int) -> Decision:  # fmt: skip
        if self.full:
            raise NotExecuted("OOM")
        decision = self.twin.admit(
            request_id.bytes,
            asks,
            self.time(),
            lease_us=lease_us,
            epoch_us=self._began(),
            ends_max=ends_max,
            grace_us=grace_us,
        )
        self._heard("admit")
        return decision

    def _began(self) -> int:
        self.began_us = self.began_us or self.time()
        return self.began_us

    def send(self, post: Post, done: Callable[[bool], None]) -> None:
        self.posts.append(post)
        taken = not self.away and not self.full and post.tenant_id not in self.lost_tenants
        if taken and post.kind is Kind.GRANT:
            self.twin.admit(
                post.id,
                post.asks,
                self.time(),
                lease_us=post.lease_us,
                epoch_us=self._began(),
                charged=post.charged,
            )
        elif taken:
            released = post.kind is Kind.RELEASE
            self.twin.settle(post.id, post.used, self.time(), is_released=released, memory_us=post.memory_us)
        if self.postponed:
            self.answers.append(lambda: done(taken and not self.deaf))
        else:
            done(taken and not self.deaf)

    async def _renew(self, tenant_id: UUID, usages: Sequence[Usage], lease_us: int) -> int:
        self._heard("renew")
        if tenant_id in self.lost_tenants or self.full:
            raise NotExecuted("its server is away")
        used = [(usage_id.bytes, tokens) for usage_id, tokens in usages]
        return self.twin.renew(used, self.time(), lease_us=lease_us)

    def renew(self, tenant_id: UUID, usages: Sequence[Usage], lease_us: int) -> Awaitable[int]:
        return self._renew(tenant_id, usages, lease_us)

    async def epoch(self) -> Epoch:
        self._heard("epoch")
        if self.is_epoch_away or self.full:
            raise NotExecuted("its server is away")
        return Epoch(self._began(), self.time())

    def returned(self) -> None:
        self.returns += 1

    async def pause(self) -> None:
        self.time.us += 20_000
        answers, self.answers = self.answers, []
        for each in answers:
            each()

    def forget(self) -> None:
        self.twin, self.began_us = Twin(), None


async def answer(admission: Admission, limits: Sequence[Limit], bound: int = 10) -> object:
    try:
        return await admission.admit(new_id(), limits, need(bound))
    except (LimitReached, LimitsUnavailable) as refusal:
        return refusal


def slots(amount: int = 1, **changes: object) -> Limit:
    return limit(TENANT, Meter.CONCURRENCY, amount, **changes)


def opened(amount: int = 50, meter: Meter = Meter.REQUESTS) -> Limit:
    return limit(TENANT, meter, amount, on_failure=OnFailure.OPEN)
