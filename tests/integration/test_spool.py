"""The spool on a real disk; disks that are full or fail are handed over."""

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput, SpoolFull, Unavailable
from billing.metering.event import Closed, Entry, Opened, decode_entry
from billing.metering.segment import Damage, Framed
from billing.metering.spool import Spool, SpoolReader
from billing.metering.spool.folder import remove_segments, segments, spool_folders
from billing.metering.spool.writer import CLOSE_BYTES
from billing.settings import MIB, SpoolSettings
from tests import metering_kit as kit

SMALL = SpoolSettings(bytes_max=110_000, reserve_bytes=80_000, segment_bytes_max=4_000)
LARGE = SpoolSettings(bytes_max=4 * MIB, reserve_bytes=MIB, segment_bytes_max=4_000)


class Time:
    """A clock in seconds that stands still."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FullDisk:
    """A disk with so many bytes left: writes what fits and refuses the rest."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.fault = OSError(errno.ENOSPC, "No space left on device")

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        fits = min(len(data), self.left)
        if not fits:
            raise self.fault
        self.left -= fits
        return os.pwrite(descriptor, data[:fits], offset)


Make = Callable[..., Spool]
new_id = kit.id_maker(seed=4)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Spool] = []

    def create(settings: SpoolSettings = SMALL, **collaborators: object) -> Spool:
        made.append(Spool.create(tmp_path, new_id(), settings, **collaborators))
        return made[-1]

    yield create
    for spool in made:
        spool.shutdown()


def folder_of(root: Path) -> Path:
    [folder] = spool_folders(root).values()
    return folder


def read_all(folder: Path, position: int = 0) -> list[Framed | Damage]:
    reader = SpoolReader(folder)
    found: list[Framed | Damage] = []
    while more := reader.read(found[-1].end if found else position).found:
        found += more
    reader.close()
    return found


def entries(folder: Path) -> list[Entry]:
    found = read_all(folder)
    assert not [item for item in found if isinstance(item, Damage)]
    return [decode_entry(item.payload) for item in found]


def fill(spool: Spool) -> list[UUID]:
    """Open requests until the spool refuses one."""
    opened: list[UUID] = []
    for usage_id in (new_id() for _ in range(10_000)):
        try:
            spool.open(kit.opened(usage_id))
        except SpoolFull:
            return opened
        opened.append(usage_id)
    raise AssertionError("the spool never became full")


def test_what_was_written_is_read_back_in_order(tmp_path: Path, make: Make) -> None:
    spool, usage_id = make(), new_id()
    written = [kit.opened(usage_id), kit.progress(usage_id, 5), kit.closed(usage_id)]
    spool.open(written[0])
    spool.progress(written[1])
    position = spool.close(written[2])
    assert entries(folder_of(tmp_path)) == written
    assert read_all(folder_of(tmp_path))[-1].end == position
    assert f"ok position={position} used={position}/110000 in_flight=0 progress_dropped=0" in repr(spool)


def test_a_spool_is_locked_before_anybody_can_see_it_and_free_when_it_ended(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, new_id(), SMALL)
    reader = SpoolReader(folder_of(tmp_path))
    assert not reader.is_dead()
    spool.shutdown()
    assert reader.is_dead()


def test_a_spool_that_is_still_being_made_or_is_no_spool_is_not_read(tmp_path: Path) -> None:
    for name in (f"{new_id()}.tmp", "copy of something.spool", "other"):
        (tmp_path / name).mkdir()
    assert spool_folders(tmp_path) == {}
    assert spool_folders(tmp_path / "not there") == {}


def test_entries_run_over_many_segments_without_a_gap(tmp_path: Path, make: Make) -> None:
    spool = make(LARGE)
    written = []
    for number in range(200):
        usage_id = new_id()
        written += [kit.opened(usage_id), kit.closed(usage_id, kit.usage(output_tokens=number))]
        spool.open(written[-2])
        spool.close(written[-1])
    chain = segments(folder_of(tmp_path))
    assert len(chain) > 10
    assert all(before.end == after.start for before, after in itertools.pairwise(chain))
    assert entries(folder_of(tmp_path)) == written


def test_a_reader_that_follows_the_writer_misses_nothing(tmp_path: Path, make: Make) -> None:
    spool, reader = make(LARGE), SpoolReader(folder_of(tmp_path))
    position, seen, written = 0, [], []
    for number in range(300):
        written.append(kit.opened(new_id()))
        spool.open(written[-1])
        if number % 3 == 0:
            result = reader.read(position)
            seen += [decode_entry(item.payload) for item in result.found]
            position = result.position
    while more := reader.read(position).found:
        seen += [decode_entry(item.payload) for item in more]
        position = more[-1].end
    reader.close()
    # Requests that stay open for long are written again, so that they pin no old segment.
    assert {entry.id for entry in seen} == {entry.id for entry in written}
    assert list(dict.fromkeys(entry.id for entry in seen)) == [entry.id for entry in written]


