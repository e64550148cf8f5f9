"""Prometheus metrics of every process of a machine, counted where things happen and answered by any one of them.

A parent's children keep their numbers in files of one folder (prometheus_client's multiprocess mode, which it chooses
by an environment variable before it is imported), so whoever answers ``/metrics`` answers for all (traps.md 7). A run
holds the lock of its folder for as long as it lives: what an earlier run left is neither shown nor kept, while files of
a child that died within the run stay, so that no counter ever falls.

No label names a tenant or a key, which would show who buys what, nor anything that a caller could make up, which would
grow without end. Models and backends are an operator's own names, and only so many of them have labels.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from billing.errors import Misconfigured
from billing.infra.engine_folders import FolderLock

_log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that a child must be started with, its value the run's folder."""
FLUSH_INTERVAL_S = 0.5
LOCK = "lock"
_SUFFIX = ".run"
_UNFINISHED = "making-"

SECONDS_TO_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0)
SECONDS_A_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5, 1.0, 2.5)
SECONDS_OF_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.05, 0.2, 1.0)
SECONDS_OF_A_REQUEST = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class BatchHistogram(Histogram):
    """A histogram that takes many observations at once: 0.2 µs each, where one by one they cost 2 µs."""

    def observe_all(self, amounts: Iterable[float]) -> None:
        """Add observations."""
        counts: dict[int, int] = {}
        total = 0.0
        bounds = self._upper_bounds
        for amount in amounts:
            index = bisect_left(bounds, amount)
            counts[index] = counts.get(index, 0) + 1
            total += amount
        for index, count in counts.items():
            self._buckets[index].inc(count)
        if counts:
            self._sum.inc(total)


_SERVED_BY = ("model", "backend")

# None of them is registered: each process writes to its files, and the registry of an answer reads those.
REQUESTS = Counter(
    "billing_requests_total", "Admitted requests by how they ended.", ["outcome"], registry=None
)
REFUSALS = Counter(
    "billing_refusals_total", "Requests answered with an error, by its kind.", ["kind"], registry=None
)
UNRECORDED = Counter(
    "billing_unrecorded_total",
    "Close entries that could not be written; the recorder still makes a record of the request.",
    ["kind"],
    registry=None,
)
LIMIT_DECISIONS_NAME, LIMIT_DECISIONS_LABELS = "billing_limit_decisions_total", ("decision", "scope", "meter")
LIMIT_DECISIONS = Counter(
    LIMIT_DECISIONS_NAME,
    "What limits decided, by the scope and the meter that decided.",
    LIMIT_DECISIONS_LABELS,
    registry=None,
)
TOKENS = Counter(
    "billing_tokens_total", "Tokens of ended requests by priced component.", ["component"], registry=None
)
UNITS = Counter(
    "billing_units_total",
    "Images, seconds, characters and searches of ended requests.",
    ["unit"],
    registry=None,
)
TIME_TO_FIRST_TOKEN = BatchHistogram(
    "billing_time_to_first_token_seconds",
    "From a request's arrival to the first generated token, of streams.",
    _SERVED_BY,
    buckets=SECONDS_TO_FIRST_TOKEN,
    registry=None,
)
TIME_TO_FIRST_ANSWER_TOKEN = BatchHistogram(
    "billing_time_to_first_answer_token_seconds",
    "From a request's arrival to the first token after any reasoning, of streams.",
    _SERVED_BY,
    buckets=SECONDS_TO_FIRST_TOKEN,
    registry=None,
)
TIME_PER_OUTPUT_TOKEN = BatchHistogram(
    "billing_time_per_output_token_seconds",
    "(last token - first token) / (tokens - 1) of a stream.",
    _SERVED_BY,
    buckets=SECONDS_A_TOKEN,
    registry=None,
)
CHUNK_GAP = BatchHistogram(
    "billing_chunk_gap_max_seconds",
    "The longest time between two chunks of a stream; a chunk may hold several tokens.",
    _SERVED_BY,
    buckets=SECONDS_TO_FIRST_TOKEN,
    registry=None,
)
GATEWAY_OVERHEAD = BatchHistogram(
    "billing_gateway_overhead_seconds",
    "From a request's arrival to its leaving for the engine: parsing, limits, the open entry.",
    _SERVED_BY,
    buckets=SECONDS_OF_OVERHEAD,
    registry=None,
)
REQUEST_DURATION = BatchHistogram(
    "billing_request_duration_seconds",
    "From a request's arrival to its end.",
    buckets=SECONDS_OF_A_REQUEST,
    registry=None,
)
RECORDS = Counter(
    "billing_records_total", "What the recorder did with what it read.", ["result"], registry=None
)
UP = Gauge(
    "billing_up",
    "Processes that run, by what they do.",
    ["process"],
    multiprocess_mode="livesum",
    registry=None,
)


@cache
def spool_bytes() -> Gauge:
    """What the spools of this host hold. Made by the process that knows it: a gauge that nobody sets would say 0."""
    return Gauge(
        "billing_spool_bytes", "Bytes in the spools of this host.", multiprocess_mode="livemax", registry=None
    )


