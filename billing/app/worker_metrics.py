"""What a gateway worker tells Prometheus: read from its plain counts twice a second, so that a request pays nothing."""

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol

from billing.clock import MICROSECONDS_PER_SECOND
from billing.infra import telemetry
from billing.infra.telemetry import Flusher, named
from billing.metering.event import Closed, Opened, Progress
from billing.tokens.components import Component, components
from billing.tokens.usage import Outcome

CLOSES_MAX = 100_000
"""Ended requests that wait to be counted; more than these in half a second are not."""


class _Spool(Protocol):
    """The spool port of the gateway, as far as it is passed through."""

    def open(self, entry: Opened) -> None: ...
    def progress(self, entry: Progress) -> None: ...
    def close(self, entry: Closed) -> int: ...
    async def synced(self, position: int) -> None: ...


class CountedSpool:
    """A spool that also keeps each close entry for :class:`Closes`: 0.1 µs a request."""

    def __init__(self, spool: _Spool, closes: "Closes") -> None:
        self.open = spool.open
        self.progress = spool.progress
        self.synced = spool.synced
        self._close = spool.close
        self._keep = closes.keep

    def __repr__(self) -> str:
        return "<CountedSpool>"

    def close(self, entry: Closed) -> int:
        """Write how a request ended, and count it later."""
        self._keep(entry)
        return self._close(entry)


class Closes:
    """Close entries of the last half second, and what they add to histograms and token counts."""

    def __init__(self) -> None:
        self._waiting: list[Closed] = []

    def __repr__(self) -> str:
        return f"<Closes {len(self._waiting)} waiting>"

    def keep(self, entry: Closed) -> None:
        """Take an entry in."""
        if len(self._waiting) < CLOSES_MAX:
            self._waiting.append(entry)

    def flush(self) -> None:
        """Count what has come since the last call: 2 µs a request."""
        closes, self._waiting = self._waiting, []
        telemetry.REQUEST_DURATION.observe_all(
            entry.duration_us / MICROSECONDS_PER_SECOND for entry in closes
        )
        telemetry.TIME_TO_FIRST_TOKEN.observe_all(
            entry.ttft_us / MICROSECONDS_PER_SECOND for entry in closes if entry.ttft_us is not None
        )
        used = [components(entry.usage) for entry in closes]
        for component in Component:
            tokens = sum(map(attrgetter(component.value), used))
            if tokens:
                telemetry.TOKENS.labels(component.value).inc(tokens)


_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def worker_flushers(counts: Counter[str], closes: Closes) -> list[Callable[[], None]]:
    """What carries a proxy's counts and its closes into the worker's metrics."""
    return [
        Flusher(lambda: counts, telemetry.REQUESTS, lambda key: (str(key),) if key in _OUTCOMES else None),
        Flusher(lambda: counts, telemetry.REFUSALS, named("refused_")),
        Flusher(lambda: counts, telemetry.UNRECORDED, named("unrecorded_")),
        closes.flush,
    ]