def test_what_is_written_just_before_a_new_segment_is_not_passed_over(tmp_path: Path, make: Make) -> None:
    """Between the reader's look at a segment's end and its look for the next one, a worker writes and rotates."""
    spool = make(LARGE)

    class Late(SpoolReader):
        def _following(self) -> int | None:
            for _ in range(30):
                spool.open(kit.opened(new_id()))
            return super()._following()

    reader = Late(folder_of(tmp_path))
    found = reader.read(0).found
    reader.close()
    assert found == read_all(folder_of(tmp_path))[: len(found)]
    assert len(found) > 10


def test_a_long_request_does_not_pin_old_segments(tmp_path: Path, make: Make) -> None:
    spool, long_id = make(LARGE), new_id()
    spool.open(kit.opened(long_id))
    spool.progress(kit.progress(long_id, 42))
    for _ in range(200):
        usage_id = new_id()
        spool.open(kit.opened(usage_id))
        spool.close(kit.closed(usage_id))
    found = [(item.start, decode_entry(item.payload)) for item in read_all(folder_of(tmp_path))]
    last_open = max(start for start, entry in found if isinstance(entry, Opened) and entry.id == long_id)
    carried = [entry for start, entry in found if start > last_open and entry.id == long_id]
    assert last_open > found[-1][0] - 3 * 4_000
    assert carried == [kit.progress(long_id, 42)]


def test_a_tail_torn_at_any_byte_is_waited_for_and_then_the_end(tmp_path: Path, make: Make) -> None:
    spool, usage_id = make(), new_id()
    spool.open(kit.opened(usage_id))
    spool.progress(kit.progress(usage_id, 5))
    spool.close(kit.closed(usage_id))
    folder = folder_of(tmp_path)
    *whole, last = read_all(folder)
    [segment] = folder.glob("*.segment")
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("reserve"))
    data = segment.read_bytes()
    for cut in range(last.start, last.end):
        (copy / segment.name).write_bytes(data[:cut])
        assert read_all(copy) == whole
        reader = SpoolReader(copy)
        assert reader.read(last.start).position == last.start
        (copy / segment.name).write_bytes(data)
        assert reader.read(last.start).found == [last]
        reader.close()


def test_damage_inside_a_segment_and_at_its_end_is_reported_and_passed(tmp_path: Path, make: Make) -> None:
    spool = make(LARGE)
    for _ in range(60):
        spool.open(kit.opened(new_id()))
    folder = folder_of(tmp_path)
    found = read_all(folder)
    first, second = segments(folder)[:2]
    at_end = next(item for item in found if item.end == first.end)
    inside = [item for item in found if item.start >= second.start][2]
    for segment, broken in ((first, at_end), (second, inside)):
        with (folder / f"{segment.start:020d}.segment").open("r+b") as file:
            file.seek(broken.start - segment.start + 20)
            file.write(b"\xff\xff\xff")
    after = read_all(folder)
    assert [(d.start, d.end) for d in after if isinstance(d, Damage)] == [
        (at_end.start, at_end.end),
        (inside.start, inside.end),
    ]
    assert [item for item in after if isinstance(item, Framed)] == [
        item for item in found if item not in (at_end, inside)
    ]


def test_a_segment_that_is_gone_is_reported_as_one_gap(tmp_path: Path, make: Make) -> None:
    spool = make(LARGE)
    for _ in range(60):
        spool.open(kit.opened(new_id()))
    folder = folder_of(tmp_path)
    remove_segments(folder, segments(folder)[:2])
    rest = segments(folder)[0].start
    assert read_all(folder, position=100)[0] == Damage(100, rest, b"")


def test_a_full_spool_refuses_requests_and_still_takes_how_they_end(tmp_path: Path, make: Make) -> None:
    time = Time()
    spool = make(monotonic=time)
    opened = fill(spool)
    used = sum(segment.size for segment in segments(folder_of(tmp_path)))
    assert SMALL.bytes_max - SMALL.reserve_bytes - 300 < used <= SMALL.bytes_max - SMALL.reserve_bytes
    for tokens in range(3):
        spool.progress(kit.progress(opened[-1], tokens))
    assert "progress_dropped=0" not in repr(spool)
    for usage_id in opened:
        spool.close(kit.closed(usage_id))
    with pytest.raises(SpoolFull):
        spool.open(kit.opened(new_id()))


@pytest.mark.parametrize("segment_bytes_max", range(2_000, 4_000, 250))
def test_copies_of_long_requests_never_use_the_reserve(
    tmp_path: Path, make: Make, segment_bytes_max: int
) -> None:
    fill(make(msgspec.structs.replace(SMALL, segment_bytes_max=segment_bytes_max)))
    used = sum(segment.size for segment in segments(folder_of(tmp_path)))
    assert used <= SMALL.bytes_max - SMALL.reserve_bytes


