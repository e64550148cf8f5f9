"""A limit: how many requests or tokens in a window, or how many requests at once, for whom, and what holds in doubt."""

from enum import StrEnum
from uuid import UUID

import msgspec

from billing.errors import InvalidInput

WINDOW_S = 60
"""The window of requests and tokens unless another is said: a minute."""
AMOUNT_MAX = 1_000_000_000_000
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

    def __repr__(self) -> str:
        return f"<Limit {self.sentence()}, {self.enforce}, {self.on_failure}>"

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


def _refuse(param: str, is_wrong: bool, why: str) -> None:
    if is_wrong:
        raise InvalidInput(f"{param}: {why}", param)
