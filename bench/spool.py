"""What one request costs in the spool: a plain file (ours) beside SQLite in WAL mode, and the wait for group commit.

    .venv/bin/python bench/spool.py [--requests 50000] [--rounds 5] [--folder .]

A request is one open and one close entry, each safe from the death of the process when its call returns. µs are CPU time
of this process (user and system), the median of the rounds; the folder should lie on the disk that is meant.
"""

import argparse
import asyncio
import collections
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from billing.metering.event import encode_entry
from billing.metering.spool import Spool
from billing.settings import MIB, SpoolSettings
from tests import metering_kit as kit

SETTINGS = SpoolSettings(bytes_max=4096 * MIB)
WAITERS = 32
IN_FLIGHT = 1_000
WRITERS_SYNCED = 4_000


def plain_file(root: Path, requests: int) -> float:
    new_id = kit.id_maker()
    spool = Spool.create(root, new_id(), SETTINGS)
    entries = [
        (kit.opened(usage_id), kit.closed(usage_id)) for usage_id in (new_id() for _ in range(requests))
    ]
    began = time.process_time()
    for opened, closed in entries:
        spool.open(opened)
        spool.close(closed)
    seconds = time.process_time() - began
    spool.shutdown()
    return seconds


def sqlite(root: Path, requests: int, *, update: bool) -> float:
    new_id = kit.id_maker()
    database = sqlite3.connect(root / f"{new_id()}.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE entry (position INTEGER PRIMARY KEY, payload BLOB, closed BLOB)")
    entries = [
        (kit.opened(usage_id), kit.closed(usage_id)) for usage_id in (new_id() for _ in range(requests))
    ]
    close = (
        "UPDATE entry SET closed = ? WHERE position = ?"
        if update
        else "INSERT INTO entry (payload) VALUES (?)"
    )
    rows: collections.deque[tuple[int | None, bytes]] = collections.deque()
    began = time.process_time()
    for opened, closed in entries:
        row = database.execute("INSERT INTO entry (payload) VALUES (?)", (encode_entry(opened),)).lastrowid
        rows.append((row, encode_entry(closed)))
        if len(rows) > IN_FLIGHT:
            row, payload = rows.popleft()
            database.execute(close, (payload, row) if update else (payload,))
    seconds = time.process_time() - began
    database.close()
    return seconds


async def group_commit(root: Path, count: int) -> tuple[list[float], int]:
    """Waits for the disk in ms, of so many requests at 32 at a time, and how many syncs they took."""
    new_id = kit.id_maker()
    waits: list[float] = []
    syncs: list[int] = []

    def sync(descriptor: int) -> None:
        os.fdatasync(descriptor)
        syncs.append(descriptor)

    spool = Spool.create(root, new_id(), SETTINGS, sync=sync)

    async def client() -> None:
        for _ in range(count // WAITERS):
            usage_id = new_id()
            spool.open(kit.opened(usage_id))
            position = spool.close(kit.closed(usage_id))
            began = time.perf_counter()
            await spool.synced(position)
            waits.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(client() for _ in range(WAITERS)))
    spool.shutdown()
    return waits, len(syncs)


def median(measure: Callable[[], float], rounds: int, requests: int) -> str:
    microseconds = [measure() / requests * 1e6 for _ in range(rounds)]
    return f"{statistics.median(microseconds):6.1f} µs CPU a request  (lowest {min(microseconds):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("bench/out"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        subjects: dict[str, Callable[[], float]] = {
            "plain file, append": lambda: plain_file(root, options.requests),
            "SQLite WAL, append": lambda: sqlite(root, options.requests, update=False),
            "SQLite WAL, row updated": lambda: sqlite(root, options.requests, update=True),
        }
        for name, measure in subjects.items():
            print(f"{name:24}{median(measure, options.rounds, options.requests)}")
        waits, syncs = asyncio.run(group_commit(root, WRITERS_SYNCED))
    cuts = statistics.quantiles(waits, n=100)
    print(
        f"group commit, {WAITERS} at a time: p50 {cuts[49]:.2f} ms  p99 {cuts[98]:.2f} ms, {len(waits) / syncs:.1f} requests a sync"
    )


if __name__ == "__main__":
    main()
