"""``billing backends``."""

from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from billing.cli import output
from billing.cli.context import Context
from billing.fleet.backend import Backend, EngineKind, OnHangUp

Command = TypeVar("Command", bound=Callable[..., Any])

ENGINES = click.Choice([kind.value for kind in EngineKind])
HANG_UPS = click.Choice([each.value for each in OnHangUp])
HANG_UP_HELP = (
    "When a client leaves before its whole reply is there: the engine stops and what is known is billed, or it "
    "finishes and all is billed, or it streams, stops at once and is counted exactly."
)

EMPTY = "No backends yet. Add one: billing backends add gpu-1 --url http://127.0.0.1:8000 --engine vllm"


@click.group("backends")
def backends() -> None:
    """Model servers that answer requests."""


def backend_options(command: Command) -> Command:
    """What a model server is."""
    options = (
        click.argument("name"),
        click.option("--url", required=True, help="Base address, without /v1: http://127.0.0.1:8000"),
        click.option(
            "--engine",
            required=True,
            type=ENGINES,
            help="What answers there; generic if it is none of the others.",
        ),
        click.option(
            "--credential-file",
            type=click.File("r"),
            help="A file with the server's API key; - reads standard input.",
        ),
        click.option(
            "--on-hang-up",
            type=HANG_UPS,
            default=OnHangUp.ABORT.value,
            show_default=True,
            help=HANG_UP_HELP,
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@backends.command("add")
@backend_options
@output.json_option
@click.pass_obj
def add(
    context: Context,
    name: str,
    url: str,
    engine: str,
    credential_file: TextIO | None,
    on_hang_up: str,
    as_json: bool,
) -> None:
    """Add a model server. A credential comes from a file, so that no process list or history shows it."""
    credential = credential_file.read().strip() if credential_file is not None else None
    made = context.run(
        lambda services: services.fleet.add_backend(
            name, url, engine, credential=credential, on_hang_up=on_hang_up
        )
    )
    if as_json:
        output.document(_document(made))
        return
    output.line(f"Backend {made.name} ({made.engine} at {made.url}) is there.")
    output.note(f"Next: billing models add MODEL --backend {made.name}")


@backends.command("put")
@backend_options
@output.json_option
@click.pass_obj
def put(
    context: Context,
    name: str,
    url: str,
    engine: str,
    credential_file: TextIO | None,
    on_hang_up: str,
    as_json: bool,
) -> None:
    """Change a model server in every part, also its credential, or add it; one that was archived answers again."""
    credential = credential_file.read().strip() if credential_file is not None else None
    made = context.run(
        lambda services: services.fleet.put_backend(
            name, url, engine, credential=credential, on_hang_up=on_hang_up
        )
    )
    if as_json:
        output.document(_document(made))
        return
    output.line(f"Backend {made.name} is {made.engine} at {made.url}.")


@backends.command("change")
@click.argument("name")
@click.option("--engine", type=ENGINES, help="What answers there.")
@click.option("--on-hang-up", type=HANG_UPS, help=HANG_UP_HELP)
@output.json_option
@click.pass_obj
def change(context: Context, name: str, engine: str | None, on_hang_up: str | None, as_json: bool) -> None:
    """Change parts of a model server and leave the others, its credential too; its address changes by put."""
    made = context.run(
        lambda services: services.fleet.change_backend(name, engine=engine, on_hang_up=on_hang_up)
    )
    if as_json:
        output.document(_document(made))
        return
    output.line(
        f"Backend {made.name} is {made.engine} at {made.url}; on hang-up: {output.words(made.on_hang_up)}."
    )


@backends.command("archive")
@click.argument("name")
@output.json_option
@click.pass_obj
def archive(context: Context, name: str, as_json: bool) -> None:
    """Send no more requests to a model server; put takes it back into service."""
    found = context.run(lambda services: services.fleet.archive_backend(name))
    if as_json:
        output.document(_document(found))
        return
    output.line(f"Backend {found.name} is archived since {output.when(found.archived_at_us)} UTC.")


@backends.command("list")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, rows_max: int, as_json: bool) -> None:
    """Show backends by name."""
    found = context.run(lambda services: services.fleet.list_backends(rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    columns = ("Backend", "Engine", "Address*", "Credential", "On hang-up*", "Added", "Archived")
    output.listing(columns, found, _row, rows_max=rows_max, empty=EMPTY)


def _row(backend: Backend) -> tuple[str, ...]:
    return (
        backend.name,
        backend.engine,
        backend.url,
        "set" if backend.has_credential else "none",
        output.words(backend.on_hang_up),
        output.day(backend.created_at_us),
        output.when(backend.archived_at_us),
    )


def _document(backend: Backend) -> dict[str, object]:
    return {
        "id": backend.id,
        "name": backend.name,
        "engine": backend.engine,
        "url": backend.url,
        "has_credential": backend.has_credential,
        "on_hang_up": backend.on_hang_up,
        "created_at": output.timestamp(backend.created_at_us),
        "archived_at": output.timestamp(backend.archived_at_us),
    }
