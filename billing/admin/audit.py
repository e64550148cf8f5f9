"""``/api/v1/audit``: who wrote what, and what it was before."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, get

from billing.access.audit import Action, AuditEntry, AuditFilter
from billing.admin.describe import described
from billing.admin.moment import written
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_number
from billing.admin.parameters import OfActor, OfSubject, OfTenant
from billing.admin.services import Services


class AuditDocument(msgspec.Struct, frozen=True):
    """One write of one row. Secrets stand in ``before`` and ``after`` only as changed."""

    id: int
    at: str
    actor: str
    action: Action
    subject: str
    subject_id: str
    tenant_id: UUID | None
    changed: tuple[str, ...]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


ENTRY = AuditDocument(
    id=17,
    at="2026-11-24T10:00:00.123456Z",
    actor="admin",
    action=Action.UPDATE,
    subject="tenant",
    subject_id="019ab3f4-8c00-7000-8000-00000000000a",
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    changed=("status",),
    before={"slug": "acme", "status": "active"},
    after={"slug": "acme", "status": "suspended"},
)


class AuditController(Controller):
    """The audit log."""

    path = "/audit"
    tags = ("Audit",)

    @get(**described("Read the audit log", Page([ENTRY], None), refusals=(404,)))
    async def list_entries(
        self,
        services: Services,
        tenant: OfTenant = None,
        subject: OfSubject = None,
        actor: OfActor = None,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
    ) -> Page[AuditDocument]:
        """Entries, newest first. The database itself writes them, for every write of what operators set up."""
        before_id = read_number(after)
        owner = await services.tenants.tenant(tenant) if tenant is not None else None
        wanted = AuditFilter(owner.id if owner else None, subject, actor)
        found = await services.audit.entries(wanted, limit + 1, before_id=before_id)
        return page(found, limit, document, lambda entry: (str(entry.id),))


def document(entry: AuditEntry) -> AuditDocument:
    """An entry as the API shows it."""
    return AuditDocument(
        id=entry.id,
        at=written(entry.at_us),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        subject_id=entry.subject_id,
        tenant_id=entry.tenant_id,
        changed=entry.changed,
        before=entry.before,
        after=entry.after,
    )
