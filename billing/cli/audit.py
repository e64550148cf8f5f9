"""``billing audit``."""

from typing import TYPE_CHECKING

import click

from billing.access.audit import SUBJECTS, AuditEntry, AuditFilter
from billing.cli import output
from billing.cli.context import Context

if TYPE_CHECKING:  # importing it brings SQLAlchemy along
    from billing.cli.services import Services

EMPTY = "Nothing was written that these options mean."
COLUMNS_SHOWN_MAX = 6
"""Names of changed columns that a row shows; --json has all of them with their values."""


@click.command("audit")
@click.option("--tenant", "tenant_slug", metavar="SLUG", help="Writes that concern one tenant.")
@click.option("--subject", type=click.Choice(SUBJECTS), help="Writes of one kind of thing.")
@click.option("--actor", help="Writes of one actor, for example admin or cli:root.")
@output.limit_option
@output.json_option
@click.pass_obj
def audit(
    context: Context,
    tenant_slug: str | None,
    subject: str | None,
    actor: str | None,
    rows_max: int,
    as_json: bool,
) -> None:
    """Who changed what, newest first. The database keeps the log; nothing in it can be changed."""

    async def load(services: "Services") -> list[AuditEntry]:
        tenant_id = None if tenant_slug is None else (await services.tenants.tenant(tenant_slug)).id
        return await services.audit.entries(AuditFilter(tenant_id, subject, actor), rows_max + 1)

    found = context.run(load)
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    columns = ("Time UTC", "Actor*", "What", "Subject", "Id*", "Columns*")
    output.listing(columns, found, _row, rows_max=rows_max, empty=EMPTY)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    changed = entry.changed
    more = ", …" if len(changed) > COLUMNS_SHOWN_MAX else ""
    shown = ", ".join(changed[:COLUMNS_SHOWN_MAX]) + more
    return (
        output.when(entry.at_us),
        entry.actor,
        entry.action,
        output.words(entry.subject),
        entry.subject_id,
        shown if entry.action == "update" else "–",
    )


def _document(entry: AuditEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "at": output.timestamp(entry.at_us),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "subject_id": entry.subject_id,
        "tenant_id": entry.tenant_id,
        "before": entry.before,
        "after": entry.after,
    }
