"""``billing tenants``."""

import click

from billing.cli import output
from billing.cli.context import Context
from billing.tenants.tenant import DEFAULT_TIMEZONE, Tenant, TenantStatus

ZONE_HELP = "Where its months begin, for example Asia/Kolkata"
EMPTY = 'No tenants yet. Make one: billing tenants create acme --name "Acme Inc."'


@click.group("tenants")
def tenants() -> None:
    """Who is billed."""


@tenants.command("create")
@click.argument("slug")
@click.option("--name", help="The name on invoices; the slug unless given.")
@click.option("--timezone", metavar="ZONE", default=DEFAULT_TIMEZONE, show_default=True, help=f"{ZONE_HELP}.")
@output.json_option
@click.pass_obj
def create(context: Context, slug: str, name: str | None, timezone: str, as_json: bool) -> None:
    """Make a tenant. SLUG is its name in commands, for example acme."""
    made = context.run(lambda services: services.tenants.create_tenant(slug, name, timezone))
    if as_json:
        output.document(_document(made))
        return
    output.line(f"Tenant {made.slug} ({made.name}) is there.")
    output.note(f"Next: billing keys create --tenant {made.slug}")


@tenants.command("change")
@click.argument("slug")
@click.option("--name", help="Another name on invoices.")
@click.option("--timezone", metavar="ZONE", help=f"{ZONE_HELP}; invoiced months keep theirs.")
@click.option(
    "--status", type=click.Choice([each.value for each in TenantStatus]), help="Whether it is served."
)
@output.json_option
@click.pass_obj
def change(
    context: Context, slug: str, name: str | None, timezone: str | None, status: str | None, as_json: bool
) -> None:
    """Change a tenant's name, time zone or status."""
    wanted = None if status is None else TenantStatus(status)
    changed = context.run(
        lambda services: services.tenants.change_tenant(slug, name=name, timezone=timezone, status=wanted)
    )
    if as_json:
        output.document(_document(changed))
        return
    output.line(f"Tenant {changed.slug} is {changed.name}, {changed.status}, in {changed.timezone}.")


@tenants.command("list")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, rows_max: int, as_json: bool) -> None:
    """Show tenants by slug."""
    found = context.run(lambda services: services.tenants.list_tenants(rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    columns = ("Tenant", "Name*", "Status", "Time zone", "Created")
    output.listing(columns, found, _row, rows_max=rows_max, empty=EMPTY)


def _row(tenant: Tenant) -> tuple[str, ...]:
    return tenant.slug, tenant.name, tenant.status, tenant.timezone, output.day(tenant.created_at_us)


def _document(tenant: Tenant) -> dict[str, object]:
    return {
        "id": tenant.id,
        "slug": tenant.slug,
        "name": tenant.name,
        "status": tenant.status,
        "timezone": tenant.timezone,
        "created_at": output.timestamp(tenant.created_at_us),
    }
