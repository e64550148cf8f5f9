"""An admitted request, and who holds its slots and reservations."""

from enum import StrEnum
from uuid import UUID

import msgspec

from billing.limits.headers import Headers
from billing.limits.limit import Limit
from billing.limits.need import Need


class Permit(msgspec.Struct, frozen=True):
    """An admitted request; handed back to ``Admission.settle`` when it ends."""

    id: UUID
    tenant_id: UUID
    need: Need
    limits: tuple[Limit, ...]
    """Those that count it: the enforced ones, and shadows that would have admitted it."""
    headers: Headers
    """What the reply tells of the limits."""
    is_local: bool
    """Whether this worker's own share admitted it, while the store was away."""

    def __repr__(self) -> str:
        by = "this worker" if self.is_local else "the store"
        return f"<Permit {self.id} of {self.need.total} tokens by {by}, {len(self.limits)} limits>"


class Place(StrEnum):
    """Who holds a live request's slots and reservations."""

    STORE = "store"
    ANNOUNCED = "announced"
    """The store, which was told by a grant."""
    WORKER = "worker"
    UNCLEAR = "unclear"
    """This worker, and perhaps the store too: its answer did not come."""

    @property
    def is_store(self) -> bool:
        """Whether the store holds, and its lease is to be renewed."""
        return self is Place.STORE or self is Place.ANNOUNCED  # members are hashed slowly
