"""``billing keys``."""

from collections.abc import Iterable, Mapping
from uuid import UUID

import click

from billing.cli import output
from billing.cli.context import Context
from billing.cli.values import INSTANT, TAG
from billing.errors import InvalidInput
from billing.tenants.api_key import ApiKey

PROJECTS_MAX = output.ROWS_MAX


@click.group("keys")
def keys() -> None:
    """API keys of a tenant."""


@keys.command("create")
@output.tenant_option
@click.option("--project", "project_slug", metavar="SLUG", help="Count the key's usage for this project.")
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@click.option("--expires-at", type=INSTANT, help="When it stops opening the door, for example 2027-01-01.")
@click.option(
    "--tag", "tags", type=TAG, multiple=True, help="name=value, copied to every usage record; may repeat."
)
@output.json_option
@click.pass_obj
def create(
    context: Context,
    tenant_slug: str,
    project_slug: str | None,
    name: str,
    expires_at: int | None,
    tags: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Make an API key and show it, this once. Only its hash is kept."""
    named = _tags(tags)
    made = context.run(
        lambda services: services.tenants.create_key(
            tenant_slug, name, project_slug=project_slug, expires_at_us=expires_at, tags=named
        )
    )
    if as_json:
        output.document({"key": made.secret.text} | _document(made.key))
        return
    output.note(f"API key {made.key.name!r} of tenant {tenant_slug}, shown this once. Keep it:")
    output.line(made.secret.text)
    output.note("Send it as:  Authorization: Bearer sk-…")


@keys.command("list")
@output.tenant_option
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, tenant_slug: str, rows_max: int, as_json: bool) -> None:
    """Show a tenant's keys by their visible part, newest first."""
    from billing.cli.services import Services
    from billing.infra.system import now_us

    async def load(services: Services) -> tuple[list[ApiKey], dict[UUID, str]]:
        found = await services.tenants.list_keys(tenant_slug, rows_max + 1)
        projects = await services.tenants.list_projects(tenant_slug, PROJECTS_MAX)
        return found, {project.id: project.slug for project in projects}

    found, projects = context.run(load)
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    output.listing(
        ("Key", "Name*", "Project*", "State", "Created", "Expires (UTC)"),
        found,
        lambda key: _row(key, projects, now_us()),
        rows_max=rows_max,
        empty=f"Tenant {tenant_slug} has no keys. Make one: billing keys create --tenant {tenant_slug}",
    )


@keys.command("revoke")
@click.argument("key")
@output.tenant_option
@output.json_option
@click.pass_obj
def revoke(context: Context, key: str, tenant_slug: str, as_json: bool) -> None:
    """Close the door to KEY, named by its visible part (sk-…, as listed) or its id."""
    revoked = context.run(lambda services: services.tenants.revoke_key(tenant_slug, key))
    if as_json:
        output.document(_document(revoked))
        return
    output.line(f"Key {revoked.prefix}… is revoked since {output.when(revoked.revoked_at_us)} UTC.")
    output.note("Every gateway refuses it within a second.")


def _tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Tags by name; raises ``InvalidInput`` on a name that is given twice, of which one value would be lost."""
    tags: dict[str, str] = {}
    for name, content in pairs:
        if name in tags:
            raise InvalidInput(f"--tag: {name} is given twice, as {tags[name]!r} and as {content!r}", "tag")
        tags[name] = content
    return tags


def _row(key: ApiKey, projects: Mapping[UUID, str], now_us: int) -> tuple[str, ...]:
    return (
        f"{key.prefix}…",
        key.name,
        projects.get(key.project_id, "–") if key.project_id else "–",
        key.state(now_us),
        output.day(key.created_at_us),
        output.when(key.expires_at_us, "never"),
    )


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "project_id": key.project_id,
        "name": key.name,
        "prefix": key.prefix,
        "tags": key.tags,
        "created_at": output.timestamp(key.created_at_us),
        "expires_at": output.timestamp(key.expires_at_us),
        "revoked_at": output.timestamp(key.revoked_at_us),
        "last_used_at": output.timestamp(key.last_used_at_us),
    }
