"""The law of a limit as arithmetic on one bucket: the twin of ``bucket.lua``, operation for operation.

A bucket holds at most ``burst`` and refills at ``amount / window``. What a request is to use is reserved while it runs
and charged when it ends; nothing is ever refunded into the level. So over any time t no more than
``burst + amount · t / window`` is used and reserved. Without a window (``window_us`` 0) the level stays at the burst and
only what is reserved counts: requests at once.

Numbers are doubles, as Lua's are, and stand in the same order of operations (traps.md 17): amounts of requests and
tokens, not of money. Times are whole microseconds, which a double holds exactly.
"""

import math
from collections.abc import Sequence

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.limits.limit import Enforce, Limit, Meter

TOLERANCE = 1e-9
TOLERANCE_SHARE = 1e-14
"""What rounding may take from a level, so that waiting exactly the told time is enough: absolute, and of the burst."""
SLOT_WAIT_US = MICROSECONDS_PER_SECOND
"""The wait told when all slots are taken: nobody knows when a running request ends."""


class Ask(msgspec.Struct, frozen=True):
    """What one request asks of one limit's bucket: ``take`` at once, ``hold`` until it ends."""

    bucket: str
    amount: float
    window_us: int
    burst: float
    created_us: int
    take: float
    hold: float
    is_shadow: bool = False


class Bucket(msgspec.Struct, frozen=True):
    """The state of one limit at ``at_us``."""

    level: float
    reserved: float
    at_us: int
    amount: float
    window_us: int
    burst: float


class Verdict(msgspec.Struct, frozen=True):
    """What a bucket answers: whether the ask fits, and what is left afterwards.

    ``reset_us`` until all of it is there again, if what is reserved now is used in full. ``wait_us`` until the ask fits:
    exact, or ``reset_us`` where only the end of what is reserved can make room.
    """

    fits: bool
    remaining: int
    reset_us: int
    wait_us: int


def ask_of(limit: Limit, tokens_bound: int, replicas: int = 1) -> Ask:
    """What a request of at most ``tokens_bound`` tokens asks of a limit, or of one worker's share of it.

    A bound beyond the burst reserves the burst; what is used beyond it is a debt.
    """
    amount: float = limit.amount
    burst: float = limit.amount if limit.burst is None else limit.burst
    if replicas > 1:
        amount, burst = amount / replicas, burst / replicas
    window_us = 0
    if limit.window_s is not None:
        window_us = limit.window_s * MICROSECONDS_PER_SECOND
    elif replicas > 1:
        burst = float(math.floor(burst))
    take, hold = 0.0, 1.0
    if limit.meter is Meter.REQUESTS:
        take, hold = 1.0, 0.0
    elif limit.meter is Meter.TOKENS:
        hold = min(max(1, tokens_bound), burst)
    is_shadow = limit.enforce is Enforce.SHADOW
    return Ask(limit.id.hex, amount, window_us, burst, limit.created_us, take, hold, is_shadow)


def asks_of(limits: Sequence[Limit], tokens_bound: int, replicas: int = 1) -> list[Ask]:
    """What a request asks of each of its limits."""
    return [ask_of(limit, tokens_bound, replicas) for limit in limits]


def announced(ask: Ask, charged: float) -> Ask:
    """What is asked for a request that runs and that the store knows no more, after ``charged`` tokens were charged of it.

    The store's level lacks the rest of the reservation already, because it started empty or charged the rest when the
    lease ended; what is reserved now adds as much to the level.
    """
    if ask.window_us == 0:
        return ask
    hold = max(0.0, ask.hold - charged)
    return msgspec.structs.replace(ask, take=-hold, hold=hold)


def opened(ask: Ask, now_us: int, epoch_us: int) -> Bucket:
    """The bucket of a limit of which the store holds nothing.

    Full for a limit that is younger than what the store remembers; else only what has refilled since, because what was
    used before was forgotten. So a limit that was made before any gateway had reached a new store begins empty too: a
    store that never held anything and one that lost everything look alike, and taking the second for the first would
    admit a limit twice. A limit made while gateways run begins full.
    """
    level = ask.burst
    if ask.window_us > 0 and ask.created_us < epoch_us:
        level = min(ask.burst, max(0, now_us - epoch_us) * float(ask.amount) / ask.window_us)
    return Bucket(level, 0.0, now_us, ask.amount, ask.window_us, ask.burst)


