"""Recorders and workers in processes of their own that are killed, stopped and doubled, on a durable Postgres."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.infra import migrate
from billing.infra.embedded import EmbeddedPostgres
from tests import metering_kit as kit
from tests.integration import recorder_kit
from tests.integration.recorder_kit import is_all_closed, outcomes, quarantined, sums, until, writer

RECORDS = 600


@pytest.fixture(scope="module")
def durable_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL with its defaults: fsync, full page writes, synchronous commit."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("durable")) as server:
        migrate.upgrade(server.create_database("durable_template"))
        yield server


@pytest.fixture
def url(durable_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """A fresh database with the schema and one tenant."""
    name = f"durable_{abs(hash(request.node.nodeid)) % 10**12}"
    made = durable_server.create_database(name, "durable_template")
    asyncio.run(kit.add_tenants(made, kit.TENANT))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the spools lie, as a recorder expects them below its data folder."""
    return tmp_path / "spool"


def finished_spool(root: Path, count: int = RECORDS) -> None:
    with writer(root, count) as child:
        assert child.line() == ["ready"]
        child.kill()


async def ends_whole(url: str, expected: dict[str, int]) -> None:
    """Every spool is recorded to its end, each request once, and the rollup says the same."""
    await until(lambda: is_all_closed(url))
    assert await outcomes(url) == expected
    total = sum(expected.values())
    assert await sums(url) == (total, total, 0)
    assert await quarantined(url) == {}


async def test_a_killed_workers_requests_are_recorded_with_their_last_progress(url: str, root: Path) -> None:
    with recorder_kit.recorder(url, root), writer(root, 50, opened=20, progress=5) as worker:
        _, *opened = worker.line()
        worker.kill()
        await ends_whole(url, {"complete": 50, "interrupted": 20})
    rows = await kit.ask(
        url,
        "SELECT id, status, error, input, output, output_provenance, output_method, duration_us FROM usage_record "
        "WHERE outcome = 'interrupted' ORDER BY id",
    )
    assert sorted(str(row["id"]) for row in rows) == sorted(opened)
    with_progress = [tuple(row)[1:] for row in rows if row["output"] is not None]
    assert sorted(with_progress) == [
        (0, "gateway_died", 500, 11 + number, "running", "timings", 1_000_000) for number in range(5)
    ]
    assert {tuple(row)[1:] for row in rows if row["output"] is None} == {
        (0, "gateway_died", None, None, None, None, None)
    }


async def test_requests_that_end_after_a_stop_of_the_whole_process_are_complete(url: str, root: Path) -> None:
    with recorder_kit.recorder(url, root), writer(root, 1, opened=3) as worker:
        worker.line()
        worker.process.send_signal(signal.SIGSTOP)
        await until(lambda: has(url, {"complete": 1}))
        await asyncio.sleep(0.5)
        assert await outcomes(url) == {"complete": 1}
        worker.process.send_signal(signal.SIGCONT)
        for _ in range(3):
            worker.tell()
            assert worker.line()[0] == "closed"
        await until(lambda: has(url, {"complete": 4}))
        worker.kill()
        await ends_whole(url, {"complete": 4})


async def has(url: str, expected: dict[str, int]) -> bool:
    return await outcomes(url) == expected


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3])
async def test_a_recorder_killed_around_its_commit_loses_and_doubles_nothing(
    url: str, root: Path, point: str, number: int
) -> None:
    finished_spool(root)
    with recorder_kit.recorder(url, root, 100, point, number) as child:
        assert child.line() == ["here"]
        child.kill()
    done = number if point == "after" else number - 1
    assert (await sums(url))[0] == done * 100
    with recorder_kit.recorder(url, root, 100):
        await ends_whole(url, {"complete": RECORDS})


async def test_recorders_killed_at_random_times_lose_and_double_nothing(url: str, root: Path) -> None:
    source = random.Random(11)
    with writer(root, 2_000, opened=5) as first, writer(root, 1_000, pause_s=0.001) as second:
        first.line()
        for _ in range(8):
            with recorder_kit.recorder(url, root, 50) as child:
                await asyncio.sleep(source.uniform(0.05, 0.3))
                child.kill()
        assert second.line() == ["ready"]
        first.kill()
        second.kill()
    with recorder_kit.recorder(url, root, 500):
        await ends_whole(url, {"complete": 3_000, "interrupted": 5})


async def test_two_recorders_at_once_double_nothing(url: str, root: Path) -> None:
    with recorder_kit.recorder(url, root, 50), recorder_kit.recorder(url, root, 70):
        with writer(root, 1_500, opened=10) as first, writer(root, 1_500) as second:
            first.line()
            second.line()
            first.kill()
            second.kill()
        await ends_whole(url, {"complete": 3_000, "interrupted": 10})


async def test_a_recorder_told_to_stop_ends_its_batch_and_goes(url: str, root: Path) -> None:
    finished_spool(root)
    with recorder_kit.recorder(url, root, 50) as child:
        await until(lambda: has_some(url))
        child.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.line) == ["stopped"]
        assert child.process.wait(10) == 0
    recorded, requests, difference = await sums(url)
    assert (recorded % 50, requests, difference) == (0, recorded, 0)


async def has_some(url: str) -> bool:
    return (await sums(url))[0] > 0


@pytest.mark.slow
def test_postgres_killed_and_away_for_ten_seconds_is_caught_up_with(tmp_path: Path, root: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "own")
    try:
        url = server.start()
        migrate.upgrade(url)
        asyncio.run(kit.add_tenants(url, kit.TENANT))
        with recorder_kit.recorder(url, root, 100), writer(root, 2_000, pause_s=0.004) as worker:
            asyncio.run(until(lambda: has_some(url)))
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            asyncio.run(asyncio.sleep(10))
            assert server.start() == url
            assert worker.line() == ["ready"]
            worker.kill()
            asyncio.run(ends_whole(url, {"complete": 2_000}))
    finally:
        server.stop()
