"""`billing demo`: real llama.cpp servers, two tenants, traffic, a limit, a killed worker, and both invoices at its end.

It agrees only if every record equals what the engine itself has counted, and every surface shows the same totals.
`--once` ends then, with that as exit code.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import UUID

import msgspec

from billing.app.demo_check import EngineCount, Line, Totals, compare, records, settled
from billing.app.demo_engines import Engines, llama_servers
from billing.app.demo_report import print_engine_lines, print_totals, run_command, where
from billing.app.demo_setup import Customer, DemoServices
from billing.app.demo_traffic import EMBEDDINGS, GOLDEN, SLOW, Traffic
from billing.app.machine import Machine, Phases, machine
from billing.app.ready import wait_until_ready
from billing.app.supervisor import POLL_INTERVAL_S, StopSignal
from billing.errors import Misconfigured
from billing.infra import log
from billing.infra.postgres import Database
from billing.metering.stored import StoredRecord
from billing.settings import Settings
from billing.tokens.usage import Outcome

DATA_FOLDER = "demo"
EXIT_STOPPED = 130
"""What a shell calls a program that Ctrl-C has ended."""


class Outcomes(msgspec.Struct, frozen=True):
    """What the demo found while traffic went on."""

    acme: Customer
    globex: Customer
    month: str
    lines: list[Line]
    killed: StoredRecord
    example: UUID
    surprises: list[str]

    @property
    def agreed(self) -> bool:
        """Whether everything is as it must be."""
        interrupted = self.killed.outcome == Outcome.INTERRUPTED and bool(self.killed.output.value)
        return interrupted and not self.surprises and all(line.agrees for line in self.lines)


def main(
    settings: Settings, *, once: bool, show: Callable[[str], None], admin_token: str | None = None
) -> int:
    """Run the demo; the exit code is 0 only if everything agreed. Serves until Ctrl-C unless ``once``."""
    log.set_up(logging.WARNING)
    # Apart from `billing up`'s data, so that a first real tenant does not meet the demo's.
    settings = msgspec.structs.replace(settings, data_dir=settings.data_dir / DATA_FOLDER)
    stop = StopSignal()
    try:
        return _run(settings, Phases(show), show, stop, once=once, admin_token=admin_token)
    except asyncio.CancelledError:
        show("stopped before the end")
        return EXIT_STOPPED


def _run(
    settings: Settings,
    phases: Phases,
    show: Callable[[str], None],
    stop: StopSignal,
    *,
    once: bool,
    admin_token: str | None,
) -> int:
    with llama_servers(settings.data_dir, phases) as engines, _machine(settings, phases) as running:
        workers = running.settings.gateway.workers
        asyncio.run(wait_until_ready(running.gateway_url, workers))
        phases.done(f"gateway answers on {running.gateway_url}/v1 with {workers} workers")
        found = asyncio.run(_scenario(running, engines, phases, show, stop))
        agreed = _report(running, found, phases, show, stop)
        if not once:
            show(where(running, found.acme.key, engines, admin_token))
            while not stop.received:
                time.sleep(POLL_INTERVAL_S)
                running.tick()
    return 0 if agreed else 1


@contextlib.contextmanager
def _machine(settings: Settings, phases: Phases) -> Iterator[Machine]:
    """The machine on the usual ports, or on free ones when one of those is taken."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(machine(settings, phases))
        except Misconfigured as fault:
            if "cannot listen" not in str(fault):
                raise
            free = msgspec.structs.replace(
                settings,
                gateway=msgspec.structs.replace(settings.gateway, port=0),
                control=msgspec.structs.replace(settings.control, port=0),
            )
            running = stack.enter_context(machine(free, phases))
        yield running


async def _scenario(
    running: Machine, engines: Engines, phases: Phases, show: Callable[[str], None], stop: StopSignal
) -> Outcomes:
    """Set up both tenants, send the traffic phase by phase, and compare each with the engines' counters."""
    async with _supervised(running, stop), _services(running) as services:
        acme, globex = await services.set_up(engines)
        await asyncio.sleep(2 * running.settings.gateway.directory_poll_interval_s)
        phases.done(f"tenants {acme.slug} and {globex.slug} with keys, plans and a limit; traffic begins")
        first = Traffic(running.gateway_url, acme.key, show)
        second = Traffic(running.gateway_url, globex.key, show)
        async with contextlib.aclosing(first), contextlib.aclosing(second):
            found = await _traffic(first, second, engines, services)
        phases.done("traffic has ended and every record has arrived")
        return Outcomes(
            acme=acme,
            globex=globex,
            month=services.month(),
            example=first.sent[1].usage_id,
            surprises=[*first.surprises, *second.surprises],
            lines=found[0],
            killed=found[1],
        )


async def _traffic(
    first: Traffic, second: Traffic, engines: Engines, services: DemoServices
) -> tuple[list[Line], StoredRecord]:
    before = await _counts(engines)
    await first.finished()
    await first.refused()
    await second.limited()
    finished = await records(services.usage, [sent.usage_id for sent in [*first.sent, *second.sent]])
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
    left = await first.hang_ups()
    hung_up = await records(services.usage, [sent.usage_id for sent in left])
    after = await settled(engines.slow)
    lines.append(compare(f"hung up on {SLOW}", middle[SLOW], after, hung_up, per_request=1))
    killed = await records(services.usage, [(await first.killed()).usage_id])
    return lines, killed[0]


async def _counts(engines: Engines) -> dict[str, EngineCount]:
    return {name: await settled(server) for name, server in engines.by_model().items()}


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
async def _services(running: Machine) -> AsyncIterator[DemoServices]:
    database = Database(running.settings.database_url or "", role="control", pool_size=2)
    try:
        yield DemoServices(database)
    finally:
        await database.close()


def _report(
    running: Machine, found: Outcomes, phases: Phases, show: Callable[[str], None], stop: StopSignal
) -> bool:
    """Show what an operator would look at, by the commands an operator would use; whether everything agreed."""
    data_dir, acme, globex = running.settings.data_dir, found.acme.slug, found.globex.slug
    run_command(data_dir, ["usage", "--tenant", acme], show)
    run_command(data_dir, ["trace", str(found.example)], show)
    run_command(data_dir, ["invoices", "preview", "--tenant", acme], show)
    for tenant in (acme, globex):
        run_command(
            data_dir,
            ["invoices", "close", "--period", found.month, "--tenant", tenant, "--early"],
            show,
        )
    phases.done(f"{found.month} is closed early; what is used from now on is late usage")
    numbers, totals = asyncio.run(_totals(running, found, stop))
    for number in numbers:
        run_command(data_dir, ["invoices", "show", number], show)
    print_engine_lines(found.lines)
    print_totals(totals)
    killed = found.killed
    show(
        f"killed stream {killed.id}: outcome {killed.outcome}, last progress on record: "
        f"input {killed.input.value}, output {killed.output.value} ({killed.output.provenance})"
    )
    for surprise in found.surprises:
        show(f"SURPRISE: {surprise}")
    agreed = found.agreed and all(each.agrees for each in totals)
    phases.done("everything agreed" if agreed else "NOT everything agreed")
    return agreed


async def _totals(running: Machine, found: Outcomes, stop: StopSignal) -> tuple[list[str], list[Totals]]:
    """The numbers of both invoices, and both tenants' tokens on every surface."""
    async with _supervised(running, stop), _services(running) as services:
        invoices = [await services.invoice_of(each.slug) for each in (found.acme, found.globex)]
        totals = [await services.totals(each) for each in invoices]
    return [each.number or "" for each in invoices], totals
