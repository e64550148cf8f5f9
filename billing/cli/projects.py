"""``billing projects``."""

import click

from billing.cli import output
from billing.cli.context import Context
from billing.tenants.project import Project


@click.group("projects")
def projects() -> None:
    """Parts of a tenant's usage that are looked at on their own."""


@projects.command("create")
@click.argument("slug")
@output.tenant_option
@click.option("--name", help="The project's name; the slug unless given.")
@output.json_option
@click.pass_obj
def create(context: Context, slug: str, tenant_slug: str, name: str | None, as_json: bool) -> None:
    """Make a project of a tenant."""
    made = context.run(lambda services: services.tenants.create_project(tenant_slug, slug, name))
    if as_json:
        output.document(_document(made))
        return
    output.line(f"Project {made.slug} of tenant {tenant_slug} is there.")
    output.note(f"Next: billing keys create --tenant {tenant_slug} --project {made.slug}")


@projects.command("archive")
@click.argument("slug")
@output.tenant_option
@output.json_option
@click.pass_obj
def archive(context: Context, slug: str, tenant_slug: str, as_json: bool) -> None:
    """Refuse the keys of a project from now on. Its usage stays on its tenant's invoice."""
    found = context.run(lambda services: services.tenants.archive_project(tenant_slug, slug))
    if as_json:
        output.document(_document(found))
        return
    output.line(
        f"Project {found.slug} of tenant {tenant_slug} is archived since {output.when(found.archived_at_us)} UTC."
    )


@projects.command("list")
@output.tenant_option
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, tenant_slug: str, rows_max: int, as_json: bool) -> None:
    """Show a tenant's projects by slug."""
    found = context.run(lambda services: services.tenants.list_projects(tenant_slug, rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    empty = f"Tenant {tenant_slug} has no projects; they are optional. Make one: billing projects create web --tenant {tenant_slug}"
    output.listing(("Project", "Name*", "Created", "Archived"), found, _row, rows_max=rows_max, empty=empty)


def _row(project: Project) -> tuple[str, ...]:
    archived = output.when(project.archived_at_us)
    return project.slug, project.name, output.day(project.created_at_us), archived


def _document(project: Project) -> dict[str, object]:
    return {
        "id": project.id,
        "tenant_id": project.tenant_id,
        "slug": project.slug,
        "name": project.name,
        "created_at": output.timestamp(project.created_at_us),
        "archived_at": output.timestamp(project.archived_at_us),
    }
