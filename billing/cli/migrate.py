"""``billing migrate``."""

import click

from billing.cli import output
from billing.cli.context import Context


@click.command("migrate")
@click.pass_obj
def migrate(context: Context) -> None:
    """Bring the database's schema up to date. Gateways never do this by themselves."""
    from billing.cli.services import explained
    from billing.infra.migrate import upgrade

    url = context.with_database().database_url
    assert url is not None  # noqa: S101 - with_database raised otherwise
    with explained(url):
        upgrade(url)
    output.line("The database is up to date.")