def refilled(bucket: Bucket, now_us: int) -> Bucket:
    """The bucket at a later instant; a clock that was set back refills nothing."""
    level = bucket.burst
    if bucket.window_us > 0:
        elapsed_us = max(0, now_us - bucket.at_us)
        level = min(bucket.burst, bucket.level + elapsed_us * float(bucket.amount) / bucket.window_us)
    return msgspec.structs.replace(bucket, level=level, at_us=max(bucket.at_us, now_us))


def changed(bucket: Bucket, ask: Ask) -> Bucket:
    """The same bucket under the limit as it is now; what was used stays used."""
    return msgspec.structs.replace(bucket, amount=ask.amount, window_us=ask.window_us, burst=ask.burst)


def is_returning(ask: Ask, now_us: int, epoch_us: int, grace_us: int) -> bool:
    """Whether slots may still be taken by requests that a lost store does not know: gateways are announcing them."""
    return ask.window_us == 0 and ask.created_us < epoch_us and now_us < epoch_us + grace_us


def fits(bucket: Bucket, ask: Ask) -> bool:
    """Whether an ask fits beside what is reserved."""
    return ask.take + ask.hold <= bucket.level - bucket.reserved + tolerance(bucket.burst)


def taken(bucket: Bucket, ask: Ask) -> Bucket:
    """The bucket after an ask was granted."""
    return msgspec.structs.replace(bucket, level=bucket.level - ask.take, reserved=bucket.reserved + ask.hold)


def charged(bucket: Bucket, hold: float, used: float) -> Bucket:
    """The bucket, refilled to now, after a request ended or went on: its reservation gives way to what it used."""
    level = bucket.level - used if bucket.window_us > 0 else bucket.level
    return msgspec.structs.replace(bucket, level=level, reserved=max(0.0, bucket.reserved - hold))


def verdict(bucket: Bucket, ask: Ask, *, does_fit: bool) -> Verdict:
    """What to tell of a bucket; ``does_fit`` was decided before it changed."""
    free = bucket.level - bucket.reserved
    remaining = math.floor(max(0, free + tolerance(bucket.burst)))
    reset_us = 0 if ask.window_us == 0 else max(0, _refill_us(bucket.burst - free, bucket))
    if does_fit:
        return Verdict(True, remaining, reset_us, 0)
    return Verdict(False, remaining, reset_us, _wait_us(bucket, ask, free))


def _wait_us(bucket: Bucket, ask: Ask, free: float) -> int:
    """How long until a refused ask fits.

    Exact where it fits beside what is reserved, once the level has refilled: whatever becomes of the reservations. Where
    it does not, only their end makes room, and nobody knows when that is: then as long as it takes to refill all, as if
    what is reserved were charged in full now.
    """
    if ask.window_us == 0:
        return SLOT_WAIT_US
    needed = ask.take + ask.hold
    if needed + bucket.reserved > bucket.burst + tolerance(bucket.burst):
        needed = max(needed, bucket.burst)
    return max(1, _refill_us(needed - free, bucket))


def counting(limits: Sequence[Limit], verdicts: Sequence[Verdict]) -> Sequence[Limit]:
    """The limits that count an admitted request: all but the shadows that would have refused it."""
    if all([verdict.fits for verdict in verdicts]):  # noqa: C419 - a list is twice as fast here, on the hot path
        return limits
    return [
        limit for limit, verdict in zip(limits, verdicts, strict=True) if verdict.fits or limit.is_enforced
    ]


def tolerance(burst: float) -> float:
    """By how much a level may fall short for rounding's sake."""
    return TOLERANCE + burst * TOLERANCE_SHARE


def _refill_us(missing: float, bucket: Bucket) -> int:
    return math.ceil(float(missing) * bucket.window_us / bucket.amount)
