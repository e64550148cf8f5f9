"""Which queue carries the worker's jobs (docs/decisions/0004-job-queue.md): the two best candidates on a durable PostgreSQL.

    python -m bench.decisions.job_queue        needs: pip install pgqueuer procrastinate 'psycopg[binary]'

Each enqueues a job in the transaction that writes a row of ours, shows that a rollback takes the job along, and runs
all jobs on one worker. pgqueuer uses the connection that our stores use (SQLAlchemy on asyncpg); procrastinate brings
psycopg, and is also asked through its SQL function over our own connection.
"""

import asyncio
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import procrastinate
import psycopg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from billing.infra.embedded import EmbeddedPostgres
from billing.infra.postgres import Database, driver

JOBS = 1500
LATENCY_SAMPLES = 40
CONCURRENCY = 20
RUN_TIMEOUT_S = 60.0
INSERT = "INSERT INTO invoice_demo DEFAULT VALUES"


class Gone(Exception):
    """Raised to roll a transaction back."""


class Candidate(Protocol):
    """A queue, as the comparison drives it. ``started`` receives the instant of each job's start."""

    name: str
    started: "asyncio.Queue[float]"

    async def open(self) -> None:
        """Make its tables."""

    async def enqueue(self, *, fail: bool = False) -> None:
        """A row and a job in one transaction, rolled back with ``fail``."""

    async def waiting(self) -> int:
        """Jobs not done."""

    async def work(self) -> None:
        """Run a worker until cancelled."""

    async def close(self) -> None:
        """End its connections."""


class PgqueuerCandidate:
    """pgqueuer on our own connections."""

    name = "pgqueuer, our connection"

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self.started: asyncio.Queue[float] = asyncio.Queue()

    async def open(self) -> None:
        """Make its tables."""
        self._pool = await asyncpg.create_pool(self._url, min_size=2, max_size=4)
        self._queries = Queries.from_asyncpg_pool(self._pool)
        await self._queries.install()

    async def enqueue(self, *, fail: bool = False) -> None:
        """A row and a job in one transaction."""
        async with self._database.transaction() as connection:
            await connection.execute(text(INSERT))
            own = Queries.from_asyncpg_connection(await driver(connection))
            await own.enqueue("noop", b"{}")
            if fail:
                raise Gone

    async def waiting(self) -> int:
        """Jobs not done."""
        return int(await self._pool.fetchval("SELECT count(*) FROM pgqueuer"))

    async def work(self) -> None:
        """Run a worker until cancelled."""
        worker = PgQueuer.from_asyncpg_pool(self._pool)

        @worker.entrypoint("noop")
        async def noop(_job: Job) -> None:
            self.started.put_nowait(time.perf_counter())

        await worker.run(batch_size=CONCURRENCY)

    async def close(self) -> None:
        """End its connections."""
        await self._pool.close()


class ProcrastinateCandidate:
    """procrastinate on psycopg."""

    name = "procrastinate, psycopg"

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self.started: asyncio.Queue[float] = asyncio.Queue()
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=2))

        @self.app.task(name="noop")
        async def noop() -> None:
            self.started.put_nowait(time.perf_counter())

        self.noop = noop

    async def open(self) -> None:
        """Make its tables, and a connection of psycopg's for our own rows."""
        await self.app.open_async()
        if not await self.app.check_connection_async():
            await self.app.schema_manager.apply_schema_async()
        self._connection = await psycopg.AsyncConnection.connect(self._url)

    async def enqueue(self, *, fail: bool = False) -> None:
        """A row and a job in one transaction."""
        async with self._connection.transaction():
            await self._connection.execute(INSERT)
            await self.noop.configure(connection=self._connection).defer_async()
            if fail:
                raise Gone

    async def waiting(self) -> int:
        """Jobs not done."""
        cursor = await self._connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"
        )
        row = await cursor.fetchone()
        await self._connection.commit()
        return int(row[0]) if row else 0

    async def work(self) -> None:
        """Run a worker until cancelled."""
        await self.app.run_worker_async(
            concurrency=CONCURRENCY, install_signal_handlers=False, delete_jobs="always", wait=True
        )

    async def close(self) -> None:
        """End its connections."""
        await self._connection.close()
        await self.app.close_async()


class ProcrastinateSqlCandidate(ProcrastinateCandidate):
    """procrastinate, asked through the SQL function behind its client, over our own connection."""

    name = "procrastinate, its SQL function"
    _sql = text(
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('default', 'noop', 0, NULL, NULL, CAST(:arguments AS jsonb), NULL)"
        "::procrastinate_job_to_defer_v1])"
    )

    async def enqueue(self, *, fail: bool = False) -> None:
        """A row and a job in one transaction."""
        async with self._database.transaction() as connection:
            await connection.execute(text(INSERT))
            await connection.execute(self._sql, {"arguments": json.dumps({})})
            if fail:
                raise Gone


async def measure(candidate: Candidate) -> list[str]:
    """Jobs enqueued a second, jobs run a second, milliseconds from commit to start, and whether a rollback holds."""
    await candidate.open()
    try:
        before = await candidate.waiting()
        try:
            await candidate.enqueue(fail=True)
        except Gone:
            rolled_back = await candidate.waiting() == before
        began = time.perf_counter()
        for _ in range(JOBS):
            await candidate.enqueue()
        enqueued = JOBS / (time.perf_counter() - began)
        ran, latency_ms = await _drain(candidate)
    finally:
        await candidate.close()
    return [f"{enqueued:,.0f}", f"{ran:,.0f}", f"{latency_ms:.1f}", "yes" if rolled_back else "NO"]


async def _drain(candidate: Candidate) -> tuple[float, float]:
    began = time.perf_counter()
    worker = asyncio.create_task(candidate.work())
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            for _ in range(JOBS):
                last = await candidate.started.get()
            ran = JOBS / (last - began)
            latencies = [await _latency(candidate) for _ in range(LATENCY_SAMPLES)]
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    return ran, statistics.median(latencies) * 1000


async def _latency(candidate: Candidate) -> float:
    """From a job's commit to its start on an idle worker."""
    await asyncio.sleep(0.02)
    await candidate.enqueue()
    committed = time.perf_counter()
    return max(0.0, await candidate.started.get() - committed)


async def run(url: str) -> Table:
    """All candidates, one after the other."""
    table = Table(title=f"{JOBS} jobs, each in the transaction of a row of ours", title_justify="left")
    for heading in ("", "enqueued/s", "run/s", "commit to start ms", "rollback takes it along"):
        table.add_column(heading, justify="left" if not heading else "right")
    database = Database(url, pool_size=2)
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE invoice_demo (id bigserial PRIMARY KEY)"))
    kinds: Any = (PgqueuerCandidate, ProcrastinateCandidate, ProcrastinateSqlCandidate)
    for kind in kinds:
        candidate = kind(url, database)
        table.add_row(candidate.name, *await measure(candidate))
    await database.close()
    return table


def main() -> None:
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        EmbeddedPostgres(Path(folder) / "data") as server,
    ):
        Console(highlight=False, width=100).print(asyncio.run(run(server.url)))


if __name__ == "__main__":
    main()
