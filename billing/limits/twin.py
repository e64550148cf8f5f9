"""The limits of one tenant in memory: the twin of ``admit.lua`` and ``settle.lua``.

Tests hold the scripts against it over random histories, and a worker decides by it while Valkey is away.
"""

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from billing.limits.bucket import (
    Ask,
    Bucket,
    Verdict,
    changed,
    charged,
    fits,
    is_returning,
    opened,
    refilled,
    taken,
    verdict,
)
from billing.limits.used import NOTHING, UNKNOWN, Side, Used, beyond


class State(IntEnum):
    """How an admission was decided."""

    REFUSED = 0
    ADMITTED = 1
    ENDED = 2
    """The usage id has ended already."""


class Decision(msgspec.Struct, frozen=True):
    """The answer to an admission: one verdict for each limit, in their order, at an instant of the store's clock."""

    state: State
    now_us: int
    verdicts: tuple[Verdict, ...] = ()
    begins: bool = False
    """Whether the tenant was not known: it is new to the store, or the store, or that part of it, lost its memory."""


class _Lease(msgspec.Struct, frozen=True):
    """What a usage id holds of which buckets, None once it has ended; what was charged of it while it ran."""

    holds: tuple[tuple[str, Side, float], ...] | None
    ends_us: int
    charged: Used = NOTHING
    is_overdue: bool = False
    """Whether it lasts for the grace only: it was found over."""

    @property
    def due_us(self) -> float:
        """When it is over, as the scripts write it: half a microsecond tells that it was found over before."""
        return self.ends_us + 0.5 if self.is_overdue else self.ends_us


