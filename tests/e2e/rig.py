"""The real processes on loopback for one test: Postgres with durability, Valkey, gateways, recorder; each can be killed."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2

from billing.app.ready import wait_until_ready
from billing.errors import Unavailable
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra import migrate
from billing.infra.child import start_child
from billing.infra.embedded import EmbeddedPostgres, EmbeddedValkey
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.limits.limit import Meter, OnFailure
from billing.limits.service import LimitService
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.pricing.service import PricingService
from billing.tenants import api_key
from billing.tenants.service import TenantService

WAIT_TIMEOUT_S = 30.0
POLL_S = 0.05
DIRECTORY_LAG_S = 1.2
"""A change holds everywhere within a second (design.md §6)."""


class Rig:
    """Processes of one machine, started and killed one by one."""

    def __init__(self, data_dir: Path, *, workers: int = 2, options: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self.workers = workers
        self.options = options
        self.postgres = EmbeddedPostgres(data_dir)
        self.valkey = EmbeddedValkey(data_dir)
        self.port = free_port()
        self.second_port = free_port()
        self.key = ""
        self.tenant_id = UUID(int=0)
        self.gateway: subprocess.Popen[bytes] | None = None
        self.second_gateway: subprocess.Popen[bytes] | None = None
        self.recorder: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Rig :{self.port} {self.data_dir}>"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def client(self, **options: Any) -> httpx2.AsyncClient:
        """An HTTP client with the tenant's key."""
        usual = {"base_url": self.url, "headers": self.headers, "timeout": 60.0, "trust_env": False}
        return httpx2.AsyncClient(**(usual | options))

    @property
    def second_url(self) -> str:
        return f"http://127.0.0.1:{self.second_port}"

    def start_gateway(self) -> None:
        self.gateway = self._start("gateway", self._gateway(self.port))

    async def start_second_gateway(self) -> None:
        self.second_gateway = self._start("gateway-2", self._gateway(self.second_port))
        await wait_until_ready(self.second_url, self.workers)

    def _gateway(self, port: int) -> list[str]:
        return ["gateway", "--workers", str(self.workers), "--port", str(port), *self.options]

    def start_recorder(self) -> None:
        self.recorder = self._start("recorder", ["recorder"])

    def worker_pids(self) -> list[int]:
        """The gateway's worker processes."""
        assert self.gateway is not None
        children = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    async def ready(self) -> None:
        await wait_until_ready(self.url, self.workers)

    async def records(self, count: int) -> list[StoredRecord]:
        """All records once there are ``count`` of them; fails when there are more, or not enough in time."""
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        found: list[StoredRecord] = []
        async with self.database() as database:
            while time.monotonic() < deadline:
                with contextlib.suppress(Unavailable):
                    found = await UsageService(database).recent(None, count + 100)
                if len(found) >= count:
                    break
                await asyncio.sleep(POLL_S)
        assert len(found) == count, f"{len(found)} records where {count} were expected"
        assert len({record.id for record in found}) == count
        return found

    async def recorded(self, count: int) -> None:
        """Return once ``count`` requests are in the rollup; fails when there are more, or not enough in time."""
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        requests = 0
        async with self.database() as database:
            while requests < count and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
                rollup = await UsageService(database).rollup(self.tenant_id, 0, 2**53)
                requests = sum(row.requests for row in rollup)
        assert requests == count

    @contextlib.asynccontextmanager
    async def database(self, role: str = "control") -> AsyncIterator[Database]:
        database = Database(self.postgres.url, role=role, pool_size=2)
        try:
            yield database
        finally:
            await database.close()

    async def set_up(self, models: dict[str, tuple[str, str]]) -> None:
        """A tenant with a key, and models by name: (engine, URL)."""
        async with self.database() as database:
            tenants = TenantService(database, now_us, new_id, random_bytes)
            fleet = FleetService(database, now_us, new_id)
            self.tenant_id = (await tenants.create_tenant("acme")).id
            self.key = (await tenants.create_key("acme", "test")).secret.text
            for name, (engine, url) in models.items():
                await fleet.add_backend(name, url, engine)
                await fleet.add_model(name, [DeploymentRequest(backend=name)])

    async def another_key(self, name: str) -> str:
        """A further key of the tenant, known to every gateway."""
        async with self.database() as database:
            tenants = TenantService(database, now_us, new_id, random_bytes)
            created = await tenants.create_key("acme", name)
        await asyncio.sleep(DIRECTORY_LAG_S)
        return created.secret.text

    async def limit(
        self,
        meter: Meter,
        amount: int,
        *,
        key: str | None = None,
        on_failure: OnFailure = OnFailure.CLOSED,
        **options: Any,
    ) -> None:
        """A limit of the tenant, or of one of its keys, in force at every gateway."""
        prefix = None if key is None else key[: api_key.PREFIX_LENGTH]
        async with self.database() as database:
            limits = LimitService(database, now_us, new_id)
            await limits.set("acme", meter, amount, key=prefix, on_failure=on_failure, **options)
        await asyncio.sleep(DIRECTORY_LAG_S)

    async def price(self, plan: str) -> None:
        """A plan of the tenant from the start of this month, known to every gateway."""
        async with self.database() as database:
            pricing = PricingService(database, now_us, new_id)
            await pricing.subscribe(self.tenant_id, (await pricing.apply(plan)).plan)
        await asyncio.sleep(DIRECTORY_LAG_S)

    def stop(self) -> None:
        processes = (self.gateway, self.second_gateway, self.recorder)
        for process in processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            if process is not None:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _start(self, name: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        return start_child(
            [sys.executable, "-m", "billing.cli.main", "--data-dir", str(self.data_dir), *arguments],
            log_path=self.data_dir / "logs" / f"{name}.log",
            death_signal=signal.SIGKILL,
            environment={
                "DATABASE_URL": self.postgres.url,
                "REDIS_URL": self.valkey.url,
                "PATH": "/usr/bin:/bin",
            },
        )


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, models: dict[str, tuple[str, str]], *, workers: int = 2, options: Sequence[str] = ()
) -> AsyncIterator[Rig]:
    """Everything up and ready, with a tenant, a key and models; down again afterwards."""
    rig = Rig(data_dir, workers=workers, options=options)
    (data_dir / "logs").mkdir(parents=True)
    try:
        rig.postgres.start()
        rig.valkey.start()
        await asyncio.to_thread(migrate.upgrade, rig.postgres.url)
        await rig.set_up(models)
        rig.start_gateway()
        rig.start_recorder()
        await rig.ready()
        yield rig
    finally:
        rig.stop()
        rig.valkey.stop()
        rig.postgres.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def output_of(record: StoredRecord) -> int:
    assert record.output.value is not None
    return record.output.value
