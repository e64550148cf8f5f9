"""The lock under which a tenant's collection number is read and raised (design.md §7).

A recorder reads the number under the shared lock, a period close raises it under the exclusive one: so every record is
either counted by a close or carries the number after it. A sequence or a time cannot promise that (it is not
commit-ordered).
"""

from uuid import UUID

STRIPES = 256
"""Tenants share this many locks: a batch of thousands of tenants must not fill Postgres's lock table."""

_NAMESPACE = 0x636F6C6C << 32  # "coll": apart from the advisory locks of other purposes


def lock_key(tenant_id: UUID) -> int:
    """The 64-bit advisory lock key of a tenant's stripe. Take several in ascending order."""
    # The last byte of a UUIDv7 is random, of any other version at least mixed.
    return _NAMESPACE | tenant_id.int % STRIPES
