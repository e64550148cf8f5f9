"""The files of a spool's folder: what they are called, which are there, and their removal."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from billing.metering.retention import Segment
from billing.metering.segment import segment_name, segment_start

SUFFIX = ".spool"
LOCK = "lock"
RESERVE = "reserve"


def spool_folders(root: Path) -> dict[UUID, Path]:
    """Every complete spool below a folder; one still being made is not among them."""
    if not root.is_dir():
        return {}
    found = {}
    for path in sorted(root.glob(f"*{SUFFIX}")):
        # A folder that somebody copied there under another name is not a worker's spool.
        with contextlib.suppress(ValueError):
            found[UUID(path.name.removesuffix(SUFFIX))] = path
    return found


def segments(folder: Path) -> list[Segment]:
    """The segments of a spool, in order; one that is removed in the meantime is left out."""
    found = []
    for path in sorted(folder.iterdir()):
        start = segment_start(path.name)
        if start is not None:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append(Segment(start, status.st_size, status.st_mtime_ns // 1000))
    return found


def remove_segments(folder: Path, chosen: Sequence[Segment]) -> None:
    """Remove segments, oldest first, so that what remains is always one stretch."""
    for segment in chosen:
        (folder / segment_name(segment.start)).unlink(missing_ok=True)


def remove_reserve(folder: Path) -> None:
    """Give the reserve of a dead spool back to the disk."""
    (folder / RESERVE).unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a spool that holds no segment any more."""
    remove_reserve(folder)
    (folder / LOCK).unlink(missing_ok=True)
    folder.rmdir()


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
