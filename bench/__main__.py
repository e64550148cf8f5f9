"""``make bench``: CPU time of the gateway's process tree per request and per streamed chunk, beside nginx's.

See ``bench/README.md``. Exit code 0: the bars are held; 1: one is missed or a record is; 2: it could not be measured.
"""

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console

from bench import plan, processes, report
from bench.cpu import Neighbours, pin, tree
from bench.gateway import PROBES, Gateway, gateway
from bench.processes import Fault, Target
from billing.errors import BillingError
from billing.settings import Durability

SYNC_SAMPLES = 50
WIDTH = 100
SYNC_BYTES = 300


class Conditions(msgspec.Struct, frozen=True):
    """What the figures depend on beside the code."""

    python: str
    cores: int
    others_cores: float
    """Cores that processes of others kept busy meanwhile."""
    durability: Durability
    sync_ms: float
    """Median of appending 300 bytes to a file and syncing it, where the spool lies."""
    rounds: int
    window_s: float


class Outcome(msgspec.Struct, frozen=True):
    """Everything that a run found out."""

    passed: bool
    requests: int
    records: int
    conditions: Conditions
    rows: list[report.Row]


def main() -> int:
    """Run it; the exit code."""
    given = _arguments()
    # Ended like by Ctrl-C, so that everything it started is stopped and its folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Console(stderr=True, highlight=False)
    try:
        outcome = _run(given, progress)
    except (Fault, BillingError) as fault:
        progress.print(f"[red]the benchmark could not be done:[/] {fault}")
        return 2
    except KeyboardInterrupt:
        return 130
    if given.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n")
    else:
        _show(outcome)
    return 0 if outcome.passed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute instead of under four")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument(
        "--durability", type=Durability, default=Durability.BEFORE_REPLY, choices=list(Durability)
    )
    parser.add_argument(
        "--dir", type=Path, help="where to put the data; the disk matters (default: the temporary folder)"
    )
    return parser.parse_args()


def _run(given: argparse.Namespace, progress: Console) -> Outcome:
    effort = plan.QUICK if given.quick else plan.FULL
    subject_core = _leave_one_core()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=given.dir)))
        sync_ms = _sync_ms(folder)
        engine = stack.enter_context(processes.engine(folder))
        loader = stack.enter_context(processes.loader(folder))
        targets = {plan.DIRECT: engine}
        if (beside := _nginx(stack, folder, engine.port, progress)) is not None:
            targets[plan.NGINX] = beside
        ours = stack.enter_context(gateway(folder / "data", engine.port, given.durability, progress.print))
        targets[plan.GATEWAY] = ours.target
        pin(tree(pid for name in targets if name != plan.DIRECT for pid in targets[name].pids), subject_core)
        neighbours = Neighbours()
        samples = plan.measure(loader, targets, ours.beside, effort, progress.print)
        conditions = _conditions(given, effort, samples, sync_ms, neighbours.cores())
        ours.require_unharmed()
        requests, records = _account(ours, samples)
    return _outcome(samples, ours, requests, records, conditions)


def _leave_one_core() -> int:
    """Keep everything that starts from here off one core, which the subjects get to themselves; that core."""
    first, *others = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(0, others)
    return first


def _nginx(stack: contextlib.ExitStack, folder: Path, engine_port: int, progress: Console) -> Target | None:
    program = processes.nginx_path()
    if program is None:
        progress.print("nginx is not installed, so there will be no ratios: apt-get install nginx")
        return None
    return stack.enter_context(processes.nginx(program, folder, engine_port))


def _account(ours: Gateway, samples: plan.Samples) -> tuple[int, int]:
    """How many requests the gateway answered, and how many of them are records in Postgres."""
    sent = PROBES + sum(
        one.requests_whole_job
        for (_, target), all_of in samples.items()
        if target == plan.GATEWAY
        for one in all_of
    )
    return sent, ours.recorded(sent)


def _conditions(
    given: argparse.Namespace, effort: plan.Effort, samples: plan.Samples, sync_ms: float, others_cores: float
) -> Conditions:
    return Conditions(
        python=sys.version.split()[0],
        cores=os.cpu_count() or 1,
        others_cores=others_cores,
        durability=given.durability,
        sync_ms=sync_ms,
        rounds=max(map(len, samples.values())),
        window_s=effort.window_s,
    )


def _outcome(
    samples: plan.Samples, ours: Gateway, requests: int, records: int, conditions: Conditions
) -> Outcome:
    rows = report.rows(samples, ours.beside)
    passed = requests == records and not any(row.missed for row in rows)
    return Outcome(passed, requests, records, conditions, rows)


def _sync_ms(folder: Path) -> float:
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNC_SAMPLES):
            began = time.perf_counter()
            file.write(bytes(SYNC_BYTES))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def _show(outcome: Outcome) -> None:
    console, under = Console(highlight=False, width=WIDTH), outcome.conditions
    title = f"Gateway with everything on, one worker, {under.durability}; medians of {under.rounds} rounds"
    report.show(console, outcome.rows, title)
    console.print(
        f"{outcome.requests:,} requests answered, {outcome.records:,} records in PostgreSQL. "
        f"Python {under.python}, {under.cores} cores, "
        f"{under.others_cores:.1f} of them busy with other work, a sync of the disk {under.sync_ms:.2f} ms. "
        "Ratios hold on a busy machine, times do not."
    )
    missed = [row.title.strip() for row in outcome.rows if row.missed]
    if missed:
        console.print(f"[red]over the bar:[/] {'; '.join(missed)}")
    if outcome.requests != outcome.records:
        console.print("[red]not every request became exactly one record[/]")


if __name__ == "__main__":
    sys.exit(main())
