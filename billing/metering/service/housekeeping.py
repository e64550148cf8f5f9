"""Removing what is shipped and old from the spools of this host."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.metering.journal import Cursor
from billing.metering.retention import Segment, crowded_out, removable
from billing.metering.spool.folder import remove_folder, remove_segments, segments
from billing.settings import SpoolSettings

LIVING_INTERVAL_S = 1
"""How often shipped segments of living spools are looked at: a full one refuses requests."""
FINISHED_INTERVAL_S = 30


class Kept(msgspec.Struct, frozen=True):
    """A spool's folder, and how far it is recorded."""

    id: UUID
    folder: Path
    cursor: Cursor
    is_closed: bool


class Housekeeper:
    """Looks at the folders from time to time. What cannot be removed now is tried again; it is in nobody's way."""

    def __init__(self, settings: SpoolSettings) -> None:
        self._settings = settings
        self._living_due_us = 0
        self._finished_due_us = 0

    def keep(self, spools: Iterable[Kept], now_us: int) -> None:
        """Remove segments that are shipped and old or in the way, and the folders of finished spools without any."""
        if now_us >= self._living_due_us:
            self._living_due_us = now_us + LIVING_INTERVAL_S * MICROSECONDS_PER_SECOND
            for spool in spools:
                if not spool.is_closed:
                    self._remove_shipped(spool, now_us)
        if now_us >= self._finished_due_us:
            self._finished_due_us = now_us + FINISHED_INTERVAL_S * MICROSECONDS_PER_SECOND
            self._clear({spool: self._remove_shipped(spool, now_us) for spool in spools if spool.is_closed})

    def _remove_shipped(self, spool: Kept, now_us: int) -> Sequence[Segment]:
        """What remains of a spool's segments."""
        needed_from = min(spool.cursor.shipped_through, spool.cursor.oldest_open)
        # Another recorder may remove the same files at the same time.
        with contextlib.suppress(OSError):
            present = segments(spool.folder)
            chosen = removable(present, needed_from, self._settings, now_us, is_closed=spool.is_closed)
            remove_segments(spool.folder, chosen)
            return present[len(chosen) :]
        return ()

    def _clear(self, finished: dict[Kept, Sequence[Segment]]) -> None:
        """Remove finished spools that hold nothing more, or that all of them together have no room for."""
        crowded = crowded_out({spool.id: kept for spool, kept in finished.items()}, self._settings)
        for spool, kept in finished.items():
            if not kept or spool.id in crowded:
                with contextlib.suppress(OSError):
                    remove_segments(spool.folder, kept)
                    remove_folder(spool.folder)
