import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.errors import Unavailable
from billing.infra.group_commit import GroupCommit


class Disk:
    """A file that is appended to, and a sync that can be held, counted and made to fail."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.position = 0
        self.synced: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.fault: OSError | None = None

    def written(self) -> tuple[int, int]:
        return self.descriptor, self.position

    def sync(self, descriptor: int) -> None:
        assert self.may_go.wait(10)
        self.synced.append(descriptor)
        if self.fault:
            raise self.fault
        os.fdatasync(descriptor)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "file")
    yield disk
    disk.may_go.set()
    os.close(disk.descriptor)


async def test_all_who_wait_for_one_sync_are_answered_by_it(disk: Disk) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync)
    disk.may_go.clear()
    disk.position = 1
    first = asyncio.create_task(commit.reached(1))
    await asyncio.sleep(0.01)
    disk.position = 100
    others = [asyncio.create_task(commit.reached(position)) for position in range(2, 101)]
    await asyncio.sleep(0.01)
    assert repr(commit) == "<GroupCommit syncing durable=0 waiters=100>"
    assert not first.done()
    disk.may_go.set()
    await asyncio.gather(first, *others)
    assert len(disk.synced) == 2
    assert repr(commit) == "<GroupCommit idle durable=100 waiters=0>"
    commit.stop()


async def test_what_is_durable_already_needs_no_sync(disk: Disk) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync)
    disk.position = 50
    await commit.reached(50)
    await commit.reached(10)
    assert len(disk.synced) == 1
    commit.stop()


async def test_a_failed_sync_is_told_to_all_and_never_tried_again(disk: Disk) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync)
    disk.fault = OSError(5, "Input/output error")
    disk.position = 9
    results = await asyncio.gather(*(commit.reached(n) for n in (3, 9)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    disk.fault = None
    with pytest.raises(Unavailable, match="Input/output error"):
        await commit.reached(9)
    assert commit.failure is not None
    commit.stop()
    assert len(disk.synced) == 1


async def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(disk: Disk) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync, wait_s=0.05)
    disk.may_go.clear()
    disk.position = 1
    with pytest.raises(Unavailable, match="no answer"):
        await commit.reached(1)
    disk.may_go.set()
    await commit.reached(1)
    assert commit.failure is None
    commit.stop()


async def test_somebody_who_gives_up_waiting_does_not_disturb_the_others(disk: Disk) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync)
    disk.may_go.clear()
    disk.position = 2
    gone, stays = (asyncio.create_task(commit.reached(position)) for position in (1, 2))
    await asyncio.sleep(0.01)
    gone.cancel()
    disk.may_go.set()
    await stays
    assert gone.cancelled()
    commit.stop()


def test_a_complete_file_is_synced_before_it_is_closed(disk: Disk, tmp_path: Path) -> None:
    commit = GroupCommit(disk.written, sync=disk.sync)
    folder = os.open(tmp_path, os.O_RDONLY)
    complete = os.open(tmp_path / "complete", os.O_WRONLY | os.O_CREAT)
    commit.retire(complete, folder)
    commit.stop()
    os.close(folder)
    assert disk.synced == [complete, disk.descriptor]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(complete)
