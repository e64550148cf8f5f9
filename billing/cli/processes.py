"""``billing up``, ``demo``, ``gateway`` and ``recorder``: the commands that run processes."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from billing.cli import output
from billing.cli.context import Context
from billing.errors import InvalidInput
from billing.fleet.backend import check_url
from billing.settings import ControlSettings, Durability, GatewaySettings, LimitsSettings, Settings, check

Command = TypeVar("Command", bound=Callable[..., Any])

MILLISECONDS_PER_SECOND = 1_000
BACKENDS_MAX = 16
"""Addresses that one start looks at."""
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
        click.option(
            "--replicas-max",
            type=int,
            default=LimitsSettings().replicas_max,
            show_default=True,
            help="Workers over all gateways at most: what an open limit is shared by while Valkey is away.",
        ),
        click.option(
            "--limits-timeout-ms",
            type=click.IntRange(1, 10_000),
            default=50,
            show_default=True,
            help="How long Valkey may take to decide before a limit's failure policy does.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def machine_options(command: Command) -> Command:
    """Where everything of one machine listens."""
    control_port = click.option(
        "--control-port",
        type=click.IntRange(0, 65_535),
        default=ControlSettings().port,
        show_default=True,
        help="Port of the page and the admin API; 0 picks one.",
    )
    return gateway_options(control_port(command))


def machine_settings(
    context: Context, control_port: int, options: dict[str, Any], *, data_dir: Path | None = None
) -> tuple[Settings, str | None]:
    """The settings of one machine with its admin token's hash, and the token if this call made it.

    A token in the environment is used as it is. ``data_dir`` is a folder whose token is made anew at every start.
    """
    from billing.cli.control import admin_token, new_admin_token

    settings = settings_of(context.settings, **options)
    control = msgspec.structs.replace(settings.control, port=control_port)
    settings = msgspec.structs.replace(settings, control=control)
    if settings.admin_token_hash is not None:
        return settings, None
    made, hashed = admin_token(settings.data_dir) if data_dir is None else new_admin_token(data_dir)
    return msgspec.structs.replace(settings, admin_token_hash=hashed), made


def settings_of(
    settings: Settings,
    *,
    workers: int,
    host: str,
    port: int,
    durability: str,
    replicas_max: int = LimitsSettings().replicas_max,
    limits_timeout_ms: int = 50,
) -> Settings:
    """The settings with the gateway's options, checked whole."""
    chosen = msgspec.structs.replace(
        settings.gateway, workers=workers, host=host, port=port, durability=Durability(durability)
    )
    limits = msgspec.structs.replace(
        settings.limits, replicas_max=replicas_max, timeout_s=limits_timeout_ms / MILLISECONDS_PER_SECOND
    )
    return check(msgspec.structs.replace(settings, gateway=chosen, limits=limits))


@click.command("gateway")
@gateway_options
@click.option(
    "--control-url",
    metavar="URL",
    help="Where tenants reach the control process: named to those who ask the gateway for their usage.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    help="Answer /metrics here, with the admin token, on a host without a control process.",
)
@click.pass_obj
def gateway(context: Context, /, metrics_port: int | None, control_url: str | None, **options: Any) -> None:
    """Run the gateway until Ctrl-C or SIGTERM: N workers behind one listening socket."""
    from billing.app import gateway as process
    from billing.cli.control import with_admin_token

    settings = with_admin_token(settings_of(context.with_database(), **options))
    told = msgspec.structs.replace(
        settings.gateway, control_url=control_url and check_url(control_url, "--control-url")
    )
    settings = msgspec.structs.replace(settings, gateway=told)
    process.main(settings, metrics_port=metrics_port)


@click.command("recorder")
@click.pass_obj
def recorder(context: Context) -> None:
    """Run the recorder until Ctrl-C or SIGTERM: spools become usage records, each exactly once."""
    from billing.app.recorder_child import record
    from billing.infra import log

    log.set_up()
    asyncio.run(record(context.with_database()))


def addresses_of(backends: Sequence[str]) -> list[str]:
    """Addresses of model servers, each once; raises ``InvalidInput`` before anything starts."""
    if len(backends) > BACKENDS_MAX:
        raise InvalidInput(f"--backend: at most {BACKENDS_MAX} addresses, got {len(backends)}")
    return list(dict.fromkeys(check_url(url, "--backend") for url in backends))


@click.command("up")
@click.option(
    "--backend",
    "backends",
    metavar="URL",
    multiple=True,
    help="A model server to bill for, http://host:port; may repeat. Without it the usual ports are looked at.",
)
@machine_options
@click.pass_obj
def up(context: Context, /, backends: tuple[str, ...], control_port: int, **options: Any) -> None:
    """Run everything on this machine until Ctrl-C, on loopback.

    Postgres and Valkey are brought along unless DATABASE_URL and REDIS_URL name others. Model servers on the ports
    8000, 8080, 11434 and 30000 are found and added; the first start makes a tenant and its key.
    """
    from billing.app import up as process

    addresses = addresses_of(backends)
    settings, admin_token = machine_settings(context, control_port, options)
    process.main(settings, output.lines, addresses, admin_token=admin_token)


@click.command("demo")
@click.option(
    "--once", is_flag=True, help="End after the report, with exit code 0 only if everything agreed."
)
@machine_options
@click.pass_obj
def demo(context: Context, /, once: bool, control_port: int, **options: Any) -> None:
    """Show the product with a real model server: traffic, counts, a limit, a killed worker, two invoices."""
    from billing.app import demo as process

    folder = context.settings.data_dir / process.DATA_FOLDER
    settings, admin_token = machine_settings(context, control_port, options, data_dir=folder)
    sys.exit(process.main(settings, once=once, show=output.lines, admin_token=admin_token))
