"""Which segments of a spool may be removed: shipped ones that are old, or that take room from what is not shipped.

Shipped segments are kept for a while, because a database restored from a backup catches up by reading them again.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.settings import SpoolSettings

_KEPT_NUMERATOR, _KEPT_DENOMINATOR = 3, 4
"""What is kept for replay gives way above three quarters of the size limit, before the writer has to refuse anybody."""


FINISHED_SPOOLS_MAX = 1_000
"""Most finished spools that are kept: each start of a worker makes one."""


class Segment(msgspec.Struct, frozen=True):
    """One file of a spool: where it starts, its bytes, and when it was last written (microseconds since the epoch)."""

    start: int
    size: int
    written_us: int

    @property
    def end(self) -> int:
        """The position after its last byte."""
        return self.start + self.size


def removable(
    segments: Sequence[Segment], shipped: int, settings: SpoolSettings, now_us: int, *, is_closed: bool
) -> list[Segment]:
    """The segments to remove, oldest first. ``shipped``: everything before is recorded and no longer needed to read on.

    The segment being written is never among them; of a closed spool, which nobody writes any more, any may be.
    """
    candidates = segments if is_closed else segments[:-1]
    used = sum(segment.size for segment in segments)
    kept_max = settings.bytes_max * _KEPT_NUMERATOR // _KEPT_DENOMINATOR
    horizon_us = now_us - int(settings.retention_s) * MICROSECONDS_PER_SECOND
    chosen = []
    for segment in candidates:
        if segment.end > shipped or (segment.written_us > horizon_us and used <= kept_max):
            break
        chosen.append(segment)
        used -= segment.size
    return chosen


def crowded_out(finished: Mapping[UUID, Sequence[Segment]], settings: SpoolSettings) -> set[UUID]:
    """The finished spools to remove, oldest first, so that all of them together stay within one spool's limit."""
    ages = {spool_id: max((s.written_us for s in kept), default=0) for spool_id, kept in finished.items()}
    used = sum(segment.size for kept in finished.values() for segment in kept)
    chosen: set[UUID] = set()
    for spool_id in sorted(finished, key=lambda spool_id: (ages[spool_id], spool_id)):
        if used <= settings.bytes_max and len(finished) - len(chosen) <= FINISHED_SPOOLS_MAX:
            break
        chosen.add(spool_id)
        used -= sum(segment.size for segment in finished[spool_id])
    return chosen
