"""A limit: how many requests or tokens in a window, or how many requests at once, for whom, and what holds in doubt."""

from enum import StrEnum
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.errors import InvalidInput

WINDOW_S = 60
"""The window of requests and tokens unless another is said: a minute."""
AMOUNT_MAX = 1_000_000_000_000
BOOST_TIMES_MAX = 1_000
BOOST_US_MAX = 31 * 86_400 * MICROSECONDS_PER_SECOND
BURST_WINDOWS_MAX = 1_000
"""A burst holds what so many windows refill, at most: beyond it a refill of a microsecond would be lost in rounding."""

WINDOWS = {1: "a second", 60: "a minute", 3_600: "an hour", 86_400: "a day"}
"""The windows that a limit may have, in seconds, and how they are said."""


class Meter(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    """Input and output together."""
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CONCURRENCY = "concurrency"

    @property
    def words(self) -> str:
        """What is counted, for people."""
        return self.value.replace("_", " ")


class Enforce(StrEnum):
    """Whether a limit refuses, or only counts what it would have refused."""

    ENFORCED = "enforced"
    SHADOW = "shadow"


class OnFailure(StrEnum):
    """What holds while Valkey cannot be asked: nothing is admitted, or a worker's own share is."""

    CLOSED = "closed"
    OPEN = "open"


class Limit(msgspec.Struct, frozen=True):
    """At most ``amount`` a window, in bursts of at most ``burst``; without a window, so many requests at once.

    It belongs to a tenant, or to one of its projects or keys; without a model it counts all models together. With
    ``per_end_user`` it is a template: each end user has the whole of it, and those requests together that name none.
    ``is_strict``: no window of the clock sees more than the amount, and each request reserves its worst case.
    """

    id: UUID
    tenant_id: UUID
    project_id: UUID | None
    key_id: UUID | None
    model: str | None
    meter: Meter
    amount: int
    window_s: int | None
    burst: int | None
    enforce: Enforce
    on_failure: OnFailure
    created_us: int
    archived: bool = False
    version: int = 0
    per_end_user: bool = False
    is_strict: bool = False
    boost: int | None = None
    """What stands in place of the amount for a while."""
    boost_until_us: int | None = None

    def __repr__(self) -> str:
        return f"<Limit {self.sentence()}, {self.enforce}, {self.on_failure}>"

    def at(self, now_us: int) -> "Limit":
        """The limit as it holds now: with a larger amount, and as much more burst, while it is boosted."""
        if self.boost is None or self.boost_until_us is None or now_us >= self.boost_until_us:
            return self
        if self.boost <= self.amount:
            return self  # the limit was raised since, beyond its boost
        burst = None if self.burst is None else self.burst * self.boost // self.amount
        return msgspec.structs.replace(self, amount=self.boost, burst=burst, boost=None, boost_until_us=None)

    def without_past(self, now_us: int) -> "Limit":
        """The same limit; a boost that has ended says nothing any more."""
        if self.boost_until_us is None or now_us < self.boost_until_us:
            return self
        return msgspec.structs.replace(self, boost=None, boost_until_us=None)

    @property
    def scope(self) -> str:
        """Whose requests it counts: ``tenant``, ``project``, ``key`` or ``end_user``."""
        return "end_user" if self.per_end_user else self.owned_by

    @property
    def owned_by(self) -> str:
        """To whom it belongs: ``tenant``, ``project`` or ``key``."""
        if self.key_id is not None:
            return "key"
        return "tenant" if self.project_id is None else "project"

    @property
    def capacity(self) -> int:
        """The most that can be used at one moment: its burst, which is its amount unless said otherwise."""
        return self.amount if self.burst is None else self.burst

    @property
    def is_enforced(self) -> bool:
        """Whether it refuses, and does not only count."""
        return self.enforce is Enforce.ENFORCED

    def rate(self) -> str:
        """The limit in words, for example ``50 requests a minute`` or ``8 requests at once``."""
        if self.window_s is None:
            return f"{self.amount:,} requests at once"
        window = WINDOWS.get(self.window_s, f"every {self.window_s:,} seconds")
        return f"{self.amount:,} {self.meter.words} {window}"

    def sentence(self, whose: str | None = None) -> str:
        """The limit in words with its scope: ``50 requests a minute of key sk-1a2b3c4d on model golden``.

        ``whose`` names the owner; the caller who owns it needs no name and is told ``this key``.
        """
        model = "" if self.model is None else f" on model {self.model}"
        each = "each end user of " if self.per_end_user else ""
        return f"{self.rate()} of {each}{whose or f'this {self.owned_by}'}{model}"


def in_force(limits: tuple[Limit, ...], now_us: int) -> tuple[Limit, ...]:
    """Limits as they hold now."""
    for limit in limits:
        if limit.boost is not None:
            return tuple([each.at(now_us) for each in limits])
    return limits


class NamedLimit(msgspec.Struct, frozen=True):
    """A limit with the names of whom it belongs to."""

    limit: Limit
    tenant: str
    project: str | None
    key_prefix: str | None

    @property
    def owner(self) -> str:
        """Whose it is, for people."""
        if self.key_prefix is not None:
            return f"key {self.key_prefix}…"
        return f"tenant {self.tenant}" if self.project is None else f"project {self.project}"


def check(limit: Limit) -> None:
    """That a limit can be kept; raises ``InvalidInput`` naming the member that is wrong.

    Whole numbers from 1; a window that is known, and none for requests at once; a burst only where a bucket refills by and
    by; a strict limit only where it can be kept: not without Valkey, and not by a worker's share.
    """
    amount, burst, meter = limit.amount, limit.burst, limit.meter
    if not 1 <= amount <= AMOUNT_MAX:
        raise InvalidInput(f"amount: a limit is 1 to {AMOUNT_MAX:,} {meter.words}, got {amount:,}", "amount")
    if meter is Meter.CONCURRENCY:
        _refuse("window_s", limit.window_s is not None, "requests at once have no window; leave it out")
        _refuse("burst", burst is not None, "requests at once have no burst; leave it out")
        _refuse("strict", limit.is_strict, "requests at once are always kept strictly; leave it out")
    elif limit.window_s not in WINDOWS:
        allowed = ", ".join(f"{seconds} ({words})" for seconds, words in WINDOWS.items())
        raise InvalidInput(f"window_s: one of {allowed}, got {limit.window_s}", "window_s")
    _refuse("burst", limit.is_strict and burst is not None, "a strict limit has no burst; leave it out")
    is_open = limit.on_failure is OnFailure.OPEN
    _refuse("on_failure", limit.is_strict and is_open, "a strict limit is closed while Valkey is away")
    most = min(AMOUNT_MAX, amount * BURST_WINDOWS_MAX)
    if burst is not None and not 1 <= burst <= most:
        raise InvalidInput(
            f"burst: it is 1 to {most:,} {meter.words} for this amount, got {burst:,}", "burst"
        )


def check_boost(limit: Limit, amount: int, until_us: int, now_us: int) -> None:
    """That a limit can be boosted: by more than it is, and not for ever; raises ``InvalidInput`` naming the member."""
    most = min(AMOUNT_MAX, limit.amount * BOOST_TIMES_MAX)
    if not limit.amount < amount <= most:
        raise InvalidInput(
            f"amount: a boost of {limit.rate()} is {limit.amount + 1:,} to {most:,}, got {amount:,}", "amount"
        )
    if not now_us < until_us <= now_us + BOOST_US_MAX:
        raise InvalidInput("until: a boost ends after now and within 31 days", "until")


def _refuse(param: str, is_wrong: bool, why: str) -> None:
    if is_wrong:
        raise InvalidInput(f"{param}: {why}", param)
