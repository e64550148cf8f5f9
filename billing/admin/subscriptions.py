"""``/api/v1/tenants/{tenant}/subscriptions``: which plan prices a tenant's usage, and when."""

from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import instant, written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_number
from billing.admin.parameters import TenantSlug
from billing.admin.services import Services
from billing.pricing.subscription import Subscription


class SubscriptionDocument(msgspec.Struct, frozen=True):
    """A tenant's plan from ``starts_at`` until before ``ends_at``; null is open."""

    id: UUID
    tenant_id: UUID
    plan: str
    currency: str
    starts_at: str
    ends_at: str | None
    created_at: str


class NewSubscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A plan for a tenant, from the start of the present month unless said. Both ends are multiples of 15 minutes."""

    plan: str
    starts_at: str | None = None
    ends_at: str | None = None


class SubscriptionEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the tenant's open subscription ends, a multiple of 15 minutes."""

    ends_at: str


SUBSCRIPTION = SubscriptionDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000010"),
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    plan="standard",
    currency="USD",
    starts_at="2026-11-01T00:00:00Z",
    ends_at=None,
    created_at="2026-11-24T10:00:00Z",
)
ENDED = msgspec.structs.replace(SUBSCRIPTION, ends_at="2026-12-01T00:00:00Z")


class SubscriptionController(Controller):
    """Subscriptions."""

    path = "/tenants/{tenant:str}/subscriptions"
    tags = ("Subscriptions",)

    @get(**described("List subscriptions", Page([SUBSCRIPTION], None), refusals=(404,)))
    async def list_subscriptions(
        self, services: Services, tenant: TenantSlug, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[SubscriptionDocument]:
        """A tenant's subscriptions by their start; no two of them overlap."""
        starts_us = read_number(after)
        owner = await services.tenants.tenant(tenant)
        found = await services.pricing.list_subscriptions(owner.id)
        later = [each for each in found if starts_us is None or each.starts_us > starts_us]
        return page(later, limit, document, lambda each: (str(each.starts_us),))

    @post(
        **described(
            "Subscribe a tenant",
            SUBSCRIPTION,
            sent=NewSubscription("standard", "2026-11-01T00:00:00Z"),
            refusals=(404, 409),
        )
    )
    async def create_subscription(
        self, services: Services, tenant: TenantSlug, data: JSONBody[NewSubscription]
    ) -> SubscriptionDocument:
        """Price a tenant's usage by a plan. Subscriptions of a tenant do not overlap and have one currency."""
        owner = await services.tenants.tenant(tenant)
        starts_us, ends_us = instant(data.starts_at, "starts_at"), instant(data.ends_at, "ends_at")
        if starts_us is None:
            starts_us = await services.invoicing.month_start(tenant)
        return document(await services.pricing.subscribe(owner.id, data.plan, starts_us, ends_us))

    @post(
        "/end",
        status_code=200,
        **described(
            "End a subscription", ENDED, sent=SubscriptionEnd("2026-12-01T00:00:00Z"), refusals=(404,)
        ),
    )
    async def end_subscription(
        self, services: Services, tenant: TenantSlug, data: JSONBody[SubscriptionEnd]
    ) -> SubscriptionDocument:
        """End the subscription that has no end yet. Usage from then on is unrated until another begins."""
        owner = await services.tenants.tenant(tenant)
        ends_us = instant(data.ends_at, "ends_at")
        assert ends_us is not None  # noqa: S101 - a text was given
        return document(await services.pricing.end_subscription(owner.id, ends_us))


def document(subscription: Subscription) -> SubscriptionDocument:
    """A subscription as the API shows it."""
    return SubscriptionDocument(
        id=subscription.id,
        tenant_id=subscription.tenant_id,
        plan=subscription.plan,
        currency=subscription.currency,
        starts_at=written(subscription.starts_us),
        ends_at=written_or_none(subscription.ends_us),
        created_at=written(subscription.created_at_us),
    )
