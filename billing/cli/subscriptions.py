"""``billing subscriptions``."""

from collections.abc import Sequence

import click

from billing.cli import output
from billing.cli.context import Context
from billing.cli.values import INSTANT
from billing.pricing.subscription import Subscription


@click.group("subscriptions")
def subscriptions() -> None:
    """Which plan prices a tenant's usage, and when."""


@subscriptions.command("create")
@output.tenant_option
@click.option("--plan", required=True, help="The plan's name.")
@click.option(
    "--starts-at",
    type=INSTANT,
    help="First instant priced; the start of this month in the tenant's zone unless given. Within a month its fee is prorated.",
)
@click.option("--ends-at", type=INSTANT, help="First instant no longer priced; open unless given.")
@output.json_option
@click.pass_obj
def create(
    context: Context, tenant_slug: str, plan: str, starts_at: int | None, ends_at: int | None, as_json: bool
) -> None:
    """Price a tenant's usage by a plan."""
    from billing.cli.services import Services

    async def subscribe(services: Services) -> tuple[Subscription, tuple[str, ...]]:
        tenant = await services.tenants.tenant(tenant_slug)
        starts_us = await services.invoicing.month_start(tenant_slug) if starts_at is None else starts_at
        made = await services.pricing.subscribe(tenant.id, plan, starts_us, ends_at)
        [warnings] = await services.invoicing.parts_of_months(tenant_slug, [(made.starts_us, made.ends_us)])
        return made, warnings

    _report(*context.run(subscribe), tenant_slug, as_json)


@subscriptions.command("end")
@output.tenant_option
@click.option(
    "--at",
    "ends_at",
    type=INSTANT,
    required=True,
    help="First instant no longer priced. Within a month its fee is prorated; at the start it never applied.",
)
@output.json_option
@click.pass_obj
def end(context: Context, tenant_slug: str, ends_at: int, as_json: bool) -> None:
    """End a tenant's subscription, so that another plan can follow."""
    from billing.cli.services import Services

    async def work(services: Services) -> tuple[Subscription, tuple[str, ...]]:
        tenant = await services.tenants.tenant(tenant_slug)
        ended = await services.pricing.end_subscription(tenant.id, ends_at)
        [warnings] = await services.invoicing.parts_of_months(tenant_slug, [(ended.starts_us, ended.ends_us)])
        return ended, warnings

    _report(*context.run(work), tenant_slug, as_json)


@subscriptions.command("list")
@output.tenant_option
@output.json_option
@click.pass_obj
def list_(context: Context, tenant_slug: str, as_json: bool) -> None:
    """Show a tenant's plans by their start."""
    from billing.cli.services import Services

    async def load(services: Services) -> list[Subscription]:
        tenant = await services.tenants.tenant(tenant_slug)
        return await services.pricing.list_subscriptions(tenant.id)

    found = context.run(load)
    if as_json:
        output.document([_document(each) for each in found])
        return
    empty = (
        f"Tenant {tenant_slug} has no plan, so its usage is unrated. "
        f"Give it one: billing subscriptions create --tenant {tenant_slug} --plan PLAN"
    )
    columns = ("Plan", "Currency", "From (UTC)", "To (UTC)")
    output.listing(columns, found, _row, rows_max=output.ROWS_MAX, empty=empty)


def _report(made: Subscription, warnings: Sequence[str], tenant_slug: str, as_json: bool) -> None:
    if as_json:
        output.document(_document(made) | {"warnings": list(warnings)})
        return
    if made.is_void:
        output.line(
            f"Tenant {tenant_slug} is not priced by {made.plan} from {output.when(made.starts_us)} UTC: taken back."
        )
        return
    until = f"to {output.when(made.ends_us)} UTC" if made.ends_us is not None else "with no end"
    output.line(
        f"Tenant {tenant_slug} is priced by {made.plan} ({made.currency}) from {output.when(made.starts_us)} UTC {until}."
    )
    for warning in warnings:
        output.note(f"warning: {warning}")


def _row(subscription: Subscription) -> tuple[str, ...]:
    return (
        subscription.plan,
        subscription.currency,
        output.when(subscription.starts_us),
        "never applied" if subscription.is_void else output.when(subscription.ends_us, "open"),
    )


def _document(subscription: Subscription) -> dict[str, object]:
    return {
        "id": subscription.id,
        "tenant_id": subscription.tenant_id,
        "plan": subscription.plan,
        "currency": subscription.currency,
        "starts_at": output.timestamp(subscription.starts_us),
        "ends_at": output.timestamp(subscription.ends_us),
        "created_at": output.timestamp(subscription.created_at_us),
    }
