"""What several of the service's calls load: a tenant, its month, the plans of an invoice."""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from uuid import UUID

from billing.errors import Conflict, NotFound
from billing.infra.postgres import Connection
from billing.invoicing import store
from billing.invoicing.inputs import Inputs
from billing.invoicing.invoice import Invoice
from billing.invoicing.period import Period, between, month_after, month_before, parse_period
from billing.invoicing.store import Taken
from billing.pricing import store as pricing_store
from billing.pricing.plan import Plan
from billing.tenants import store as tenants_store
from billing.tenants.tenant import Tenant

Zones = Callable[[str], tzinfo]
"""A collaborator that answers the zone of a name, and raises ``InvalidInput`` on what is none."""

NUMBER_SHOWN_MAX = 80


async def tenant_named(connection: Connection, slug: str) -> Tenant:
    """The tenant of a slug; raises ``NotFound``."""
    found = await tenants_store.tenant_by_slug(connection, slug)
    if found is None:
        raise NotFound(f"there is no tenant {slug[:80]!r}")
    return found


async def months_taken(
    connection: Connection, month: str, tenant_id: UUID | None = None
) -> dict[tuple[UUID, str], Taken]:
    """What is invoiced of a month and of its neighbours."""
    return await store.taken(connection, (month_before(month), month, month_after(month)), tenant_id)


def month_between(
    tenant: Tenant, month: str, zone: tzinfo, taken: Mapping[tuple[UUID, str], Taken]
) -> Period:
    """A tenant's month: as it is invoiced, else between its neighbours that are."""
    own = taken.get((tenant.id, month))
    if own is not None:
        return Period(own.start_us, own.month_end_us, month)
    before, after = taken.get((tenant.id, month_before(month))), taken.get((tenant.id, month_after(month)))
    return between(
        parse_period(month, zone=zone),
        None if before is None else before.month_end_us,
        None if after is None else after.start_us,
    )


async def month_named(connection: Connection, tenant: Tenant, month: str, zone: tzinfo) -> Period:
    """A tenant's month, with what is invoiced looked up."""
    return month_between(tenant, month, zone, await months_taken(connection, month, tenant.id))


async def issued(connection: Connection, number: str) -> Invoice:
    """The invoice of a number; raises ``NotFound``. A draft has no number."""
    found = await store.invoice_by_number(connection, number)
    if found is None:
        raise NotFound(f"there is no invoice {number[:NUMBER_SHOWN_MAX]!r}", "number")
    return found


async def plans_of(connection: Connection, inputs: Inputs) -> dict[str, Plan]:
    """The plans that an invoice was computed with, by name, with every version they have now."""
    plans: dict[str, Plan] = {}
    for name in sorted(inputs.plans):
        found = await pricing_store.plan_by_name(connection, name)
        if found is None:
            raise Conflict(f"plan {name} of an invoice is gone")
        plans[name] = found
    return plans
