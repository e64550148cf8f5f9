"""What a gateway worker tells Prometheus: read from its plain counts twice a second, so that a request pays nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol
from uuid import UUID

from billing.clock import MICROSECONDS_PER_SECOND
from billing.infra import telemetry
from billing.infra.telemetry import Flusher, named
from billing.metering.event import Closed, Opened, Progress
from billing.tokens.components import Component, components
from billing.tokens.usage import Outcome

CLOSES_MAX = 100_000
"""Ended requests that wait to be counted; more than these in half a second are not."""
LABELS_MAX = 500
"""Pairs of a model and a backend that have histograms of their own."""

Served = tuple[str, UUID | None]
"""The model asked for and the backend that answered."""
UNKNOWN: Served = ("unknown", None)


class _Spool(Protocol):
    """The spool port of the gateway, as far as it is passed through."""

    def open(self, entry: Opened) -> None: ...
    def progress(self, entry: Progress) -> None: ...
    def close(self, entry: Closed) -> int: ...
    async def synced(self, position: int) -> None: ...


class CountedSpool:
    """A spool that also keeps each open and close entry for :class:`Closes`: 0.3 µs a request."""

    def __init__(self, spool: _Spool, closes: "Closes") -> None:
        self._open = spool.open
        self._opened = closes.opened
        self.progress = spool.progress
        self.synced = spool.synced
        self._close = spool.close
        self._keep = closes.keep

    def __repr__(self) -> str:
        return "<CountedSpool>"

    def open(self, entry: Opened) -> None:
        """Write who asks what of whom, and remember what it is counted under."""
        self._open(entry)
        self._opened(entry)

    def close(self, entry: Closed) -> int:
        """Write how a request ended, and count it later."""
        self._keep(entry)
        return self._close(entry)


class Closes:
    """Close entries of the last half second, and what they add to histograms and token counts."""

    def __init__(self, name_of: Callable[[UUID | None], str] = str) -> None:
        self._waiting: list[tuple[Served, Closed]] = []
        self._open: dict[int, Served] = {}
        self._name_of = name_of
        self._labelled: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Closes {len(self._waiting)} waiting>"

    def opened(self, entry: Opened) -> None:
        """Remember what a request is counted under; every one that is opened is closed."""
        self._open[entry.id.int] = (entry.model, entry.backend_id)

    def keep(self, entry: Closed) -> None:
        """Take an entry in."""
        served = self._open.pop(entry.id.int, UNKNOWN)
        if len(self._waiting) < CLOSES_MAX:
            self._waiting.append((served, entry))

    def flush(self) -> None:
        """Count what has come since the last call: 2 µs a request."""
        waiting, self._waiting = self._waiting, []
        closes = [entry for _, entry in waiting]
        telemetry.REQUEST_DURATION.observe_all(
            entry.duration_us / MICROSECONDS_PER_SECOND for entry in closes
        )
        by_place: dict[Served, list[Closed]] = {}
        for served, entry in waiting:
            by_place.setdefault(served, []).append(entry)
        for (model, backend_id), entries in by_place.items():
            self._observe(self._labels(model, backend_id), entries)
        used = [components(entry.usage) for entry in closes]
        for component in Component:
            quantity = sum(map(attrgetter(component.value), used))
            if quantity:
                counter = telemetry.TOKENS if component.is_tokens else telemetry.UNITS
                counter.labels(component.value).inc(quantity)

    def _labels(self, model: str, backend_id: UUID | None) -> tuple[str, str]:
        """The names of a model and a backend; ``other`` for both once there are too many."""
        labels = (model, self._name_of(backend_id))
        if labels not in self._labelled:
            if len(self._labelled) >= LABELS_MAX:
                return ("other", "other")
            self._labelled.add(labels)
        return labels

    @staticmethod
    def _observe(labels: tuple[str, str], entries: Sequence[Closed]) -> None:
        for histogram, name in _LATENCIES:
            known = [value for entry in entries if (value := getattr(entry, name)) is not None]
            if known:
                histogram.labels(*labels).observe_all(value / MICROSECONDS_PER_SECOND for value in known)


_LATENCIES = (
    (telemetry.TIME_TO_FIRST_TOKEN, "ttft_us"),
    (telemetry.TIME_TO_FIRST_ANSWER_TOKEN, "ttfa_us"),
    (telemetry.TIME_PER_OUTPUT_TOKEN, "itl_us"),
    (telemetry.CHUNK_GAP, "gap_max_us"),
    (telemetry.GATEWAY_OVERHEAD, "overhead_us"),
)
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def worker_flushers(counts: Counter[str], closes: Closes) -> list[Callable[[], None]]:
    """What carries a proxy's counts and its closes into the worker's metrics."""
    return [
        Flusher(lambda: counts, telemetry.REQUESTS, lambda key: (str(key),) if key in _OUTCOMES else None),
        Flusher(lambda: counts, telemetry.REFUSALS, named("refused_")),
        Flusher(lambda: counts, telemetry.UNRECORDED, named("unrecorded_")),
        closes.flush,
    ]
