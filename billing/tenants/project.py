"""A part of a tenant's usage that is looked at on its own."""

from uuid import UUID

import msgspec


class Project(msgspec.Struct, frozen=True):
    """A project of a tenant; ``slug`` is unique within the tenant."""

    id: UUID
    tenant_id: UUID
    slug: str
    name: str
    created_at_us: int
    archived_at_us: int | None = None
