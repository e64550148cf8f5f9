"""``billing up``, ``demo``, ``gateway`` and ``recorder``: the commands that run processes."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from billing.cli import output
from billing.cli.context import Context
from billing.settings import Durability, GatewaySettings, Settings, check

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULTS = GatewaySettings()


def gateway_options(command: Command) -> Command:
    """Where the gateway listens, with how many workers, and when a reply's record must be on disk."""
    options = (
        click.option(
            "--workers", type=int, default=_DEFAULTS.workers, show_default=True, help="Worker processes."
        ),
        click.option("--host", default=_DEFAULTS.host, show_default=True, help="Address to listen on."),
        click.option(
            "--port",
            type=int,
            default=_DEFAULTS.port,
            show_default=True,
            help="Port to listen on; 0 picks one.",
        ),
        click.option(
            "--durability",
            type=click.Choice([each.value for each in Durability]),
            default=_DEFAULTS.durability.value,
            show_default=True,
            help="Whether a reply's record is on disk before the reply ends or soon after.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(settings: Settings, *, workers: int, host: str, port: int, durability: str) -> Settings:
    """The settings with the gateway's options, checked whole."""
    chosen = msgspec.structs.replace(
        settings.gateway, workers=workers, host=host, port=port, durability=Durability(durability)
    )
    return check(msgspec.structs.replace(settings, gateway=chosen))


@click.command("gateway")
@gateway_options
@click.pass_obj
def gateway(context: Context, /, **options: Any) -> None:
    """Run the gateway until Ctrl-C or SIGTERM: N workers behind one listening socket."""
    from billing.app import gateway as process

    process.main(settings_of(context.with_database(), **options))


@click.command("recorder")
@click.pass_obj
def recorder(context: Context) -> None:
    """Run the recorder until Ctrl-C or SIGTERM: spools become usage records, each exactly once."""
    from billing.app.recorder_child import record
    from billing.infra import log

    log.set_up()
    asyncio.run(record(context.with_database()))


@click.command("up")
@gateway_options
@click.pass_obj
def up(context: Context, /, **options: Any) -> None:
    """Run everything on this machine until Ctrl-C, on loopback.

    Postgres and Valkey are brought along unless DATABASE_URL and REDIS_URL name others.
    """
    from billing.app import up as process

    process.main(settings_of(context.settings, **options), output.lines)


@click.command("demo")
@click.option(
    "--once", is_flag=True, help="End after the report, with exit code 0 only if everything agreed."
)
@gateway_options
@click.pass_obj
def demo(context: Context, /, once: bool, **options: Any) -> None:
    """Show the product with a real model server: traffic, counts, a killed worker, an invoice."""
    from billing.app import demo as process

    sys.exit(process.main(settings_of(context.settings, **options), once=once, show=output.lines))
