"""The subject: our gateway with everything on, as ``billing up`` runs it, in front of the scripted engine."""

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from sqlalchemy import text

from bench.cpu import tree
from bench.load import Job
from bench.processes import HOST, Fault, Target
from billing.app.machine import Machine, Phases, machine
from billing.app.ready import wait_until_ready
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.limits.limit import Meter
from billing.limits.service import LimitService
from billing.settings import Durability, GatewaySettings, Settings
from billing.tenants.service import TenantService

VLLM_MODEL = "bench"
LLAMA_CPP_MODEL = "bench-llama"
KNOWN_TIMEOUT_S = 10.0
RECORDED_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.05
LIMIT_AMOUNT = 10**9
"""Four limits stand, and none is ever reached."""


class Gateway(msgspec.Struct, frozen=True):
    """The gateway under load: where it answers, its processes, and those that work beside it."""

    target: Target
    beside: dict[str, list[int]]
    machine: Machine

    def require_unharmed(self) -> None:
        """Raise ``Fault`` when one of its processes has died: what was measured would be something else."""
        self.machine.supervisor.tick()
        if self.machine.supervisor.deaths:
            raise Fault(
                f"a process of the gateway died during the run; its log: {_log_tails(self.machine.settings)}"
            )

    def recorded(self, requests: int) -> int:
        """Wait until so many requests are in Postgres, at most ``RECORDED_TIMEOUT_S``; how many there are."""
        return asyncio.run(_count_records(self.machine.settings.database_url or "", requests))


@contextlib.contextmanager
def gateway(
    data_dir: Path, engine_port: int, durability: Durability, show: Callable[[str], None]
) -> Iterator[Gateway]:
    """One worker, recorder, PostgreSQL and Valkey with durable settings; a tenant, a key, four limits and two models."""
    settings = Settings(
        data_dir=data_dir, gateway=GatewaySettings(host=HOST, port=0, workers=1, durability=durability)
    )
    with machine(settings, Phases(show)) as running:
        asyncio.run(wait_until_ready(running.gateway_url, workers=1))
        key, unlimited_key = asyncio.run(_register(running.settings.database_url or "", engine_port))
        port = running.settings.gateway.port
        for model in (VLLM_MODEL, LLAMA_CPP_MODEL):
            _wait_until_known(port, key, model)
        pids = running.supervisor.pids()
        target = Target("gateway", port, tree([pids["gateway-1"]]), key, unlimited_key, VLLM_MODEL)
        beside = {"recorder": tree([pids["recorder"]])}
        beside |= {engine.title: tree([engine.pid]) for engine in running.engines}
        yield Gateway(target, beside, running)


async def _register(database_url: str, engine_port: int) -> tuple[str, str]:
    """Two tenants, one with limits, and two models on the scripted engine, read as vLLM and as llama.cpp; their keys."""
    database = Database(database_url, role="control", pool_size=1)
    try:
        tenants = TenantService(database, now_us, new_id, random_bytes)
        fleet = FleetService(database, now_us, new_id)
        await tenants.create_tenant("bench")
        created = await tenants.create_key("bench", "load")
        limits = LimitService(database, now_us, new_id)
        for meter in (Meter.REQUESTS, Meter.TOKENS, Meter.CONCURRENCY):
            await limits.set("bench", meter, LIMIT_AMOUNT, key=created.key.prefix)
        await limits.set("bench", Meter.REQUESTS, LIMIT_AMOUNT)
        await tenants.create_tenant("unlimited")
        unlimited = await tenants.create_key("unlimited", "load")
        for model, kind in ((VLLM_MODEL, "vllm"), (LLAMA_CPP_MODEL, "llama.cpp")):
            await fleet.add_backend(model, f"http://{HOST}:{engine_port}", kind)
            await fleet.add_model(model, [DeploymentRequest(model)])
    finally:
        await database.close()
    return created.secret.text, unlimited.secret.text


def _wait_until_known(port: int, key: str, model: str) -> None:
    """Return once the worker's directory has the key and the model, which takes one poll."""
    request = Job(host=HOST, port=port, key=key, model=model, connections=1, warm_s=0, window_s=0).request()
    body = request.partition(b"\r\n\r\n")[2]
    deadline = time.monotonic() + KNOWN_TIMEOUT_S
    while True:
        with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=KNOWN_TIMEOUT_S)) as client:
            client.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
            reply = client.getresponse()
            answer = reply.read()
        if reply.status == http.client.OK:
            return
        if time.monotonic() > deadline:
            raise Fault(f"the gateway answers {reply.status} for model {model}: {answer[:300]!r}")
        time.sleep(POLL_INTERVAL_S)


PROBES = 2
"""Requests that :func:`gateway` itself sends and that are recorded like any other: one for each model."""


async def _count_records(database_url: str, expected: int) -> int:
    database = Database(database_url, pool_size=1)
    deadline = time.monotonic() + RECORDED_TIMEOUT_S
    try:
        while True:
            async with database.transaction() as connection:
                found = int(
                    (await connection.execute(text("SELECT count(*) FROM usage_record"))).scalar_one()
                )
            if found >= expected or time.monotonic() > deadline:
                return found
            await asyncio.sleep(POLL_INTERVAL_S)
    finally:
        await database.close()


def _log_tails(settings: Settings) -> str:
    logs = sorted((settings.data_dir / "logs").glob("*.log"))
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1000:]}" for path in logs)
