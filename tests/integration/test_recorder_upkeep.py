"""The recorder against a real Postgres: what is removed, what is waited for, and who goes first."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from billing.app.recorder import ship_until
from billing.clock import MICROSECONDS_PER_SECOND, from_datetime
from billing.errors import Unavailable
from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.collection import lock_key
from billing.metering.service import UsageService
from billing.metering.spool import Spool
from billing.metering.spool.folder import segments, spool_folders
from billing.settings import SpoolSettings
from tests import metering_kit as kit
from tests.integration.recorder_kit import RECORDER_SETTINGS, MakeRecorder, pair, sums, write

HOUR_US = 3_600 * MICROSECONDS_PER_SECOND
new_id = kit.id_maker(seed=8)


async def test_a_running_recorder_sees_that_the_database_was_restored(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    clock_us = kit.now_us()
    recorder = make_recorder(clock=lambda: clock_us)
    write(spool, *(pair(new_id()) for _ in range(20)))
    spool.shutdown()
    assert await recorder.run_once() == 20
    await kit.ask(tenants_url, "TRUNCATE spool, usage_record, usage_rollup")
    assert await recorder.run_once() == 0
    clock_us += 31 * MICROSECONDS_PER_SECOND
    assert await recorder.run_once() == 20
    assert await sums(tenants_url) == (20, 20, 0)


async def test_the_reserve_of_a_finished_spool_is_given_back(
    make_recorder: MakeRecorder, spool: Spool, tmp_path: Path
) -> None:
    write(spool, pair(new_id()))
    spool.shutdown()
    [folder] = spool_folders(tmp_path).values()
    (folder / "reserve").touch()
    await make_recorder().run_once()
    assert not (folder / "reserve").exists()
    assert segments(folder)


async def test_shipped_segments_are_kept_for_replay_and_then_removed(
    make_recorder: MakeRecorder, spool: Spool, tmp_path: Path
) -> None:
    clock_us = kit.now_us()
    recorder = make_recorder(clock=lambda: clock_us)
    write(spool, *(pair(new_id()) for _ in range(100)))
    [folder] = spool_folders(tmp_path).values()
    before = segments(folder)
    await recorder.run_once()
    assert segments(folder) == before
    clock_us += 73 * HOUR_US
    await recorder.run_once()
    assert segments(folder) == before[-1:]
    spool.shutdown()
    await recorder.run_once()
    clock_us += 31 * MICROSECONDS_PER_SECOND
    await recorder.run_once()
    assert not folder.exists()
    await recorder.run_once()
    assert "spools=0/0" in repr(recorder)


async def test_what_is_not_shipped_is_never_removed(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, tmp_path: Path
) -> None:
    clock_us = kit.now_us()
    tiny = msgspec.structs.replace(
        RECORDER_SETTINGS, spool=SpoolSettings(bytes_max=10_000, reserve_bytes=1_000)
    )
    recorder = make_recorder(tiny, lambda: clock_us)
    write(spool, *(pair(new_id()) for _ in range(300)))
    [folder] = spool_folders(tmp_path).values()
    before = segments(folder)
    await kit.ask(tenants_url, "ALTER TABLE usage_record RENAME TO usage_record_away")
    for _ in range(3):
        clock_us += 73 * HOUR_US
        with pytest.raises(Unavailable):
            await recorder.run_once()
    assert segments(folder) == before
    await kit.ask(tenants_url, "ALTER TABLE usage_record_away RENAME TO usage_record")
    assert await recorder.run_once() == 300
    clock_us += 2 * MICROSECONDS_PER_SECOND
    await recorder.run_once()
    assert sum(segment.size for segment in segments(folder)) < 7_500
    spool.shutdown()


async def test_while_postgres_is_away_the_recorder_waits_and_counts(
    tenants_url: str,
    make_recorder: MakeRecorder,
    spool: Spool,
    recorder_database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    recorder, stop = make_recorder(), asyncio.Event()
    shipping = asyncio.create_task(ship_until(stop, recorder, RECORDER_SETTINGS))
    name = tenants_url.partition("@/")[2].partition("?")[0]
    admin = tenants_url.replace(f"@/{name}?", "@/postgres?")
    await kit.ask(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    for _ in range(5):
        write(spool, *(pair(new_id()) for _ in range(50)))
        await kit.ask(
            admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        await asyncio.sleep(0.1)
    assert 3 < recorder.counters.retries < 60
    assert caplog.text.count("nothing can be recorded for now") == 1
    await kit.ask(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    async with asyncio.timeout(10):
        while recorder.counters.recorded < 250:  # noqa: ASYNC110 - the counter is no event
            await asyncio.sleep(0.02)
    stop.set()
    await shipping
    assert caplog.text.count("recording again") == 1
    assert await sums(tenants_url) == (250, 250, 0)
    spool.shutdown()


async def test_a_batch_that_another_recorder_was_faster_with_is_given_up(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    first, second = make_recorder(), make_recorder()
    write(spool, *(pair(new_id()) for _ in range(10)))
    assert await first.run_once() == 10
    await second.run_once()
    write(spool, *(pair(new_id()) for _ in range(10)))
    assert await first.run_once() == 10
    assert await second.run_once() == 0
    assert second.counters.overtaken == 1
    write(spool, *(pair(new_id()) for _ in range(10)))
    assert await second.run_once() == 10
    assert await sums(tenants_url) == (30, 30, 0)
    spool.shutdown()


async def test_a_record_carries_the_collection_that_is_valid_at_its_commit(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, recorder_database: Database
) -> None:
    """A close waits for the recorder's transaction, and the next one sees its number."""
    pairs = [pair(new_id()), pair(new_id()), pair(new_id(), tenant_id=kit.OTHER_TENANT)]
    write(spool, pairs[0])
    recorder = make_recorder()
    await recorder.run_once()
    closer = Database(tenants_url, pool_size=1)
    async with closer.transaction() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock_key(kit.TENANT)})")
        write(spool, *pairs[1:])
        shipping = asyncio.create_task(recorder.run_once())
        await asyncio.sleep(0.2)
        assert not shipping.done()
        await connection.exec_driver_sql("UPDATE tenant SET collection = 2 WHERE id = $1", (kit.TENANT,))
    assert await shipping == 2
    rows = await kit.ask(tenants_url, "SELECT id, collection FROM usage_record")
    assert dict(map(tuple, rows)) == {
        opened.id: number for (opened, _), number in zip(pairs, (1, 2, 1), strict=True)
    }
    rollup = await kit.ask(
        tenants_url, "SELECT collection, requests FROM usage_rollup WHERE tenant_id = $1", kit.TENANT
    )
    assert sorted(tuple(row) for row in rollup) == [(1, 1), (2, 1)]
    await closer.close()
    spool.shutdown()


