"""What one worker admits by itself while Valkey is away: its share of each limit that is ``open``.

The share is the limit divided by the most workers there may be, so all of them together stay within it. What a worker
admitted so is owed to the store, less what has refilled since.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from billing.limits.bucket import Ask, Bucket, ask_of, asks_of, refilled, tolerance
from billing.limits.limit import Limit
from billing.limits.need import NONE, Need
from billing.limits.twin import Decision, State, Twin
from billing.limits.used import Used


class Debt(msgspec.Struct, frozen=True):
    """What the store must be told was used of a bucket; ``id`` is never used again, so that it counts once."""

    limit: Limit
    bucket: str
    used: float
    id: bytes

    def ask(self) -> Ask:
        """What makes the store charge it."""
        return msgspec.structs.replace(ask_of(self.limit, NONE), bucket=self.bucket, take=self.used, hold=0.0)


BUCKETS_MAX = 100_000
"""Limits of which a worker remembers what it admitted by itself; beyond them it admits nothing."""
_FOR_EVER_US = 1 << 60


class Fallback:
    """One worker's shares, kept over outages: a store that comes and goes hands out no share twice."""

    def __init__(self, replicas_max: int) -> None:
        self._replicas_max = replicas_max
        self._twin = Twin(epoch_us=0)
        self._users: dict[str, tuple[Limit, UUID]] = {}
        self._told: dict[str, tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"<Fallback 1/{self._replicas_max} {self._twin!r}>"

    def admit(
        self,
        request_id: UUID,
        limits: Sequence[Limit],
        need: Need,
        now_us: int,
        *,
        is_told: bool = False,
    ) -> Decision | None:
        """Decide by this worker's shares, on its own clock; None where a share is too small to admit anything.

        ``is_told``: the store will be told of the request by its id, so what it takes at once is not owed.
        """
        asks = asks_of(limits, need, self._replicas_max)
        if any(ask.burst < 1 for ask in asks) or not self._has_room(asks, now_us):
            return None
        decision = self._twin.admit(request_id.bytes, asks, now_us, lease_us=_FOR_EVER_US)
        if decision.state is State.ADMITTED:
            users = ((ask.bucket, (limit, request_id)) for ask, limit in zip(asks, limits, strict=True))
            self._users.update(users)
            if is_told:
                self._tell_taken(asks, now_us)
        return decision

    def _tell_taken(self, asks: Sequence[Ask], now_us: int) -> None:
        for ask in asks:
            if ask.take > 0:
                told = self._still_told(ask.bucket, self._twin.buckets[ask.bucket], now_us)
                self._told[ask.bucket] = (told + ask.take, now_us)

    def settle(self, request_id: UUID, used: Used, now_us: int, *, is_told: bool = False) -> None:
        """Charge what a request used.

        ``is_told``: the store held it meanwhile and is told of its end, so it is not owed. Until then it was held here as
        well, and its use counts here as well: an outage that comes in between hands out no more than what is left.
        """
        before = self._missing(self._twin.held(request_id.bytes), now_us) if is_told else {}
        self._twin.settle(request_id.bytes, used, now_us)
        for name, after in self._missing(before, now_us).items():
            told = self._still_told(name, self._twin.buckets[name], now_us)
            self._told[name] = (told + after - before[name], now_us)

    def _missing(self, names: Iterable[str], now_us: int) -> dict[str, float]:
        """What was used and has not refilled, of those that refill."""
        present = {name: refilled(self._twin.buckets[name], now_us) for name in names}
        return {name: each.burst - each.level for name, each in present.items() if each.window_us > 0}

    def owed(self, now_us: int) -> list[Debt]:
        """What was used of each limit, has not refilled since, and was not told before; it counts as told now."""
        found = []
        for name, bucket in list(self._twin.buckets.items()):
            present = refilled(bucket, now_us)
            missing = present.burst - present.level
            if missing <= tolerance(present.burst):
                self._drop(name, present)
                continue
            untold = missing - self._still_told(name, present, now_us)
            if untold > tolerance(present.burst):
                limit, request_id = self._users[name]
                found.append(Debt(limit, name, untold, b"debt:%s:%s" % (request_id.bytes, name.encode())))
                self._told[name] = (missing, now_us)
        return found

    def _still_told(self, name: str, present: Bucket, now_us: int) -> float:
        """What was told and has not refilled since: the store's bucket refills what it was told as well."""
        told, at_us = self._told.get(name, (0.0, now_us))
        return max(0.0, told - (now_us - at_us) * present.amount / present.window_us)

    def _drop(self, name: str, present: Bucket) -> None:
        """A full bucket of which nothing is reserved says no more than none."""
        if present.reserved == 0:
            del self._twin.buckets[name], self._users[name]
            self._told.pop(name, None)

    def _has_room(self, asks: Sequence[Ask], now_us: int) -> bool:
        if len(self._twin.buckets) + len(asks) <= BUCKETS_MAX:
            return True
        for name, bucket in list(self._twin.buckets.items()):
            present = refilled(bucket, now_us)
            if present.level >= present.burst:
                self._drop(name, present)
        return len(self._twin.buckets) + len(asks) <= BUCKETS_MAX
