"""``/api/v1/limits``: how much at once, and how much in a second, a minute, an hour or a day."""

from uuid import UUID

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import instant, written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_id
from billing.admin.parameters import LimitId, OfTenant, TenantSlug
from billing.admin.services import Services
from billing.errors import NotFound
from billing.limits.limit import Enforce, Meter, NamedLimit, OnFailure


class LimitDocument(msgspec.Struct, frozen=True):
    """At most ``amount`` in ``window_s`` seconds, or at once without a window, for a tenant, its project or its key.

    Without a model it counts all models together. ``scope`` says whose requests it counts: those of the owner, or those of
    each end user of it. A strict one is a window of the clock, and no bucket.
    """

    id: UUID
    tenant: str
    project: str | None
    key: str | None
    scope: str
    model: str | None
    meter: Meter
    amount: int
    window_s: int | None
    burst: int | None
    strict: bool
    boost: int | None
    boost_until: str | None
    enforce: Enforce
    on_failure: OnFailure
    created_at: str


class LimitChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A limit as it shall be. ``project`` is a slug, ``key`` a visible part or an id, ``model`` a public name.

    ``window_s`` is 1, 60, 3600 or 86400; a minute unless said, and nothing for requests at once.
    """

    meter: Meter
    amount: int
    project: str | None = None
    key: str | None = None
    model: str | None = None
    window_s: int | None = None
    per_end_user: bool = False
    burst: int | None = None
    strict: bool = False
    enforce: Enforce = Enforce.ENFORCED
    on_failure: OnFailure = OnFailure.CLOSED


LIMIT = LimitDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000012"),
    tenant="acme",
    project="search",
    key=None,
    scope="project",
    model=None,
    meter=Meter.REQUESTS,
    amount=50,
    window_s=60,
    burst=None,
    strict=False,
    boost=None,
    boost_until=None,
    enforce=Enforce.ENFORCED,
    on_failure=OnFailure.CLOSED,
    created_at="2026-11-24T10:00:00Z",
)


class Boost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in place of a limit's amount until an instant, when it ends by itself."""

    amount: int
    until: str


BOOSTED = msgspec.structs.replace(LIMIT, boost=500, boost_until="2026-11-24T18:00:00Z")
BOOST = Boost(500, "2026-11-24T18:00:00Z")
SENT = LimitChange(Meter.REQUESTS, 50, project="search")


class LimitController(Controller):
    """Limits."""

    tags = ("Limits",)

    @get("/limits", **described("List limits", Page([LIMIT], None), refusals=(404,)))
    async def list_limits(
        self, services: Services, tenant: OfTenant = None, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[LimitDocument]:
        """Limits in force, in the order in which they were made."""
        found = await services.limits.list(tenant, limit + 1, after=read_id(after))
        return page(found, limit, document, lambda named: (str(named.limit.id),))

    @put("/tenants/{tenant:str}/limits", **described("Set a limit", LIMIT, sent=SENT, refusals=(404, 409)))
    async def set_limit(
        self, services: Services, tenant: TenantSlug, data: JSONBody[LimitChange]
    ) -> LimitDocument:
        """Make a limit, or change the one of the same owner, model, meter and window, within a second.

        What was used of it stays used. `per_end_user` gives each end user the whole of it. A `strict` limit is kept in each
        window of the clock, and reserves the worst case of each request; any other is a bucket with a `burst`. `shadow`
        only counts what it would have refused. While Valkey cannot be asked, `closed` admits nothing and `open` a worker's
        own share.
        """
        made = await services.limits.set(
            tenant,
            data.meter,
            data.amount,
            project_slug=data.project,
            key=data.key,
            model=data.model,
            window_s=data.window_s,
            per_end_user=data.per_end_user,
            strict=data.strict,
            burst=data.burst,
            enforce=data.enforce,
            on_failure=data.on_failure,
        )
        return document(made.named)

    @put(
        "/tenants/{tenant:str}/limits/{limit_id:str}/boost",
        **described("Boost a limit", BOOSTED, sent=BOOST, refusals=(404,)),
    )
    async def boost_limit(
        self, services: Services, tenant: TenantSlug, limit_id: LimitId, data: JSONBody[Boost]
    ) -> LimitDocument:
        """Let a limit be larger for a while, at most 31 days. What was used of it stays used."""
        until_us = instant(data.until, "until")
        return document(await services.limits.boost(tenant, _id(tenant, limit_id), data.amount, until_us))

    @delete(
        "/tenants/{tenant:str}/limits/{limit_id:str}/boost",
        status_code=200,
        **described("End a limit's boost", LIMIT, refusals=(404,)),
    )
    async def end_boost(self, services: Services, tenant: TenantSlug, limit_id: LimitId) -> LimitDocument:
        """The limit is what it was, within a second."""
        return document(await services.limits.boost(tenant, _id(tenant, limit_id), None, None))

    @delete(
        "/tenants/{tenant:str}/limits/{limit_id:str}",
        status_code=200,
        **described("Remove a limit", LIMIT, refusals=(404,)),
    )
    async def remove_limit(self, services: Services, tenant: TenantSlug, limit_id: LimitId) -> LimitDocument:
        """Put a limit out of force, within a second. The answer is the limit as it was."""
        return document(await services.limits.archive(tenant, _id(tenant, limit_id)))


def document(named: NamedLimit) -> LimitDocument:
    """A limit as the API shows it."""
    limit = named.limit
    return LimitDocument(
        id=limit.id,
        tenant=named.tenant,
        project=named.project,
        key=named.key_prefix,
        scope=limit.scope,
        model=limit.model,
        meter=limit.meter,
        amount=limit.amount,
        window_s=limit.window_s,
        burst=limit.burst,
        strict=limit.is_strict,
        boost=limit.boost,
        boost_until=written_or_none(limit.boost_until_us),
        enforce=limit.enforce,
        on_failure=limit.on_failure,
        created_at=written(limit.created_us),
    )


def _id(tenant: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"tenant {tenant[:80]} has no limit {text[:80]!r} in force", "limit_id") from None
