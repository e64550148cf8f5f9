"""``/api/v1/tenants/{tenant}/keys``: API keys. A key's text is in the answer that makes it and nowhere else."""

from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import instant, written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_instant_and_id
from billing.admin.parameters import KeyName, TenantSlug
from billing.admin.services import Services
from billing.tenants.api_key import ApiKey, KeyState


class KeyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key. ``prefix`` names it in lists and logs and is no secret."""

    id: UUID
    tenant_id: UUID
    project_id: UUID | None
    name: str
    prefix: str
    state: KeyState
    tags: dict[str, str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewKeyDocument(KeyDocument, frozen=True, kw_only=True):
    """A key just made, with its text. Keep it: it is shown this once."""

    key: str


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key to be made: of the tenant, or of the project of a slug. ``tags`` are copied to every usage record."""

    name: str = "default"
    project: str | None = None
    expires_at: str | None = None
    tags: dict[str, str] = {}


KEY = KeyDocument(
    id=UUID("019ab3f4-8c00-7000-8000-00000000000c"),
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    project_id=UUID("019ab3f4-8c00-7000-8000-00000000000b"),
    name="laptop",
    prefix="sk-0aB3dE5g",
    state=KeyState.ACTIVE,
    tags={"team": "search"},
    created_at="2026-11-24T10:00:00Z",
    expires_at=None,
    revoked_at=None,
    last_used_at=None,
)
MADE = NewKeyDocument(**msgspec.structs.asdict(KEY), key="sk-0aB3dE5g… (62 characters)")
REVOKED = msgspec.structs.replace(KEY, state=KeyState.REVOKED, revoked_at="2026-11-25T10:00:00Z")


class KeyController(Controller):
    """Keys."""

    path = "/tenants/{tenant:str}/keys"
    tags = ("Keys",)

    @get(**described("List keys", Page([KEY], None), refusals=(404,)))
    async def list_keys(
        self, services: Services, tenant: TenantSlug, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[KeyDocument]:
        """A tenant's keys, newest first, revoked and expired ones too."""
        found = await services.tenants.list_keys(tenant, limit + 1, read_instant_and_id(after))
        now_us = services.clock()
        return page(
            found, limit, lambda key: document(key, now_us), lambda key: (str(key.created_at_us), str(key.id))
        )

    @post(
        **described(
            "Make a key", MADE, sent=NewKey("laptop", "search", None, {"team": "search"}), refusals=(404,)
        )
    )
    async def create_key(
        self, services: Services, tenant: TenantSlug, data: JSONBody[NewKey]
    ) -> NewKeyDocument:
        """A new key. Its text is in this answer and can never be shown again."""
        made = await services.tenants.create_key(
            tenant,
            data.name,
            project_slug=data.project,
            expires_at_us=instant(data.expires_at, "expires_at"),
            tags=data.tags,
        )
        shown = msgspec.structs.asdict(document(made.key, services.clock()))
        return NewKeyDocument(**shown, key=made.secret.text)

    @post("/{key:str}/revoke", status_code=200, **described("Revoke a key", REVOKED, refusals=(404, 409)))
    async def revoke_key(self, services: Services, tenant: TenantSlug, key: KeyName) -> KeyDocument:
        """Close the door to a key, within a second. It is named by its visible part (`sk-…`) or its id."""
        return document(await services.tenants.revoke_key(tenant, key), services.clock())


def document(key: ApiKey, now_us: int) -> KeyDocument:
    """A key as the API shows it at an instant."""
    return KeyDocument(
        id=key.id,
        tenant_id=key.tenant_id,
        project_id=key.project_id,
        name=key.name,
        prefix=key.prefix,
        state=key.state(now_us),
        tags=key.tags,
        created_at=written(key.created_at_us),
        expires_at=written_or_none(key.expires_at_us),
        revoked_at=written_or_none(key.revoked_at_us),
        last_used_at=written_or_none(key.last_used_at_us),
    )
