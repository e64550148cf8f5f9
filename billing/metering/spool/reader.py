"""The recorder's end of a spool."""

import fcntl
import os
from pathlib import Path

from billing.metering.segment import Damage, Scan, damage, scan, segment_name
from billing.metering.spool.folder import LOCK, segments

READ_BYTES = 1 << 20
"""How much is read at a time."""


class SpoolReader:
    """The recorder's end of one spool, whether its writer lives or not. Keeps the file it reads open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segment: int | None = None
        self._start = 0

    def __repr__(self) -> str:
        return (
            f"<SpoolReader {self.folder.name} segment={self._start if self._segment is not None else 'none'}>"
        )

    def is_dead(self) -> bool:
        """Whether nobody holds the lock: the writer is gone for good. A stopped process still holds it; age says nothing.

        Ask before reading to the end: what is read afterwards is all there will ever be.
        """
        lock = os.open(self.folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(lock)

    def read(self, position: int) -> Scan:
        """The next entries from a position, about a megabyte of them; none, and the same position, at the end.

        Raises ``OSError`` when the disk cannot be read.
        """
        if self._segment is None and not self._enter(position):
            return self._skip_missing(position)
        result = self._scan(position)
        if result.position != position:
            return result
        following = self._following()
        if following is None:
            return result
        # Something may have been written between the look at this segment's end and the next segment's beginning.
        result = self._scan(position)
        if result.position != position:
            return result
        rest = self._read_bytes(position, following - position)
        self._enter(following)
        return Scan([damage(rest, position)], following) if position < following else self.read(following)

    def close(self) -> None:
        """Close the file being read; a later read opens it again."""
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None

    def _scan(self, position: int) -> Scan:
        size = READ_BYTES
        while True:
            data = self._read_bytes(position, size)
            at_end = len(data) < size
            result = scan(data, position, at_end=at_end)
            if at_end or result.position != position:
                return result
            # A megabyte without one whole entry is damage; its end lies further on.
            size *= 2

    def _read_bytes(self, position: int, size: int) -> bytes:
        if self._segment is None:
            raise ValueError(f"{self!r} reads before it has entered a segment")
        return os.pread(self._segment, size, position - self._start)

    def _enter(self, position: int) -> bool:
        """Open the segment that holds a position; False when there is none."""
        self.close()
        starts = [segment.start for segment in segments(self.folder) if segment.start <= position]
        if not starts:
            return False
        self._start = starts[-1]
        self._segment = os.open(self.folder / segment_name(self._start), os.O_RDONLY | os.O_CLOEXEC)
        return True

    def _following(self) -> int | None:
        return next((s.start for s in segments(self.folder) if s.start > self._start), None)

    def _skip_missing(self, position: int) -> Scan:
        """Segments were removed that had still to be read, which only a restored database makes possible."""
        present = segments(self.folder)
        if not present:
            return Scan([], position)
        return Scan([Damage(position, present[0].start, b"")], present[0].start)
