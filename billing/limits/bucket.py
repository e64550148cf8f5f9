"""The law of a limit as arithmetic on one bucket: the twin of ``bucket.lua``, operation for operation.

A bucket holds at most ``burst`` and refills at ``amount / window``. What a request is to use is reserved while it runs
and charged when it ends; nothing is ever refunded into the level. So over any time t no more than
``burst + amount · t / window`` is used and reserved. A strict bucket does not refill by and by: it is whole again when the
next window of the store's clock begins, so that no such window sees more than ``amount``; what was used beyond it is
missing from the next one. Without a window (``window_us`` 0) the level stays at the burst and only what is reserved
counts: requests at once.

Numbers are doubles, as Lua's are, and stand in the same order of operations (traps.md 17): amounts of requests and
tokens, not of money. Times are whole microseconds, which a double holds exactly.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.limits.limit import Enforce, Limit, Meter
from billing.limits.need import Need
from billing.limits.used import Side, Used

TOLERANCE = 1e-9
TOLERANCE_SHARE = 1e-14
"""What rounding may take from a level, so that waiting exactly the told time is enough: absolute, and of the burst."""
SLOT_WAIT_US = MICROSECONDS_PER_SECOND
"""The wait told when all slots are taken: nobody knows when a running request ends."""
TOLD_US_MAX = 10**15
"""No longer time is told (31 years): a limit that was lowered may be full for longer, and doubles count no further."""
GUESS_SHARE = 0.25
"""What a guess may reserve of a burst; what is used beyond it is a debt like any other."""
_SIDES = {Meter.TOKENS: Side.BOTH, Meter.INPUT_TOKENS: Side.INPUT, Meter.OUTPUT_TOKENS: Side.OUTPUT}
_INPUT, _OUTPUT, _NEITHER = (
    Side.INPUT,
    Side.OUTPUT,
    Side.NEITHER,
)  # members are looked up slowly, on the hot path
_NAME_BYTES = 16


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
    side: Side = Side.BOTH
    is_strict: bool = False


class Bucket(msgspec.Struct, frozen=True):
    """The state of one limit at ``at_us``."""

    level: float
    reserved: float
    at_us: int
    amount: float
    window_us: int
    burst: float
    is_strict: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """What a bucket answers: whether the ask fits, and what is left afterwards.

    ``reset_us`` until all of it is there again, if what is reserved now is used in full. ``wait_us`` until the ask fits:
    exact, or ``reset_us`` where only the end of what is reserved can make room.
    """

    fits: bool
    remaining: int
    reset_us: int
    wait_us: int


def ask_of(limit: Limit, need: Need, replicas: int = 1) -> Ask:
    """What a request asks of a limit, or of one worker's share of it.

    A bound beyond the burst reserves the burst, a mere guess a part of it; what is used beyond is a debt. A strict limit reserves the worst case.
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
    side = side_of(limit)
    if side is not _NEITHER:
        hold = _held(side, need, burst, is_strict=limit.is_strict)
    elif limit.meter is Meter.REQUESTS:
        take, hold = 1.0, 0.0
    is_shadow = limit.enforce is Enforce.SHADOW
    name = limit.id.hex if not limit.per_end_user else _name_of(limit, need.end_user)
    return Ask(name, amount, window_us, burst, limit.created_us, take, hold, is_shadow, side, limit.is_strict)


def asked_again(ask: Ask, need: Need) -> Ask:
    """The same ask for another request of the same end user."""
    side = ask.side
    if side is _NEITHER:
        return ask
    return Ask(
        ask.bucket, ask.amount, ask.window_us, ask.burst, ask.created_us, ask.take,
        _held(side, need, ask.burst, is_strict=ask.is_strict), ask.is_shadow, side, ask.is_strict,
    )  # fmt: skip


def _held(side: Side, need: Need, burst: float, *, is_strict: bool) -> float:
    tokens = tokens_of(side, need, is_strict=is_strict)
    if need.is_guess and not is_strict and side is not _INPUT and tokens > burst * GUESS_SHARE:
        # A worker that has learned nothing would wait for a whole bucket, which others who know never leave it.
        tokens = burst * GUESS_SHARE
    return burst if tokens > burst else max(1, tokens)


def tokens_of(side: Side, need: Need, *, is_strict: bool) -> float:
    """The tokens that a limit of a side reserves for a request, infinite where a strict one cannot know."""
    if side is _INPUT:
        return need.input_most if is_strict else need.input
    if not is_strict:
        return need.output if side is _OUTPUT else need.input + need.output
    known = need.output_most if side is _OUTPUT else need.total_most
    return math.inf if known is None else known


def side_of(limit: Limit) -> Side:
    """Which tokens a limit counts."""
    return _SIDES.get(limit.meter, _NEITHER)


def _name_of(limit: Limit, end_user: str) -> str:
    """The bucket of one end user: the name is of a fixed length, and does not say who it is."""
    return blake2b(limit.id.bytes + end_user.encode(), digest_size=_NAME_BYTES).hexdigest()


def asks_of(limits: Sequence[Limit], need: Need, replicas: int = 1) -> list[Ask]:
    """What a request asks of each of its limits."""
    return [ask_of(limit, need, replicas) for limit in limits]


