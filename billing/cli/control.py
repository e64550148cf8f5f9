"""``billing control``, and where the hash of the admin token lies."""

import os
from pathlib import Path

import click
import msgspec

from billing.cli import output
from billing.cli.context import Context
from billing.errors import InvalidInput, Misconfigured
from billing.settings import ControlSettings, Settings, check

TOKEN_FILE = "admin_token.sha256"  # noqa: S105 - a file's name
"""Below the data folder: the hash of the admin token, readable by its owner only."""
HASH_FILE_BYTES_MAX = 1_024
_DEFAULTS = ControlSettings()


@click.command("control")
@click.option("--host", default=_DEFAULTS.host, show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=int, default=_DEFAULTS.port, show_default=True, help="Port to listen on; 0 picks one."
)
@click.pass_obj
def control(context: Context, host: str, port: int) -> None:
    """Run the admin API until Ctrl-C or SIGTERM: /api/v1, its documentation at /api/docs, and /metrics.

    It asks for the admin token: BILLING_ADMIN_TOKEN, or the one that `billing admin-token --new` made.
    """
    from billing.app import control as process

    chosen = msgspec.structs.replace(context.settings.control, host=host, port=port)
    settings = check(msgspec.structs.replace(with_admin_token(context.with_database()), control=chosen))
    if settings.admin_token_hash is None:
        output.note(
            "No admin token is set: nothing but /healthz and /readyz is open. Run billing admin-token --new"
        )
    process.main(settings)


def with_admin_token(settings: Settings) -> Settings:
    """The settings with the hash of the admin token: the environment's, else the data folder's, else none."""
    if settings.admin_token_hash is not None:
        return settings
    return msgspec.structs.replace(settings, admin_token_hash=stored_hash(settings.data_dir))


def admin_token(data_dir: Path) -> tuple[str | None, str]:
    """The admin token of a data folder and its hash; the token only when this call made it, to be shown this once.

    Raises ``Misconfigured`` when the file with the hash cannot be read or written.
    """
    found = stored_hash(data_dir)
    return (None, found) if found is not None else new_admin_token(data_dir)


def new_admin_token(data_dir: Path) -> tuple[str, str]:
    """A new token in place of whatever was there, and its hash, which is kept."""
    from billing.access import token
    from billing.infra.system import random_bytes

    made = token.make(random_bytes(token.RANDOM_BYTES))
    path = data_dir / TOKEN_FILE
    fresh = path.with_name(f"{TOKEN_FILE}.{os.getpid()}.new")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{made.hash}\n")
        fresh.replace(path)
    except OSError as fault:
        raise Misconfigured(f"{path} cannot be written: {fault.strerror}") from fault
    return made.text, made.hash


def stored_hash(data_dir: Path) -> str | None:
    """The hash in a data folder, None where there is none; raises ``Misconfigured`` when it is not one."""
    from billing.access import token

    path = data_dir / TOKEN_FILE
    try:
        with path.open("rb") as file:
            text = file.read(HASH_FILE_BYTES_MAX).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise Misconfigured(f"{path} cannot be read: {fault.strerror}") from fault
    try:
        return token.check_hash(text, str(path))
    except InvalidInput as fault:
        raise Misconfigured(f"{fault}; make another by billing admin-token --new") from fault
