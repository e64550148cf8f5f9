"""How far in time a spool is recorded, as a close asks: every request that arrived before it has its record."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from billing.clock import MICROSECONDS_PER_SECOND, from_datetime
from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.journal import Cursor
from billing.metering.spool import Spool
from billing.settings import RecorderSettings, Settings
from tests import metering_kit as kit
from tests.integration.recorder_kit import MakeRecorder, pair, write

MINUTE_US = 60 * MICROSECONDS_PER_SECOND
START_US = 1_790_000_000_000_000


class Clock:
    """An instant that the test moves."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us

    def tick(self, seconds: int = 2) -> int:
        self.now_us += seconds * MICROSECONDS_PER_SECOND
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def operator(tenants_url: str) -> AsyncIterator[Database]:
    database = Database(tenants_url, role="control")
    yield database
    await database.close()


async def through(url: str) -> list[int | None]:
    """How far each spool is, by its id."""
    rows = await kit.ask(url, "SELECT recorded_through FROM spool ORDER BY id")
    return [None if row[0] is None else from_datetime(row[0]) for row in rows]


async def test_an_idle_spool_is_recorded_through_the_last_look(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, clock: Clock
) -> None:
    recorder = make_recorder(clock=clock)
    await recorder.run_once()
    assert await through(tenants_url) == [START_US]
    clock.now_us += 1_000
    await recorder.run_once()
    assert await through(tenants_url) == [START_US]  # said once a second, not at every look
    clock.tick()
    await recorder.run_once()
    assert await through(tenants_url) == [clock.now_us]
    spool.shutdown()


async def test_an_open_request_holds_the_mark_at_its_arrival_until_it_has_its_record(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, clock: Clock
) -> None:
    recorder = make_recorder(clock=clock)
    new_id = kit.id_maker(1, clock)
    first, second = pair(new_id()), pair(new_id())
    arrived_us = clock.now_us
    clock.tick()
    write(spool, (first[0], None), (second[0], None), pair(new_id()))
    clock.tick()
    assert await recorder.run_once() == 1
    assert await through(tenants_url) == [arrived_us]
    spool.close(first[1])
    clock.tick()
    await recorder.run_once()
    assert await through(tenants_url) == [arrived_us]
    spool.close(second[1])
    ended_us = clock.tick()
    await recorder.run_once()
    assert await through(tenants_url) == [ended_us]
    spool.shutdown()


async def test_a_backlog_moves_the_mark_only_when_all_of_it_is_recorded(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, clock: Clock
) -> None:
    recorder = make_recorder(Settings(recorder=RecorderSettings(batch_records_max=1)), clock)
    new_id = kit.id_maker(2, clock)
    write(spool, *(pair(new_id()) for _ in range(20)))
    marks = []
    while recorder.counters.recorded < 20:
        assert marks == [None] * len(marks)
        clock.tick()
        await recorder.run_once()
        marks += await through(tenants_url)
    assert len(marks) > 1
    assert marks[-1] == clock.now_us
    spool.shutdown()


async def test_the_mark_never_goes_back(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, clock: Clock
) -> None:
    recorder = make_recorder(clock=clock)
    await recorder.run_once()
    clock.now_us -= MINUTE_US
    write(spool, pair(kit.id_maker(1, clock)()))
    assert await recorder.run_once() == 1
    assert await through(tenants_url) == [START_US]
    spool.shutdown()


async def test_a_recorder_that_was_overtaken_does_not_say_how_far_the_other_is(
    tenants_url: str, recorder_database: Database, clock: Clock
) -> None:
    spool_id = UUID(int=7)
    async with recorder_database.transaction() as connection:
        await store.spools_register(connection, [spool_id], "host-1", clock())
        await store.cursor_move(connection, spool_id, Cursor(10, 10), None, None)
        await store.through_move(connection, [(spool_id, Cursor(5, 5), clock())])
    assert await through(tenants_url) == [None]
    async with recorder_database.transaction() as connection:
        await store.through_move(connection, [(spool_id, Cursor(10, 10), clock())])
    assert await through(tenants_url) == [clock()]


async def test_spools_that_are_behind_are_found_and_finished_ones_are_not(
    tenants_url: str,
    make_recorder: MakeRecorder,
    spool: Spool,
    clock: Clock,
    operator: Database,
    tmp_path: Path,
) -> None:
    recorder = make_recorder(clock=clock)
    arrived_us = clock.now_us
    write(spool, (pair(kit.id_maker(1, clock)())[0], None))
    clock.tick()
    await recorder.run_once()
    async with operator.transaction() as connection:
        assert await store.spools_behind(connection, arrived_us, 10) == []
        [behind] = await store.spools_behind(connection, arrived_us + 1, 10)
    assert (behind.host, behind.recorded_through_us) == ("host-1", arrived_us)
    spool.shutdown()
    clock.tick()
    await recorder.run_once()
    async with operator.transaction() as connection:
        assert await store.spools_behind(connection, clock.tick(), 10) == []


async def test_recorders_that_say_how_far_they_are_at_once_do_not_wait_for_each_other(
    tenants_url: str, recorder_database: Database, clock: Clock
) -> None:
    ids = [UUID(int=number) for number in range(1, 51)]
    async with recorder_database.transaction() as connection:
        await store.spools_register(connection, ids, "host-1", clock())

    async def say(order: list[UUID]) -> None:
        for _ in range(20):
            async with recorder_database.transaction() as connection:
                await store.through_move(connection, [(each, Cursor(), clock()) for each in order])

    await asyncio.gather(say(ids), say(ids[::-1]), say(ids))
    assert set(await through(tenants_url)) == {clock()}
