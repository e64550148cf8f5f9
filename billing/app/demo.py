"""`billing demo`: real llama.cpp servers, a tenant, traffic, a killed worker, and what stands on record afterwards.

It agrees only if every record equals what the engine itself has counted. `--once` ends then, with that as exit code.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from billing.app.demo_check import EngineCount, Line, compare, records, settled
from billing.app.demo_traffic import EMBEDDINGS, GOLDEN, SLOW, Sent, Traffic
from billing.app.machine import Machine, Phases, machine
from billing.app.ready import wait_until_ready
from billing.app.supervisor import POLL_INTERVAL_S, StopSignal
from billing.errors import Conflict, Misconfigured
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra import log
from billing.infra.engine_folders import make_data_folder
from billing.infra.golden import model as golden_model
from billing.infra.golden.runner import LlamaServer
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.pricing.service import PricingService
from billing.settings import Settings
from billing.tenants.service import TenantService
from billing.tokens.usage import Outcome

TENANT = "acme"
DATA_FOLDER = "demo"
REPORT_TIMEOUT_S = 60.0
REPORT_COLUMNS = 120
EXIT_STOPPED = 130
"""What a shell calls a program that Ctrl-C has ended."""
PLAN = """\
plan: demo
currency: USD
label: Demo prices per 1,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - model: golden
        input: "0.50"
        cached_input: "0.05"
        output: "1.50"
        reasoning: "1.00"
      - model: slow
        input: "1.00"
        cached_input: "0.10"
        output: "3.00"
        reasoning: "2.00"
      - model: golden-embeddings
        input: "0.20"
        output: free
"""


class Engines(msgspec.Struct, frozen=True):
    """The three llama.cpp servers: two models, and the golden one again for embeddings."""

    golden: LlamaServer
    slow: LlamaServer
    embeddings: LlamaServer

    def by_model(self) -> dict[str, LlamaServer]:
        """Server by public model name."""
        return {GOLDEN: self.golden, SLOW: self.slow, EMBEDDINGS: self.embeddings}


class Outcomes(msgspec.Struct, frozen=True):
    """What the demo found."""

    lines: list[Line]
    killed: StoredRecord
    example: Sent
    surprises: list[str]

    @property
    def agreed(self) -> bool:
        """Whether everything is as it must be."""
        interrupted = self.killed.outcome == Outcome.INTERRUPTED and bool(self.killed.output.value)
        return interrupted and not self.surprises and all(line.agrees for line in self.lines)


def main(settings: Settings, *, once: bool, show: Callable[[str], None]) -> int:
    """Run the demo; the exit code is 0 only if everything agreed. Serves until Ctrl-C unless ``once``."""
    log.set_up(logging.WARNING)
    # Apart from `billing up`'s data, so that a first real tenant does not meet the demo's.
    settings = msgspec.structs.replace(settings, data_dir=settings.data_dir / DATA_FOLDER)
    phases = Phases(show)
    stop = StopSignal()
    try:
        return _run(settings, once=once, show=show, phases=phases, stop=stop)
    except asyncio.CancelledError:
        show("stopped before the end")
        return EXIT_STOPPED


def _run(
    settings: Settings, *, once: bool, show: Callable[[str], None], phases: Phases, stop: StopSignal
) -> int:
    with llama_servers(settings.data_dir, phases) as engines, _machine(settings, phases) as running:
        asyncio.run(wait_until_ready(running.gateway_url, running.settings.gateway.workers))
        phases.done(
            f"gateway answers on {running.gateway_url}/v1 with {running.settings.gateway.workers} workers"
        )
        key, found = asyncio.run(_scenario(running, engines, phases, show, stop))
        _report(running, found, phases, show)
        if once:
            return 0 if found.agreed else 1
        _say_where(running, key, engines, show)
        while not stop.received:
            time.sleep(POLL_INTERVAL_S)
            running.tick()
    return 0 if found.agreed else 1


@contextlib.contextmanager
def llama_servers(data_dir: Path, phases: Phases) -> Iterator[Engines]:
    """Build the models if they are not there yet and serve them; one slot each makes cached counts predictable."""
    make_data_folder(data_dir)
    models, logs = data_dir / "models", data_dir / "logs"
    for folder in (models, logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    golden = golden_model.model_path(models, golden_model.GOLDEN)
    slow = golden_model.model_path(models, golden_model.SLOW)
    phases.done("deterministic models built: golden (53 tokens an answer, 20 of them reasoning) and slow")
    with contextlib.ExitStack() as stack:
        servers = []
        for path, alias, embeddings in (
            (golden, GOLDEN, False),
            (slow, SLOW, False),
            (golden, EMBEDDINGS, True),
        ):
            server = LlamaServer.start(
                path, alias, log_path=logs / f"llama-{alias}.log", embeddings=embeddings, slots=1
            )
            stack.callback(server.stop)
            servers.append(server)
        phases.done("llama.cpp serves " + ", ".join(f"{server.alias} on {server.url}" for server in servers))
        yield Engines(*servers)


@contextlib.contextmanager
def _machine(settings: Settings, phases: Phases) -> Iterator[Machine]:
    """The machine on the usual port, or on a free one when that is taken."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(machine(settings, phases))
        except Misconfigured as fault:
            if "cannot listen" not in str(fault):
                raise
            free = msgspec.structs.replace(
                settings, gateway=msgspec.structs.replace(settings.gateway, port=0)
            )
            running = stack.enter_context(machine(free, phases))
        yield running