async def test_recent_records_and_open_spools_are_looked_up(
    make_recorder: MakeRecorder, spool: Spool, recorder_database: Database
) -> None:
    pairs = [pair(new_id(), tenant_id=tenant) for tenant in (kit.TENANT, kit.OTHER_TENANT, kit.TENANT)]
    write(spool, *pairs)
    await make_recorder().run_once()
    service = UsageService(recorder_database)
    ids = [opened.id for opened, _ in pairs]
    assert [record.id for record in await service.recent(None, 10)] == sorted(ids, reverse=True)
    assert [record.id for record in await service.recent(kit.OTHER_TENANT, 10)] == [ids[1]]
    assert len(await service.recent(None, 2)) == 2
    assert await service.record(new_id()) is None
    [row] = await service.spools_open()
    assert (row.host, row.closed_us) == ("host-1", None)
    assert row.cursor.shipped_through == row.cursor.oldest_open > 0
    spool.shutdown()


async def test_partitions_are_made_at_the_start_and_every_day(
    tenants_url: str, make_recorder: MakeRecorder, recorder_database: Database
) -> None:
    clock_us = kit.now_us()
    recorder = make_recorder(clock=lambda: clock_us)
    await recorder.run_once()
    async with recorder_database.transaction() as connection:
        [before] = await store.partitions_covered(connection)
    assert before[0] <= clock_us - 24 * 28 * HOUR_US
    assert before[1] >= clock_us + 24 * 88 * HOUR_US
    clock_us += 24 * 45 * HOUR_US
    await recorder.run_once()
    async with recorder_database.transaction() as connection:
        [after] = await store.partitions_covered(connection)
    assert after[0] == before[0]
    assert after[1] >= clock_us + 24 * 88 * HOUR_US


async def test_the_bounds_of_a_partition_are_the_instants_of_its_month(
    tenants_url: str, recorder_database: Database
) -> None:
    await kit.ask(tenants_url, "SELECT usage_partitions_ensure('2030-02-10', '2030-02-10')")
    async with recorder_database.transaction() as connection:
        covered = await store.partitions_covered(connection)
    february, march = (datetime(2030, month, 1, tzinfo=UTC) for month in (2, 3))
    assert covered[-1] == (from_datetime(february), from_datetime(march))
