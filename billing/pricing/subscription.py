"""Which plan prices a tenant's usage, and when."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from billing.clock import BUCKET_MINUTES, is_on_grid, to_datetime
from billing.errors import Conflict, InvalidInput


class Subscription(msgspec.Struct, frozen=True):
    """A tenant's plan over ``[starts_us, ends_us)``; None is open. Those of one tenant never overlap.

    One that ends where it starts was taken back before anything was invoiced for it: it never applied.
    """

    id: UUID
    tenant_id: UUID
    plan_id: UUID
    plan: str
    currency: str
    starts_us: int
    ends_us: int | None
    created_at_us: int

    @property
    def is_void(self) -> bool:
        """Whether it never applied."""
        return self.ends_us == self.starts_us

    def __str__(self) -> str:
        until = f"to {instant(self.ends_us)}" if self.ends_us is not None else "with no end"
        return f"plan {self.plan} from {instant(self.starts_us)} {until}"

    def overlaps(self, other: "Subscription") -> bool:
        """Whether two spans share an instant; one that never applied has none."""
        if self.is_void or other.is_void:
            return False
        starts_first = other.ends_us is None or self.starts_us < other.ends_us
        return starts_first and (self.ends_us is None or other.starts_us < self.ends_us)


def instant(instant_us: int) -> str:
    """An instant as messages write it."""
    return f"{to_datetime(instant_us):%Y-%m-%dT%H:%M:%SZ}"


def check_span(starts_us: int, ends_us: int | None) -> None:
    """That both ends lie on the grid and in order; raises ``InvalidInput`` naming the end."""
    for name, instant_us in (("starts_at", starts_us), ("ends_at", ends_us)):
        if instant_us is not None and not is_on_grid(instant_us):
            raise InvalidInput(
                f"{name}: {instant(instant_us)} is not a multiple of {BUCKET_MINUTES} minutes", name
            )
    if ends_us is not None and ends_us <= starts_us:
        raise InvalidInput(
            f"ends_at: {instant(ends_us)} is not after the start {instant(starts_us)}", "ends_at"
        )


def check_fits(new: Subscription, existing: Iterable[Subscription]) -> None:
    """That a new subscription overlaps none of the tenant's and keeps their currency; raises ``Conflict``."""
    for other in existing:
        if new.overlaps(other):
            raise Conflict(f"the tenant has {other} already; end that first, or choose another span")
        if new.currency != other.currency and not other.is_void:
            raise Conflict(
                f"plan {new.plan} is in {new.currency}, the tenant is billed in {other.currency} ({other}): "
                "one tenant is billed in one currency"
            )
