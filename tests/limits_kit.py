"""Limits for tests: limits in short, a gateway's admission on a real Valkey, and the scripts at made-up times."""

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import redis

from billing.errors import LimitReached
from billing.infra.system import monotonic_us, now_us
from billing.infra.valkey import Part, Script, Valkey
from billing.limits import cache
from billing.limits.admission import Admission, Permit
from billing.limits.bucket import Ask
from billing.limits.cache import ADMIT, SETTLE, LimitCache
from billing.limits.limit import Enforce, Limit, Meter, OnFailure
from billing.limits.twin import Decision
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import eventually
from tests.metering_kit import id_maker

PATIENT = LimitsSettings(timeout_s=2.0)
"""For tests that are about something else than time: these machines have other work."""
FUTURE_US = 1 << 52
"""A limit made so late is younger than any store."""

new_id = id_maker(seed=77)
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
        return await admission.admit(new_id(), limits, bound)
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
              is_forced: bool = False, ends_max: int = 0, grace_us: int = 0) -> Decision:  # fmt: skip
        """As :meth:`billing.limits.twin.Twin.admit`."""
        head: list[Part] = [
            usage_id,
            lease_us,
            epoch_us or b"",
            b"force" if is_forced else b"",
            ends_max,
            grace_us,
        ]
        keys, words = cache._admission(self.tenant_id, head, asks)
        words[len(head)] = now
        return cache._decision(self._run(ADMIT, keys, words))

    def settle(self, usage_id: bytes, used: float | None, now: int, *, is_released: bool = False,
               memory_us: int = 0) -> bool:  # fmt: skip
        """As :meth:`billing.limits.twin.Twin.settle`."""
        words: list[Part] = [
            usage_id,
            b"" if used is None else used,
            b"release" if is_released else b"",
            memory_us,
            now,
        ]
        return bool(self._run(SETTLE, cache._tenant_keys(self.tenant_id), words))

    def _run(self, script: Script, keys: Sequence[bytes], words: Sequence[Part]) -> Any:
        return self.client.eval(script.source, len(keys), *keys, *words)

    def keys(self) -> list[bytes]:
        """Keys of the tenant."""
        return sorted(self.client.scan_iter(b"{%s}*" % self.tenant_id.hex.encode()))

    def close(self) -> None:
        """Forget the tenant."""
        for key in self.keys():
            self.client.delete(key)
        self.client.close()
