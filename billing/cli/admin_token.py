"""``billing admin-token``."""

import click

from billing.cli import output
from billing.cli.context import Context
from billing.cli.control import TOKEN_FILE, new_admin_token, stored_hash


@click.command("admin-token")
@click.option("--new", "is_new", is_flag=True, help="Make one, in place of the one before.")
@click.pass_obj
def admin_token(context: Context, is_new: bool) -> None:
    """Make the token that opens the admin API and show it, this once. Only its hash is kept.

    A control process that runs takes the new one when it is started again.
    """
    data_dir = context.settings.data_dir
    if not is_new:
        is_there = stored_hash(data_dir) is not None
        output.line(
            f"{data_dir / TOKEN_FILE} {'holds the hash of a token' if is_there else 'is not there yet'}."
        )
        output.note("Make a token: billing admin-token --new")
        return
    text, _ = new_admin_token(data_dir)
    output.note("Admin token, shown this once. Keep it:")
    output.line(text)
    output.note("Send it as:  Authorization: Bearer adm-…")
