"""What the recorder tells Prometheus: what it did with what it read, and how much this host's spools hold."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from billing.infra import telemetry
from billing.infra.telemetry import Flusher
from billing.metering.service import Recorder


def recorder_flushers(recorder: Recorder, spool_dir: Path) -> list[Callable[[], None]]:
    """What carries a recorder's counters and the size of the spools into the recorder's metrics."""

    def counted() -> Mapping[str, int]:
        return msgspec.structs.asdict(recorder.counters)

    return [
        Flusher(counted, telemetry.RECORDS, lambda name: (str(name),)),
        lambda: telemetry.spool_bytes().set(bytes_below(spool_dir)),
    ]


def bytes_below(folder: Path) -> int:
    """Bytes of the files in the folders below a folder; what is removed meanwhile counts for nothing."""
    size = 0
    for path in folder.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
