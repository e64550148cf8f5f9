from uuid import UUID

import msgspec
import pytest

from billing.metering.retention import FINISHED_SPOOLS_MAX, Segment, crowded_out, removable
from billing.settings import SpoolSettings

HOUR_US = 3_600 * 1_000_000
NOW_US = 1_000 * HOUR_US
SETTINGS = SpoolSettings(bytes_max=1_000, reserve_bytes=100, segment_bytes_max=100, retention_s=72 * 3600)
FIRST, SECOND, THIRD = (UUID(int=number) for number in (1, 2, 3))


def chain(*hours_old: int, size: int = 100) -> list[Segment]:
    """Segments of 100 bytes, written so many hours ago."""
    return [Segment(n * size, size, NOW_US - hours * HOUR_US) for n, hours in enumerate(hours_old)]


@pytest.mark.parametrize(
    ("hours_old", "shipped", "removed"),
    [
        ((100, 80, 71, 1), 400, 2),  # older than 72 h
        ((100, 80, 71, 1), 150, 1),  # the second is not wholly shipped
        ((100, 80, 71, 1), 99, 0),
        ((100, 100, 100), 300, 2),  # the last is being written
        ((1, 1, 1, 1), 400, 0),
        ((), 0, 0),
    ],
)
def test_shipped_segments_go_when_they_are_old(
    hours_old: tuple[int, ...], shipped: int, removed: int
) -> None:
    segments = chain(*hours_old)
    assert removable(segments, shipped, SETTINGS, NOW_US, is_closed=False) == segments[:removed]


def test_young_segments_give_way_before_the_writer_is_refused() -> None:
    segments = chain(*[1] * 9)
    # Nine segments of 100 are 900; what is kept for replay may fill 750 of the 1,000.
    assert removable(segments, 900, SETTINGS, NOW_US, is_closed=False) == segments[:2]
    assert removable(segments, 100, SETTINGS, NOW_US, is_closed=False) == segments[:1]
    assert removable(segments, 0, SETTINGS, NOW_US, is_closed=False) == []


def test_nothing_at_or_after_the_oldest_open_request_goes() -> None:
    segments = chain(*[100] * 9)
    assert removable(segments, 250, SETTINGS, NOW_US, is_closed=False) == segments[:2]


def test_of_a_finished_spool_the_last_segment_goes_too() -> None:
    segments = chain(100, 100)
    assert removable(segments, 200, SETTINGS, NOW_US, is_closed=True) == segments


def test_finished_spools_together_stay_within_one_spools_limit() -> None:
    finished = {
        FIRST: chain(3, 3, 3, 3),
        SECOND: chain(9, 9, 9, 9),
        THIRD: chain(1, 1, 1, 1),
    }
    assert crowded_out(finished, SETTINGS) == {SECOND}
    small = msgspec.structs.replace(SETTINGS, bytes_max=500)
    assert crowded_out(finished, small) == {SECOND, FIRST}


def test_there_is_a_limit_to_how_many_finished_spools_are_kept() -> None:
    finished = {UUID(int=n): [Segment(0, 0, n)] for n in range(FINISHED_SPOOLS_MAX + 3)}
    assert crowded_out(finished, SETTINGS) == {UUID(int=n) for n in range(3)}
    assert crowded_out({}, SETTINGS) == set()
