"""The ``billing`` command. A command's module is imported when the command is called, so that ``--help`` answers at once."""

import sys
from importlib import import_module
from typing import Any

import click

from billing.cli.context import Context
from billing.errors import BillingError

SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "up": "Run everything on this machine, with its own Postgres and Valkey.",
        "demo": "Show the product with a real model server, from request to invoice.",
        "seed": "Fill a database with made-up tenants and usage.",
        "gateway": "Run the gateway: N workers behind one listening socket.",
        "recorder": "Run the recorder: spools become usage records.",
        "control": "Run the admin API, its documentation and the metrics.",
        "migrate": "Bring the database's schema up to date.",
        "admin-token": "Make the token that opens the admin API.",
    },
    "Set up": {
        "tenants": "Who is billed.",
        "projects": "Parts of a tenant's usage that are looked at on their own.",
        "keys": "API keys of a tenant: create, list, revoke.",
        "backends": "Model servers that answer requests.",
        "models": "Models that callers may ask for, and where they are answered.",
        "plans": "Price plans from YAML, in dated versions that never change.",
        "subscriptions": "Which plan prices a tenant's usage, and when.",
        "limits": "How much a tenant, project or key may use: requests, tokens, at once.",
    },
    "Look": {
        "usage": "Tokens of a tenant by model, component and provenance.",
        "events": "Report usage that did not pass the gateway: training, batch jobs.",
        "invoices": "What a tenant owes: preview, close a month, show, verify.",
        "requests": "The latest usage records with their counts.",
        "trace": "One request from its key to its cost.",
        "audit": "Who changed what, and when.",
    },
}
"""Every command with its line of help, in the order in which a newcomer needs them."""

_PROCESSES = ("up", "demo", "gateway", "recorder")


class Failure(click.ClickException):
    """A domain error at the edge: one line on stderr and exit code 1, never a traceback."""

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Write the line."""
        from billing.cli import output

        output.error(self.message)


class Commands(click.Group):
    """The commands of :data:`SECTIONS`, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the sections."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, from the module named after it."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"billing.cli.{'processes' if cmd_name in _PROCESSES else name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - same
        """One block a section, from the table above and not from the commands."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(names.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for; a domain error becomes its one line."""
        try:
            return super().invoke(ctx)
        except BillingError as fault:
            raise Failure(str(fault)) from fault


def _print_version(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"billing {version('gpu-billing')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data-dir", metavar="FOLDER", help="Where local data is kept (BILLING_DATA_DIR, default .billing)."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def cli(ctx: click.Context, data_dir: str | None) -> None:
    """Token metering and billing for GPU inference: exact counts, durable records, exact money.

    Start with `billing demo`, or with `billing up` beside your own model servers.
    """
    ctx.obj = Context.from_environment(data_dir)


def main() -> None:
    """The console script's entry."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="replace"
            )  # a terminal that cannot show a sign shows ? instead of a traceback
    cli(prog_name="billing")


if __name__ == "__main__":
    main()