async def _scenario(
    running: Machine, engines: Engines, phases: Phases, show: Callable[[str], None], stop: StopSignal
) -> tuple[str, Outcomes]:
    """Set up the tenant, send the traffic phase by phase, and compare each with the engines' counters."""
    async with _supervised(running, stop), _database(running) as database:
        key = await _set_up(database, engines)
        await asyncio.sleep(2 * running.settings.gateway.directory_poll_interval_s)
        phases.done(f"tenant {TENANT}, key, plan and models are set up; traffic begins")
        traffic = Traffic(running.gateway_url, key, show)
        try:
            found = await _traffic(traffic, engines, UsageService(database))
        finally:
            await traffic.close()
        phases.done("traffic has ended and every record has arrived")
        return key, found


async def _traffic(traffic: Traffic, engines: Engines, usage: UsageService) -> Outcomes:
    before = await _counts(engines)
    await traffic.finished()
    await traffic.refused()
    finished = await records(usage, [sent.usage_id for sent in traffic.sent])
    middle = await _counts(engines)
    lines = [
        compare(
            f"finished on {name}",
            before[name],
            middle[name],
            [one for one in finished if one.model == name],
            per_request=0,
        )
        for name in (GOLDEN, EMBEDDINGS)
    ]
    left = await traffic.hang_ups()
    hung_up = await records(usage, [sent.usage_id for sent in left])
    after = await settled(engines.slow)
    lines.append(compare(f"hung up on {SLOW}", middle[SLOW], after, hung_up, per_request=1))
    killed = await records(usage, [(await traffic.killed()).usage_id])
    return Outcomes(lines, killed[0], traffic.sent[1], traffic.surprises)


async def _counts(engines: Engines) -> dict[str, EngineCount]:
    return {name: await settled(server) for name, server in engines.by_model().items()}


async def _set_up(database: Database, engines: Engines) -> str:
    """The demo's tenant, plan, models and a new key; what an earlier run left is used again."""
    tenants, pricing = (
        TenantService(database, now_us, new_id, random_bytes),
        PricingService(database, now_us, new_id),
    )
    fleet = FleetService(database, now_us, new_id)
    await pricing.apply(PLAN)
    with contextlib.suppress(Conflict):
        await tenants.create_tenant(TENANT, "Acme Inference Ltd")
    tenant = await tenants.tenant(TENANT)
    with contextlib.suppress(Conflict):
        await pricing.subscribe(tenant.id, "demo")
    for name, server in engines.by_model().items():
        await fleet.put_backend(name, server.url, "llama.cpp")
        with contextlib.suppress(Conflict):
            await fleet.add_model(name, [DeploymentRequest(backend=name)])
    created = await tenants.create_key(TENANT, "demo")
    return created.secret.text


@contextlib.asynccontextmanager
async def _supervised(running: Machine, stop: StopSignal) -> AsyncIterator[None]:
    """Keep the processes running meanwhile: a killed worker is started again. A stop signal cancels what goes on."""
    scenario = asyncio.current_task()

    async def tick() -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            running.tick()
            if stop.received and scenario is not None:
                scenario.cancel()

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _database(running: Machine) -> AsyncIterator[Database]:
    database = Database(running.settings.database_url or "", role="control", pool_size=2)
    try:
        yield database
    finally:
        await database.close()


def _report(running: Machine, found: Outcomes, phases: Phases, show: Callable[[str], None]) -> None:
    """Print what an operator would look at, by the commands an operator would use, then the verdict."""
    data_dir = str(running.settings.data_dir)
    for command in (
        ["usage", "--tenant", TENANT],
        ["invoices", "preview", "--tenant", TENANT],
        ["trace", str(found.example.usage_id)],
    ):
        show(f"\n$ billing --data-dir {_short(data_dir)} {' '.join(command)}")
        sys.stdout.flush()
        subprocess.run(  # noqa: S603 - this program itself
            [sys.executable, "-m", "billing.cli.main", "--data-dir", data_dir, *command],
            check=True,
            timeout=REPORT_TIMEOUT_S,
        )
    show("")
    Console(width=REPORT_COLUMNS).print(_check_table(found.lines))
    killed = found.killed
    show(
        f"killed stream {killed.id}: outcome {killed.outcome}, last progress on record: "
        f"input {killed.input.value}, output {killed.output.value} ({killed.output.provenance})"
    )
    for surprise in found.surprises:
        show(f"SURPRISE: {surprise}")
    phases.done("everything agreed" if found.agreed else "NOT everything agreed")


def _check_table(lines: list[Line]) -> Table:
    table = Table(
        title="Recorded tokens against llama.cpp's own counters",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Phase", no_wrap=True)
    for name in (
        "Requests",
        "Input\nengine",
        "Input\nrecorded",
        "Output\nengine",
        "Output\nrecorded",
        "Missing\n(allowed)",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Agrees", no_wrap=True)
    for line in lines:
        numbers = (
            line.requests,
            line.engine.input,
            line.recorded.input,
            line.engine.output,
            line.recorded.output,
        )
        missing = f"{line.engine.output - line.recorded.output} ({line.output_difference_max})"
        table.add_row(
            line.what, *(f"{number:,}" for number in numbers), missing, "yes" if line.agrees else "NO"
        )
    return table


def _say_where(running: Machine, key: str, engines: Engines, show: Callable[[str], None]) -> None:
    """Where everything is, and a request to try."""
    show(f"""
Gateway      {running.gateway_url}/v1
llama.cpp    {", ".join(f"{name} {server.url}" for name, server in engines.by_model().items())}
Data, logs   {running.settings.data_dir}

Try it:
  curl {running.gateway_url}/v1/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{GOLDEN}", "messages": [{{"role": "user", "content": "Hello there"}}]}}'

In another terminal, in this folder:
  .venv/bin/billing --data-dir {_short(str(running.settings.data_dir))} usage --tenant {TENANT}

Ctrl-C stops everything.""")


def _short(folder: str) -> str:
    """A folder as it would be typed here."""
    return os.path.relpath(folder)