def test_no_more_requests_are_open_than_the_reserve_can_end(make: Make) -> None:
    spool = make(msgspec.structs.replace(LARGE, reserve_bytes=50 * CLOSE_BYTES))
    opened = fill(spool)
    assert len(opened) == 50
    spool.close(kit.closed(opened[0]))
    spool.open(kit.opened(new_id()))


def test_room_that_the_recorder_made_is_seen_within_a_second(tmp_path: Path, make: Make) -> None:
    time = Time()
    spool = make(monotonic=time)
    fill(spool)
    remove_segments(folder_of(tmp_path), segments(folder_of(tmp_path))[:3])
    with pytest.raises(SpoolFull):
        spool.open(kit.opened(new_id()))
    time.now_s = 1.0
    spool.open(kit.opened(new_id()))


def test_a_full_disk_gives_the_reserve_back_for_the_closes(tmp_path: Path, make: Make) -> None:
    disk, time = FullDisk(left=1_000), Time()
    spool = make(write=disk.write, monotonic=time)
    opened = fill(spool)
    reserve = folder_of(tmp_path) / "reserve"
    assert reserve.stat().st_blocks * 512 >= SMALL.reserve_bytes
    with pytest.raises(SpoolFull):
        spool.close(kit.closed(opened[0]))
    assert reserve.stat().st_size == 0
    disk.left = 10_000
    for usage_id in opened:
        spool.close(kit.closed(usage_id))
    assert "disk full" in repr(spool)
    time.now_s = 5.0
    spool.open(kit.opened(new_id()))
    assert reserve.stat().st_size == SMALL.reserve_bytes
    assert [type(entry) for entry in entries(folder_of(tmp_path))] == [Opened] * len(opened) + [Closed] * len(
        opened
    ) + [Opened]


@pytest.mark.parametrize("left", range(0, 250, 7))
def test_an_entry_that_did_not_fit_whole_leaves_no_trace(tmp_path: Path, make: Make, left: int) -> None:
    disk = FullDisk(left=10_000)
    spool, kept = make(write=disk.write), new_id()
    spool.open(kit.opened(kept))
    disk.left = left
    if left < 219:
        with pytest.raises(SpoolFull):
            spool.open(kit.opened(new_id()))
    disk.left = 10_000
    spool.close(kit.closed(kept))
    assert [entry.id for entry in entries(folder_of(tmp_path)) if isinstance(entry, Closed)] == [kept]


def test_a_disk_that_fails_refuses_requests(make: Make) -> None:
    disk = FullDisk(left=0)
    disk.fault = OSError(errno.EIO, "Input/output error")
    spool = make(write=disk.write)
    with pytest.raises(Unavailable, match="has failed"):
        spool.open(kit.opened(new_id()))


async def test_after_a_failed_sync_nothing_is_served_any_more(make: Make) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    spool, usage_id = make(sync=fail), new_id()
    spool.open(kit.opened(usage_id))
    position = spool.close(kit.closed(usage_id))
    with pytest.raises(Unavailable, match="cannot make records durable"):
        await spool.synced(position)
    with pytest.raises(Unavailable, match="has failed"):
        spool.open(kit.opened(new_id()))
    assert "failed" in repr(spool)


async def test_a_position_is_synced_with_all_segments_before_it(make: Make) -> None:
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        os.fdatasync(descriptor)

    spool = make(LARGE, sync=sync)
    position = 0
    for _ in range(60):
        usage_id = new_id()
        spool.open(kit.opened(usage_id))
        position = spool.close(kit.closed(usage_id))
    await spool.synced(position)
    chain = sorted(Path(repr(spool).split()[1]).glob("*.segment"))
    assert len(chain) > 4
    assert synced == [path.stat().st_ino for path in chain]


def test_a_request_closes_once(make: Make) -> None:
    spool, usage_id = make(), new_id()
    spool.open(kit.opened(usage_id))
    spool.close(kit.closed(usage_id))
    with pytest.raises(ValueError, match="is not open in this spool"):
        spool.close(kit.closed(usage_id))


def test_progress_of_a_request_that_is_not_open_is_dropped(tmp_path: Path, make: Make) -> None:
    make().progress(kit.progress(new_id(), 3))
    assert entries(folder_of(tmp_path)) == []


def test_labels_that_are_too_long_are_refused_at_the_start_and_dropped_at_the_end(
    tmp_path: Path, make: Make
) -> None:
    spool, usage_id = make(SpoolSettings(reserve_bytes=MIB)), new_id()
    with pytest.raises(InvalidInput, match="too long to record"):
        spool.open(kit.opened(new_id(), end_user="u" * 70_000))
    spool.open(kit.opened(usage_id))
    spool.close(msgspec.structs.replace(kit.closed(usage_id), response_id="r" * 70_000))
    assert entries(folder_of(tmp_path))[-1] == msgspec.structs.replace(
        kit.closed(usage_id), response_id=None, response_model=None
    )
