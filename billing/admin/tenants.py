"""``/api/v1/tenants``: who is billed."""

from uuid import UUID

import msgspec
from litestar import Controller, get, patch, post
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import written
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read
from billing.admin.parameters import TenantSlug
from billing.admin.services import Services
from billing.tenants.tenant import DEFAULT_TIMEZONE, Tenant, TenantStatus


class TenantDocument(msgspec.Struct, frozen=True):
    """A customer: everything it uses ends on its invoice. ``slug`` is its name in addresses."""

    id: UUID
    slug: str
    name: str
    status: TenantStatus
    timezone: str
    created_at: str


class NewTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant to be made; its name is its slug unless said. Its months are those of its time zone."""

    slug: str
    name: str | None = None
    timezone: str = DEFAULT_TIMEZONE


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes different; what is not said stays."""

    name: str | None = None
    timezone: str | None = None
    status: TenantStatus | None = None


TENANT = TenantDocument(
    id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    slug="acme",
    name="Acme Inc.",
    status=TenantStatus.ACTIVE,
    timezone="Asia/Kolkata",
    created_at="2026-11-24T10:00:00Z",
)


class TenantController(Controller):
    """Tenants."""

    path = "/tenants"
    tags = ("Tenants",)

    @get(**described("List tenants", Page([TENANT], None)))
    async def list_tenants(
        self, services: Services, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[TenantDocument]:
        """Tenants by slug."""
        (slug,) = read(after, 1) or ("",)
        found = await services.tenants.list_tenants(limit + 1, slug)
        return page(found, limit, document, lambda tenant: (tenant.slug,))

    @get("/{tenant:str}", **described("Show a tenant", TENANT, refusals=(404,)))
    async def get_tenant(self, services: Services, tenant: TenantSlug) -> TenantDocument:
        """The tenant of a slug."""
        return document(await services.tenants.tenant(tenant))

    @post(
        **described(
            "Make a tenant", TENANT, sent=NewTenant("acme", "Acme Inc.", "Asia/Kolkata"), refusals=(409,)
        )
    )
    async def create_tenant(self, services: Services, data: JSONBody[NewTenant]) -> TenantDocument:
        """A new tenant. Its slug is its name in addresses and never changes."""
        return document(await services.tenants.create_tenant(data.slug, data.name, data.timezone))

    @patch(
        "/{tenant:str}",
        **described(
            "Change a tenant", TENANT, sent=TenantChange(status=TenantStatus.ACTIVE), refusals=(404,)
        ),
    )
    async def change_tenant(
        self, services: Services, tenant: TenantSlug, data: JSONBody[TenantChange]
    ) -> TenantDocument:
        """Another name, time zone or status. A suspended tenant's requests are refused within a second.

        A new time zone holds for the months that are not invoiced yet.
        """
        return document(
            await services.tenants.change_tenant(
                tenant, name=data.name, timezone=data.timezone, status=data.status
            )
        )


def document(tenant: Tenant) -> TenantDocument:
    """A tenant as the API shows it."""
    return TenantDocument(
        tenant.id, tenant.slug, tenant.name, tenant.status, tenant.timezone, written(tenant.created_at_us)
    )
