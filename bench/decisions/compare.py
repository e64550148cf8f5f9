"""Candidates as proxies side by side: each in a process of its own on one core, the engine and the load on another."""

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.cpu import pin, tree
from bench.load import Job, Measured
from bench.processes import HOST, Fault, Loader, Target
from billing.infra.child import log_tail, wait_until

ROUNDS = 3
WINDOW_S = 1.2
WARM_S = 0.4
START_TIMEOUT_S = 20.0
WIDTH = 100


class Candidate(msgspec.Struct, frozen=True):
    """A proxy and the command that starts it on a port."""

    name: str
    command: Callable[[int], list[str]]


class Shape(msgspec.Struct, frozen=True):
    """A kind of load, as members of a job, and what is read from it."""

    heading: str
    members: dict[str, object]
    figure: Callable[[Measured], float]
    digits: int = 0


SATURATED = {"connections": 32}
PACED = {"connections": 100, "stream": True, "tokens": 200, "pace_ms": 5, "warm_s": 1.0 + WARM_S}
SHAPES = (
    Shape("CPU µs/request", SATURATED, lambda one: 1e6 * one.cpu_s["subject"] / one.requests, 1),
    Shape("requests/s", SATURATED, lambda one: one.requests / one.window_s),
    Shape("CPU µs/paced chunk", PACED, lambda one: 1e6 * one.cpu_s["subject"] / one.chunks, 1),
    Shape(
        "p50 ms at 200/s",
        {"connections": 32, "rate": 200.0},
        lambda one: one.latency_ms.p50 if one.latency_ms else float("nan"),
        2,
    ),
)


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def uvicorn(factory: str) -> Callable[[int], list[str]]:
    """A command that runs uvicorn as the gateway does, with an application made by ``module:factory``."""
    options = "--factory --loop uvloop --http httptools --ws none --lifespan off --no-access-log --log-level warning"
    return lambda port: python("-m", "uvicorn", factory, *options.split(), "--port", str(port))


def run(title: str, candidates: Sequence[Candidate]) -> None:
    """Measure all candidates and nginx, round after round, and print the medians."""
    console = Console(highlight=False, width=WIDTH)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    core, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [core])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        engine = stack.enter_context(processes.engine(folder))
        loader = stack.enter_context(processes.loader(folder))
        targets = [_start(stack, folder, engine, candidate) for candidate in candidates]
        if (program := processes.nginx_path()) is not None:
            targets.append(stack.enter_context(processes.nginx(program, folder, engine.port)))
        targets = [msgspec.structs.replace(target, pids=tree(target.pids)) for target in targets]
        pin([pid for target in targets for pid in target.pids], core)
        for _ in range(ROUNDS):
            for target in targets:
                _measure(loader, target, found)
    _show(console, title, [target.name for target in targets], found)


def _start(stack: contextlib.ExitStack, folder: Path, engine: Target, candidate: Candidate) -> Target:
    port = processes.free_port()
    environment = f"BENCH_ENGINE_PORT={engine.port}"
    command = [shutil.which("env") or "/usr/bin/env", environment, *candidate.command(port)]
    log_name = candidate.name.replace(" ", "-").replace("/", "-")
    process = stack.enter_context(processes.running(command, folder, log_name))
    if not wait_until(lambda: processes.answers(port), START_TIMEOUT_S):
        raise Fault(f"{candidate.name} did not start: {log_tail(folder / f'{log_name}.log')}")
    return Target(candidate.name, port, [process.pid])


def _measure(loader: Loader, target: Target, found: dict[tuple[str, str], list[float]]) -> None:
    measured: dict[int, Measured] = {}
    for shape in SHAPES:
        if id(shape.members) not in measured:
            common = {"host": HOST, "port": target.port, "key": target.key, "model": target.model}
            job = {**common, "warm_s": WARM_S, "window_s": WINDOW_S, "watch": {"subject": target.pids}}
            measured[id(shape.members)] = loader.run(msgspec.convert({**job, **shape.members}, Job))
        found[target.name, shape.heading].append(shape.figure(measured[id(shape.members)]))


def _show(console: Console, title: str, names: list[str], found: dict[tuple[str, str], list[float]]) -> None:
    table = Table(title=f"{title}; medians of {ROUNDS} rounds", title_justify="left")
    table.add_column("")
    for shape in SHAPES:
        table.add_column(shape.heading, justify="right")
    for name in names:
        values = (statistics.median(found[name, shape.heading]) for shape in SHAPES)
        cells = [f"{value:,.{shape.digits}f}" for value, shape in zip(values, SHAPES, strict=True)]
        table.add_row(name, *cells)
    console.print(table)
    console.print(f"load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