class Twin:
    """Buckets by name and leases by usage id; nothing expires by itself, time is an argument."""

    def __init__(self, epoch_us: int | None = None) -> None:
        self.buckets: dict[str, Bucket] = {}
        self._leases: dict[bytes, _Lease] = {}
        self._epoch_us = epoch_us

    def __repr__(self) -> str:
        return f"<Twin {len(self.buckets)} buckets, {len(self._leases)} leases>"

    def __contains__(self, usage_id: bytes) -> bool:
        lease = self._leases.get(usage_id)
        return lease is not None and lease.holds is not None

    def held(self, usage_id: bytes) -> list[str]:
        """Names of the buckets in which a usage id holds something."""
        lease = self._leases.get(usage_id)
        return [name for name, _, _ in (lease.holds or ())] if lease is not None else []

    def admit(
        self,
        usage_id: bytes,
        asks: Sequence[Ask],
        now_us: int,
        *,
        lease_us: int,
        epoch_us: int | None = None,
        charged: Used | None = None,
        ends_max: int = 0,
        grace_us: int = 0,
    ) -> Decision:
        """Admit under all limits or under none. An id that is held takes nothing.

        ``epoch_us``: what a tenant that is not known gets as its epoch, now unless said. ``charged``: what was charged of
        the request already; it is forced then, and granted whatever is left.
        """
        self._end_leases(now_us, ends_max, grace_us)
        begins, is_forced = self._epoch_us is None, charged is not None
        if self._epoch_us is None:
            self._epoch_us = now_us if epoch_us is None else epoch_us
        lease = self._leases.get(usage_id)
        if lease is not None and lease.holds is None:
            return Decision(State.ENDED, now_us, begins=begins)
        present = [self._present(ask, now_us, self._epoch_us, grace_us) for ask in asks]
        fit = [fits(bucket, ask) for bucket, ask in zip(present, asks, strict=True)]
        is_admitted = all(does_fit or ask.is_shadow for does_fit, ask in zip(fit, asks, strict=True))
        if lease is None and (is_admitted or is_forced):
            present = self._take(
                usage_id, asks, present, [does_fit or is_forced for does_fit in fit],
                _Lease((), now_us + lease_us, charged or NOTHING),
            )  # fmt: skip
        state = State.ADMITTED if lease is not None or is_admitted or is_forced else State.REFUSED
        verdicts = (
            verdict(bucket, ask, does_fit=d) for bucket, ask, d in zip(present, asks, fit, strict=True)
        )
        return Decision(state, now_us, tuple(verdicts), begins)

    def settle(
        self,
        usage_id: bytes,
        used: Used,
        now_us: int,
        *,
        is_released: bool = False,
        memory_us: int = 0,
    ) -> bool:
        """End a request: charge what it used; whether it was held. A release charges nothing."""
        lease = self._leases.pop(usage_id, None)
        if lease is not None:
            self._charge(lease, now_us, NOTHING if is_released else used)
        if memory_us > 0:
            self._leases[usage_id] = _Lease(None, now_us + memory_us)
        return lease is not None and lease.holds is not None

    def renew(self, usages: Sequence[tuple[bytes, Used]], now_us: int, *, lease_us: int) -> int:
        """Let leases last on, and charge what was used so far, as far as that is told; how many were still held."""
        count = 0
        for usage_id, used in usages:
            lease = self._leases.get(usage_id)
            if lease is not None and lease.holds is not None:
                count += 1
                more, charged_then = beyond(used, lease.charged)
                if more != NOTHING:
                    lease = self._charge_running(lease, lease.holds, now_us, more, charged_then)
                if now_us + lease_us > lease.ends_us:
                    lease = msgspec.structs.replace(lease, ends_us=now_us + lease_us, is_overdue=False)
                self._leases[usage_id] = lease
        return count

    def _present(self, ask: Ask, now_us: int, epoch_us: int, grace_us: int) -> Bucket:
        bucket = self.buckets.get(ask.bucket)
        bucket = opened(ask, now_us, epoch_us) if bucket is None else refilled(changed(bucket, ask), now_us)
        if is_returning(ask, now_us, epoch_us, grace_us):
            return msgspec.structs.replace(bucket, level=0.0)
        return bucket

    def _take(
        self,
        usage_id: bytes,
        asks: Sequence[Ask],
        present: Sequence[Bucket],
        granted: Sequence[bool],
        lease: _Lease,
    ) -> list[Bucket]:
        after = [
            taken(bucket, ask) if is_granted else bucket
            for bucket, ask, is_granted in zip(present, asks, granted, strict=True)
        ]
        for bucket, ask, is_granted in zip(after, asks, granted, strict=True):
            if is_granted:
                self.buckets[ask.bucket] = bucket
        # One that runs, and was charged beyond what it reserved, is charged of what more it uses.
        holds = tuple(
            (ask.bucket, ask.side, ask.hold)
            for ask, is_granted in zip(asks, granted, strict=True)
            if is_granted and (ask.hold > 0 or lease.charged != NOTHING)
        )
        self._leases[usage_id] = msgspec.structs.replace(lease, holds=holds)
        return after

    def _end_leases(self, now_us: int, ends_max: int, grace_us: int) -> None:
        """End what is over; one that is found over for the first time lasts for the grace, so that it may be renewed."""
        if ends_max == 0:
            return
        over = sorted((each.due_us, id_) for id_, each in self._leases.items() if each.due_us <= now_us)
        for _, usage_id in over[:ends_max]:
            lease = self._leases[usage_id]
            if grace_us > 0 and lease.holds is not None and not lease.is_overdue:
                self._leases[usage_id] = msgspec.structs.replace(
                    lease, ends_us=now_us + grace_us, is_overdue=True
                )
            else:
                self._charge(self._leases.pop(usage_id), now_us, UNKNOWN)

    def _charge(self, lease: _Lease, now_us: int, used: Used) -> None:
        for name, side, hold in lease.holds or ():
            if (bucket := self.buckets.get(name)) is not None:
                known, before = used.of(side), lease.charged.of(side) or 0.0
                more = hold if known is None else max(0.0, known - before)
                self.buckets[name] = charged(refilled(bucket, now_us), hold, more)

    def _charge_running(
        self,
        lease: _Lease,
        holds: Sequence[tuple[str, Side, float]],
        now_us: int,
        more: Used,
        charged_then: Used,
    ) -> _Lease:
        kept = []
        for name, side, hold in holds:
            bucket, part = self.buckets.get(name), 0.0
            if bucket is not None and bucket.window_us > 0:
                of_side = more.of(side) or 0.0
                part = min(hold, of_side)
                self.buckets[name] = charged(refilled(bucket, now_us), part, of_side)
            kept.append((name, side, hold - part))
        return msgspec.structs.replace(lease, holds=tuple(kept), charged=charged_then)
