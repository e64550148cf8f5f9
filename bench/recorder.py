"""Rows a second of the recorder against a bare ``unnest ... ON CONFLICT DO NOTHING`` loop, in the same run.

    .venv/bin/python bench/recorder.py [--records 60000] [--spools 2] [--rounds 3]

PostgreSQL is the embedded one with its durable settings. The bare loop inserts the same columns of the same records
from arrays that stand ready in memory, over as many connections; the recorder starts from spool files.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from billing.app.recorder import GARBAGE_THRESHOLDS
from billing.infra import migrate
from billing.infra.embedded import EmbeddedPostgres
from billing.infra.postgres import Database, driver
from billing.metering.event import UsageRecord, settle
from billing.metering.rows import COLUMNS, sort_out
from billing.metering.service import Recorder
from billing.metering.spool import Spool
from billing.settings import MIB, Settings, SpoolSettings
from tests import metering_kit as kit

NAMES = ", ".join(name for name, _ in COLUMNS)
VALUES = ", ".join("tags::jsonb" if name == "tags" else name for name, _ in COLUMNS)
UNNEST = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(COLUMNS, 1))
BARE = f"""INSERT INTO usage_record ({NAMES}, recorded_at)
SELECT {VALUES}, now() FROM unnest({UNNEST}) AS incoming ({NAMES}) ON CONFLICT DO NOTHING"""  # noqa: S608 - own names


@dataclasses.dataclass
class Work:
    """What is measured: on which database, how many records, from how many spools."""

    server: EmbeddedPostgres
    records: int
    spools: int
    settings: Settings


def cpu_s(work: Work) -> float:
    """Seconds of CPU so far of this process and of the server's whole tree (proc(5): utime to cstime, and the parent)."""
    total = time.process_time()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # a process that ended in the meantime
            fields = path.read_text().rpartition(")")[2].split()
            if str(work.server.pid) in {fields[1], path.parent.name}:
                total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def write_spools(root: Path, work: Work) -> None:
    """The spools of workers that have gone, so that the recorder's work has an end."""
    for number in range(work.spools):
        new_id = kit.id_maker(time.time_ns())
        spool = Spool.create(root, new_id(), SpoolSettings(bytes_max=4096 * MIB))
        for _ in range(work.records // work.spools):
            usage_id = new_id()
            spool.open(kit.opened(usage_id, (kit.TENANT, kit.OTHER_TENANT)[number % 2]))
            spool.close(kit.closed(usage_id))
        spool.shutdown()


async def measure_recorder(work: Work) -> float:
    with tempfile.TemporaryDirectory() as root:
        write_spools(Path(root), work)
        database = Database(work.server.url, role="recorder")
        recorder = Recorder(database, Path(root), work.settings, kit.now_us, "bench")
        began, cpu = time.perf_counter(), cpu_s(work)
        while recorder.counters.recorded < work.records:
            await recorder.run_once()
        seconds = time.perf_counter() - began
        print(f"  {recorder!r}\n  {(cpu_s(work) - cpu) / work.records * 1e6:.1f} µs CPU a row, with Postgres")
        await database.close()
    return work.records / seconds


def bare_arrays(work: Work) -> list[list[tuple[object, ...]]]:
    new_id = kit.id_maker(time.time_ns())
    made: list[UsageRecord] = []
    for _ in range(work.records):
        usage_id = new_id()
        made.append(settle(kit.opened(usage_id), kit.closed(usage_id)))
    rows = sort_out(made, {kit.TENANT: 1}, [(0, 1 << 62)]).rows
    size = work.settings.recorder.batch_records_max
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    return [list(zip(*(row.values[: len(COLUMNS)] for row in part), strict=True)) for part in parts]


async def measure_bare(work: Work) -> float:
    batches = bare_arrays(work)
    database = Database(work.server.url)

    async def insert() -> None:
        while batches:
            batch = batches.pop()
            async with database.transaction() as connection:
                await (await driver(connection)).execute(BARE, *batch)

    began, cpu = time.perf_counter(), cpu_s(work)
    await asyncio.gather(*(insert() for _ in range(work.spools)))
    seconds = time.perf_counter() - began
    print(f"  {(cpu_s(work) - cpu) / work.records * 1e6:.1f} µs CPU a row, with Postgres")
    await database.close()
    return work.records / seconds


async def measure(work: Work, rounds: int) -> None:
    await kit.add_tenants(work.server.url, kit.TENANT, kit.OTHER_TENANT)
    ratios = []
    for _ in range(rounds):
        bare = await measure_bare(work)
        recorder = await measure_recorder(work)
        ratios.append(recorder / bare)
        print(f"bare {bare:,.0f} rows/s   recorder {recorder:,.0f} rows/s   ratio {ratios[-1]:.2f}")
    print(f"median ratio of {rounds} rounds: {statistics.median(ratios):.2f} (asked for: 0.5 or more)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--spools", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as server:
        migrate.upgrade(server.url)
        work = Work(server, options.records, options.spools, Settings())
        asyncio.run(measure(work, options.rounds))


if __name__ == "__main__":
    main()