@cache
def directory_age_seconds() -> Gauge:
    """How long ago the directory was last known to be current; made by the workers, as above."""
    return Gauge(
        "billing_directory_age_seconds",
        "Seconds since Postgres last confirmed the directory, of the worker furthest behind.",
        multiprocess_mode="livemax",
        registry=None,
    )


class Flusher:
    """Carries what a plain mapping counts into a Prometheus counter: the differences since the last time.

    ``labels_of`` gives a key's label values, or None for a key that is not shown. A hot path adds to a plain
    ``collections.Counter`` (30 ns) and pays nothing for Prometheus.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[Any, int]],
        counter: Counter,
        labels_of: Callable[[Any], Sequence[str] | None],
    ) -> None:
        self._read = read
        self._counter = counter
        self._labels_of = labels_of
        self._carried: dict[Hashable, int] = {}
        self._children: dict[Hashable, Counter | None] = {}

    def __repr__(self) -> str:
        return f"<Flusher {sum(self._carried.values())} carried>"

    def __call__(self) -> None:
        """Carry what was added since the last call."""
        for key, count in tuple(self._read().items()):
            added = count - self._carried.get(key, 0)
            if added > 0:
                child = self._child(key)
                if child is not None:
                    child.inc(added)
                self._carried[key] = count

    def _child(self, key: Hashable) -> Counter | None:
        if key not in self._children:
            labels = self._labels_of(key)
            self._children[key] = None if labels is None else self._counter.labels(*labels)
        return self._children[key]


def named(prefix: str) -> Callable[[str], Sequence[str] | None]:
    """One label: what follows a prefix in a key; keys without it are not shown."""
    return lambda key: (key.removeprefix(prefix),) if key.startswith(prefix) else None


async def keep_flushing(acts: Iterable[Callable[[], None]], interval_s: float = FLUSH_INTERVAL_S) -> None:
    """Call every act each ``interval_s`` seconds, and once more when cancelled, so that a stop loses nothing.

    A disk that takes no metrics is logged and does not end the counting: the next call carries what this one could not.
    """
    acts = tuple(acts)
    try:
        while True:
            _act(acts)
            await asyncio.sleep(interval_s)
    finally:
        _act(acts)


def _act(acts: Iterable[Callable[[], None]]) -> None:
    for act in acts:
        try:
            act()
        except OSError as fault:
            _log.warning("metrics cannot be written: %s", fault)


class Run:
    """The folder of one parent's run. Made by :meth:`begin`; its lock says that the run lives."""

    def __init__(self, folder: Path, lock: FolderLock) -> None:
        self.folder = folder
        self._lock = lock

    def __repr__(self) -> str:
        return f"<Run {self.folder.name}>"

    @classmethod
    def begin(cls, root: Path) -> "Run":
        """A new folder below ``root``, after what ended runs have left there is removed.

        Raises ``Misconfigured`` when the folder cannot be made.
        """
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for ended in _folders(root):
                _remove_if_ended(ended)
            made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root)).resolve()
            lock = FolderLock(made / LOCK)
            lock.acquire()
            # Under its final name only once its lock is held: another parent never takes it for an ended one.
            folder = made.rename(made.with_name(f"{made.name.removeprefix(_UNFINISHED)}{_SUFFIX}"))
        except OSError as fault:
            raise Misconfigured(f"metrics cannot be kept in {root}: {fault.strerror}") from fault
        return cls(folder, lock)

    @property
    def variables(self) -> dict[str, str]:
        """What a child's environment must hold before its Python starts."""
        return {VARIABLE: str(self.folder)}

    def forget(self, pid: int) -> None:
        """A child has ended: its gauges are no longer true. Its counters stay."""
        mark_process_dead(pid, str(self.folder))  # type: ignore[no-untyped-call]  # prometheus_client's own

    def end(self) -> None:
        """Remove the folder. May be called again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def exposition(root: Path) -> bytes:
    """The metrics of every run that lives below ``root``, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_files(root))
    return generate_latest(registry)


def sums(root: Path, counter: str, labels: Sequence[str]) -> dict[tuple[str, ...], int]:
    """What every run below ``root`` has counted under a counter's name, by its labels in this order. Reads files."""
    found: dict[tuple[str, ...], int] = {}
    for metric in _files(root).collect():
        for sample in metric.samples:
            if sample.name == counter:
                key = tuple(sample.labels[name] for name in labels)
                found[key] = found.get(key, 0) + int(sample.value)
    return found


def _files(root: Path) -> "_Files":
    return _Files([str(path) for folder in _folders(root) if _lives(folder) for path in folder.glob("*.db")])


class _Files:
    """A collector of given files."""

    def __init__(self, files: list[str]) -> None:
        self._files = files

    def describe(self) -> list[Metric]:
        """Nothing: there is no other collector to collide with."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The metrics, added up over the files."""
        merged: Iterable[Metric] = MultiProcessCollector.merge(self._files)  # type: ignore[no-untyped-call]  # prometheus_client's own
        return merged


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob(f"*{_SUFFIX}"))


def _lives(folder: Path) -> bool:
    """Whether a run still holds the lock of its folder."""
    with contextlib.suppress(FileNotFoundError):
        lock = FolderLock(folder / LOCK)
        if not lock.acquire():
            return True
        lock.release()
    return False


def _remove_if_ended(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        lock = FolderLock(folder / LOCK)
        if lock.acquire():
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
