"""What the demo prints: the commands an operator would use, run before the reader's eyes, and tables of what agreed."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from billing.app.demo_check import Line, Totals
from billing.app.demo_engines import Engines
from billing.app.demo_traffic import GOLDEN
from billing.app.machine import Machine

REPORT_TIMEOUT_S = 60.0
REPORT_COLUMNS = 120


def run_command(data_dir: Path, arguments: Sequence[str], show: Callable[[str], None]) -> None:
    """Run a ``billing`` command with its line above what it prints; raises ``CalledProcessError`` when it fails."""
    show(f"\n$ billing --data-dir {_short(str(data_dir))} {' '.join(arguments)}")
    sys.stdout.flush()
    subprocess.run(  # noqa: S603 - this program itself
        [sys.executable, "-m", "billing.cli.main", "--data-dir", str(data_dir), *arguments],
        check=True,
        timeout=REPORT_TIMEOUT_S,
    )


def print_engine_lines(lines: Sequence[Line]) -> None:
    """Recorded tokens against the engines' own counters, phase by phase."""
    table = _table("Recorded tokens against llama.cpp's own counters", "Phase")
    for name in ("Requests", "Input\nengine", "Input\nrecorded", "Output\nengine", "Output\nrecorded", "Missing\n(allowed)"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Agrees", no_wrap=True)
    for line in lines:
        numbers = (line.requests, line.engine.input, line.recorded.input, line.engine.output, line.recorded.output)  # fmt: skip
        missing = f"{line.engine.output - line.recorded.output} ({line.output_difference_max})"
        table.add_row(line.what, *(f"{number:,}" for number in numbers), missing, _yes(agrees=line.agrees))
    _print(table)


def print_totals(totals: Sequence[Totals]) -> None:
    """Tokens of each tenant on every surface (P14)."""
    table = _table("Tokens of the month on every surface: billed + waived + under review", "Tenant")
    for name in ("Records", "Rollup", "Invoice", "billed", "waived", "under\nreview"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Equal", no_wrap=True)
    for each in totals:
        numbers = (each.records, each.rollup, each.invoice, each.billed, each.waived, each.review)
        table.add_row(each.tenant, *(f"{number:,}" for number in numbers), _yes(agrees=each.agrees))
    _print(table)


def where(running: Machine, key: str, engines: Engines, admin_token: str | None) -> str:
    """Where everything is, and a request to try."""
    page = running.control_url + (f"/login#token={admin_token}" if admin_token else "/")
    return f"""
The page     {page}
Gateway      {running.gateway_url}/v1
llama.cpp    {", ".join(f"{name} {server.url}" for name, server in engines.by_model().items())}
Data, logs   {running.settings.data_dir}

Try it:
  curl {running.gateway_url}/v1/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{GOLDEN}", "messages": [{{"role": "user", "content": "Hello there"}}]}}'

In another terminal, in this folder:
  .venv/bin/billing --data-dir {_short(str(running.settings.data_dir))} invoices list

Ctrl-C stops everything."""


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    return table


def _print(table: Table) -> None:
    console = Console(width=REPORT_COLUMNS)
    console.print()
    console.print(table)


def _yes(*, agrees: bool) -> str:
    return "yes" if agrees else "NO"


def _short(folder: str) -> str:
    """A folder as it would be typed here."""
    return os.path.relpath(folder)