def announced(ask: Ask, charged: Used) -> Ask:
    """What is asked for a request that runs and that the store knows no more, after ``charged`` was charged of it.

    The store's level lacks the rest of the reservation already, because it started empty or charged the rest when the
    lease ended; what is reserved now adds as much to the level.
    """
    if ask.window_us == 0:
        return ask
    hold = max(0.0, ask.hold - (charged.of(ask.side) or 0.0))
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
        if ask.is_strict:
            level = 0.0 if window_start(now_us, ask.window_us) < epoch_us else ask.burst
        else:
            level = min(ask.burst, max(0, now_us - epoch_us) * float(ask.amount) / ask.window_us)
    return Bucket(level, 0.0, now_us, ask.amount, ask.window_us, ask.burst, ask.is_strict)


def refilled(bucket: Bucket, now_us: int) -> Bucket:
    """The bucket at a later instant; a clock that was set back refills nothing."""
    level = bucket.burst
    if bucket.window_us > 0 and bucket.is_strict:
        windows = (window_start(now_us, bucket.window_us) - window_start(bucket.at_us, bucket.window_us)) // (
            bucket.window_us
        )
        level = (
            bucket.level
            if windows <= 0
            else min(bucket.burst, min(0.0, bucket.level) + windows * bucket.burst)
        )
    elif bucket.window_us > 0:
        elapsed_us = max(0, now_us - bucket.at_us)
        level = min(bucket.burst, bucket.level + elapsed_us * float(bucket.amount) / bucket.window_us)
    return msgspec.structs.replace(bucket, level=level, at_us=max(bucket.at_us, now_us))


def window_start(now_us: int, window_us: int) -> int:
    """When the window of the clock that ``now_us`` lies in began: a minute at its second 0, a day at midnight UTC."""
    return now_us // window_us * window_us


def changed(bucket: Bucket, ask: Ask) -> Bucket:
    """The same bucket under the limit as it is now; what was used stays used.

    Of a strict one the rest of the window's amount as it is now is left; where more was used, nothing is, and that is no debt.
    """
    level = bucket.level
    if ask.is_strict:
        if bucket.is_strict:
            level = max(min(0.0, level), level + ask.burst - bucket.burst)
        else:
            level = min(ask.burst, level)
    return msgspec.structs.replace(
        bucket,
        level=level,
        amount=ask.amount,
        window_us=ask.window_us,
        burst=ask.burst,
        is_strict=ask.is_strict,
    )


def is_returning(ask: Ask, now_us: int, epoch_us: int, grace_us: int) -> bool:
    """Whether slots may still be taken by requests that a lost store does not know: gateways are announcing them."""
    return ask.window_us == 0 and ask.created_us < epoch_us and now_us < epoch_us + grace_us


def fits(bucket: Bucket, ask: Ask) -> bool:
    """Whether an ask fits beside what is reserved."""
    return ask.take + ask.hold <= bucket.level - bucket.reserved + tolerance(bucket.burst)


def taken(bucket: Bucket, ask: Ask) -> Bucket:
    """The bucket after an ask was granted. A window holds no more than its amount, whatever is announced in it."""
    level = bucket.level - ask.take
    if bucket.is_strict:
        level = min(bucket.burst, level)
    return msgspec.structs.replace(bucket, level=level, reserved=bucket.reserved + ask.hold)


def charged(bucket: Bucket, hold: float, used: float) -> Bucket:
    """The bucket, refilled to now, after a request ended or went on: its reservation gives way to what it used."""
    level = bucket.level - used if bucket.window_us > 0 else bucket.level
    return msgspec.structs.replace(bucket, level=level, reserved=max(0.0, bucket.reserved - hold))


def verdict(bucket: Bucket, ask: Ask, *, does_fit: bool) -> Verdict:
    """What to tell of a bucket; ``does_fit`` was decided before it changed."""
    free = bucket.level - bucket.reserved
    remaining = math.floor(max(0, free + tolerance(bucket.burst)))
    reset_us = _reset_us(bucket, free)
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
    needed, level = ask.take + ask.hold, bucket.level
    is_too_much = needed + bucket.reserved > bucket.burst + tolerance(bucket.burst)
    if bucket.is_strict:
        # Above an empty window the level says nothing of the next one; below it, it is missing there.
        missing = bucket.burst - min(0.0, free) if is_too_much else needed + bucket.reserved - min(0.0, level)
        return _windows_us(missing, bucket)
    if is_too_much:
        needed = max(needed, bucket.burst)
    return max(1, _refill_us(needed - free, bucket))


def _reset_us(bucket: Bucket, free: float) -> int:
    """How long until all is there again, if what is reserved is used in full now."""
    missing = bucket.burst - free
    if bucket.window_us == 0 or missing <= 0:
        return 0
    if bucket.is_strict:
        return _windows_us(bucket.burst - min(0.0, free), bucket)
    return max(0, _refill_us(missing, bucket))


def _windows_us(missing: float, bucket: Bucket) -> int:
    """How long until so many windows have begun that ``missing`` is there: at least until the next one."""
    windows = max(1, math.ceil((missing - tolerance(bucket.burst)) / bucket.burst))
    passed_us = bucket.at_us - window_start(bucket.at_us, bucket.window_us)
    return min(TOLD_US_MAX, windows * bucket.window_us) - passed_us


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
    return min(TOLD_US_MAX, math.ceil(float(missing) * bucket.window_us / bucket.amount))
