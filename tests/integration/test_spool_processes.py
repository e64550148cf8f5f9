"""Spools of processes that are stopped and killed."""

import signal
from pathlib import Path

from billing.metering.event import Closed, Opened, Progress, decode_entry
from billing.metering.spool import SpoolReader
from billing.metering.spool.folder import spool_folders
from tests.integration import recorder_kit


def reader_of(root: Path) -> SpoolReader:
    [folder] = spool_folders(root).values()
    return SpoolReader(folder)


def test_everything_written_survives_the_death_of_the_process(tmp_path: Path) -> None:
    with recorder_kit.writer(tmp_path, 50, opened=3, progress=2) as writer:
        _, *opened = writer.line()
        reader = reader_of(tmp_path)
        assert not reader.is_dead()
        writer.kill()
    assert reader.is_dead()
    entries = [decode_entry(found.payload) for found in reader.read(0).found]
    reader.close()
    assert [str(entry.id) for entry in entries if isinstance(entry, Opened)][-3:] == opened
    assert [e.usage.output.value for e in entries if isinstance(e, Progress)] == [10, 11, 10, 12]
    assert sum(isinstance(entry, Closed) for entry in entries) == 50


def test_a_stopped_process_is_not_dead(tmp_path: Path) -> None:
    with recorder_kit.writer(tmp_path, 0, opened=1) as writer:
        reader = reader_of(tmp_path)
        writer.process.send_signal(signal.SIGSTOP)
        assert not reader.is_dead()
        writer.process.send_signal(signal.SIGCONT)
        assert not reader.is_dead()
        writer.kill()
        assert reader.is_dead()
