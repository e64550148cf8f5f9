"""A limit: how many requests or tokens in a window, or how many requests at once, for whom, and what holds in doubt."""

from enum import StrEnum
from uuid import UUID

import msgspec

from billing.errors import InvalidInput

WINDOW_S = 60
"""The window of requests and tokens: a minute."""
AMOUNT_MAX = 1_000_000_000_000
BURST_WINDOWS_MAX = 1_000
"""A burst holds what so many windows refill, at most: beyond it a refill of a microsecond would be lost in rounding."""

_WINDOWS = {1: "a second", 60: "a minute", 3_600: "an hour", 86_400: "a day"}


class Meter(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


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

    It belongs to a tenant, or to one of its projects or keys; without a model it counts all models together.
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

    def __repr__(self) -> str:
        return f"<Limit {self.sentence()}, {self.enforce}, {self.on_failure}>"

    @property
    def scope(self) -> str:
        """Whose requests it counts: ``tenant``, ``project`` or ``key``."""
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
        window = _WINDOWS.get(self.window_s, f"every {self.window_s:,} seconds")
        return f"{self.amount:,} {self.meter} {window}"

    def sentence(self, whose: str | None = None) -> str:
        """The limit in words with its scope: ``50 requests a minute of key sk-1a2b3c4d on model golden``.

        ``whose`` names the owner; the caller who owns it needs no name and is told ``this key``.
        """
        model = "" if self.model is None else f" on model {self.model}"
        return f"{self.rate()} of {whose or f'this {self.scope}'}{model}"


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


def check(meter: Meter, amount: int, burst: int | None) -> None:
    """That a limit can be kept: whole numbers from 1, a burst only where there is a window; raises ``InvalidInput``."""
    if not 1 <= amount <= AMOUNT_MAX:
        raise InvalidInput(f"amount: a limit is 1 to {AMOUNT_MAX:,} {meter}, got {amount:,}", "amount")
    if burst is None:
        return
    if meter is Meter.CONCURRENCY:
        raise InvalidInput("burst: requests at once have no burst; leave it out", "burst")
    most = min(AMOUNT_MAX, amount * BURST_WINDOWS_MAX)
    if not 1 <= burst <= most:
        raise InvalidInput(f"burst: it is 1 to {most:,} {meter} for this amount, got {burst:,}", "burst")
