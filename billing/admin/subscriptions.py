"""``/api/v1/tenants/{tenant}/subscriptions``: which plan prices a tenant's usage, and when."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import instant, written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_instant_and_id
from billing.admin.parameters import TenantSlug
from billing.admin.services import Services
from billing.pricing.subscription import Subscription


class SubscriptionDocument(msgspec.Struct, frozen=True):
    """A tenant's plan from ``starts_at`` until before ``ends_at``; null is open. Equal, it was taken back and never applied.

    ``warnings`` say of which month a part is priced only: its fee and minimum are prorated.
    """

    id: UUID
    tenant_id: UUID
    plan: str
    currency: str
    starts_at: str
    ends_at: str | None
    created_at: str
    warnings: list[str]


class NewSubscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A plan for a tenant, from the start of the present month unless said. Both ends are multiples of 15 minutes.

    A whole month begins at midnight of its first day in the tenant's time zone: write that offset, not Z.
    """

    plan: str
    starts_at: str | None = None
    ends_at: str | None = None


class SubscriptionEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the tenant's open subscription ends, a multiple of 15 minutes: at the end of a month or within it.

    A whole month ends at midnight in the tenant's time zone: write that offset, not Z.
    """

    ends_at: str


SUBSCRIPTION = SubscriptionDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000010"),
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    plan="standard",
    currency="USD",
    starts_at="2026-10-31T18:30:00Z",
    ends_at=None,
    created_at="2026-11-24T10:00:00Z",
    warnings=[],
)
"""Of a tenant in Asia/Kolkata, as the example of tenants is: its November begins at 18:30 UTC of the day before."""
ENDED = msgspec.structs.replace(SUBSCRIPTION, ends_at="2026-11-30T18:30:00Z")
STARTS_AT, ENDS_AT = "2026-11-01T00:00:00+05:30", "2026-12-01T00:00:00+05:30"


class SubscriptionController(Controller):
    """Subscriptions."""

    path = "/tenants/{tenant:str}/subscriptions"
    tags = ("Subscriptions",)

    @get(**described("List subscriptions", Page([SUBSCRIPTION], None), refusals=(404,)))
    async def list_subscriptions(
        self, services: Services, tenant: TenantSlug, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[SubscriptionDocument]:
        """A tenant's subscriptions by their start; no two of them overlap."""
        last = read_instant_and_id(after)
        owner = await services.tenants.tenant(tenant)
        found = await services.pricing.list_subscriptions(owner.id)
        later = [each for each in found if last is None or (each.starts_us, each.id) > last]
        shown = later[: limit + 1]
        said = await _warnings(services, tenant, shown)
        return page(
            shown,
            limit,
            lambda each: document(each, said[each.id]),
            lambda each: (str(each.starts_us), str(each.id)),
        )

    @post(
        **described(
            "Subscribe a tenant",
            SUBSCRIPTION,
            sent=NewSubscription("standard", STARTS_AT),
            refusals=(404, 409),
        )
    )
    async def create_subscription(
        self, services: Services, tenant: TenantSlug, data: JSONBody[NewSubscription]
    ) -> SubscriptionDocument:
        """Price a tenant's usage by a plan. Subscriptions of a tenant do not overlap and have one currency.

        Of a month that it covers in part, by the tenant's time zone, fee and minimum are prorated; `warnings` say so.
        """
        owner = await services.tenants.tenant(tenant)
        starts_us, ends_us = instant(data.starts_at, "starts_at"), instant(data.ends_at, "ends_at")
        if starts_us is None:
            starts_us = await services.invoicing.month_start(tenant)
        made = await services.pricing.subscribe(owner.id, data.plan, starts_us, ends_us)
        return document(made, (await _warnings(services, tenant, [made]))[made.id])

    @post(
        "/end",
        status_code=200,
        **described("End a subscription", ENDED, sent=SubscriptionEnd(ENDS_AT), refusals=(404, 409)),
    )
    async def end_subscription(
        self, services: Services, tenant: TenantSlug, data: JSONBody[SubscriptionEnd]
    ) -> SubscriptionDocument:
        """End the subscription that has no end yet. Usage from then on is unrated until another begins.

        At its own start it is taken back: it never applied, which is refused once something is invoiced for it. Of a
        month that it ends within, by the tenant's time zone, fee and minimum are prorated; `warnings` say so.
        """
        owner = await services.tenants.tenant(tenant)
        ends_us = instant(data.ends_at, "ends_at")
        assert ends_us is not None  # noqa: S101 - a text was given
        ended = await services.pricing.end_subscription(owner.id, ends_us)
        return document(ended, (await _warnings(services, tenant, [ended]))[ended.id])


async def _warnings(
    services: Services, tenant: str, found: Sequence[Subscription]
) -> dict[UUID, tuple[str, ...]]:
    """What is to be said of subscriptions that start or end within a month, by their ids."""
    said = await services.invoicing.parts_of_months(
        tenant, [(each.starts_us, each.ends_us) for each in found]
    )
    return {each.id: texts for each, texts in zip(found, said, strict=True)}


def document(subscription: Subscription, warnings: Sequence[str]) -> SubscriptionDocument:
    """A subscription as the API shows it."""
    return SubscriptionDocument(
        id=subscription.id,
        tenant_id=subscription.tenant_id,
        plan=subscription.plan,
        currency=subscription.currency,
        starts_at=written(subscription.starts_us),
        ends_at=written_or_none(subscription.ends_us),
        created_at=written(subscription.created_at_us),
        warnings=list(warnings),
    )
