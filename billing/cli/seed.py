"""``billing seed``."""

import asyncio
from typing import TYPE_CHECKING

import click

from billing.cli import output
from billing.cli.context import Context

if TYPE_CHECKING:
    from billing.app.seed import Made


@click.command("seed")
@click.option("--tenants", type=int, default=20, show_default=True, help="Synthetic tenants.")
@click.option("--days", type=int, default=60, show_default=True, help="Whole UTC days before today.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another number makes another history.")
@click.option(
    "--requests-per-day",
    type=int,
    default=50,
    show_default=True,
    help="Requests of a tenant in a day, in the mean.",
)
@click.pass_obj
def seed(context: Context, tenants: int, days: int, seed: int, requests_per_day: int) -> None:
    """Fill a database with made-up tenants and their usage, for demonstrations, screenshots and measurements.

    It goes the way of real usage, through a spool and the recorder, into DATABASE_URL or a running `billing up`. The
    same again adds nothing. A database with real tenants is refused.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from billing.app import seed as process
    from billing.cli.services import explained
    from billing.infra.system import new_id, now_us

    order = process.check(process.Order(tenants, days, seed, requests_per_day))
    settings = context.with_database()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]} records/s"), TimeElapsedColumn())  # fmt: skip
    screen = Console(stderr=True)
    drawing = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    with drawing as bar, explained(settings.database_url or ""):
        task = bar.add_task("Recording", total=order.requests, rate="–")

        def advance(count: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=count, rate=f"{speed:,.0f}" if speed else "–")

        made = asyncio.run(process.run(settings, order, now_us, new_id, advance))
        bar.update(task, total=made.requests, completed=made.requests)
    _report(made)


def _report(made: "Made") -> None:
    rate = f"{made.requests / made.seconds:,.0f}" if made.seconds else "–"
    output.heading("Synthetic history", f"{output.day(made.start_us)} to {output.day(made.end_us)} UTC")
    output.facts([
        ("Tenants", f"{made.tenants} (synthetic-01 …), {made.new_tenants} of them new"),
        ("Requests", output.count(made.requests)),
        ("Recorded", output.count(made.recorded)),
        ("There already", output.count(made.duplicates)),
        ("Quarantined", output.count(made.quarantined)),
        ("Time", f"{made.seconds:.1f} s, {rate} requests/s"),
    ])  # fmt: skip
    period = output.day(made.end_us - 1)[:7]
    output.paragraph("Look at it:")
    for command in ("usage", "invoices preview"):
        output.line(f"  billing {command} --tenant synthetic-01 --period {period}")
