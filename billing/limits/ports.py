"""What admission needs of the store that all gateways share, as a protocol: ``cache.py`` is the real one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from billing.limits.bucket import Ask
from billing.limits.outbox import Post
from billing.limits.twin import Decision


class Epoch(msgspec.Struct, frozen=True):
    """Since when the store remembers, and its clock."""

    epoch_us: int
    now_us: int


class Store(Protocol):
    """What holds the buckets of all gateways. Raises ``Unavailable`` within ``timeout_s``; the outcome is unknown then."""

    @property
    def connected(self) -> bool:
        """Whether it takes questions now."""
        ...

    async def admit(
        self,
        tenant_id: UUID,
        request_id: UUID,
        asks: Sequence[Ask],
        *,
        lease_us: int,
        epoch_us: int | None,
        ends_max: int,
        grace_us: int,
    ) -> Decision:
        """All asks or none."""
        ...

    def send(self, post: Post, epoch_us: int, done: Callable[[bool], None]) -> None:
        """Send without waiting; ``done`` is told once, later, whether the store has taken it."""
        ...

    def renew(self, tenant_id: UUID, request_ids: Sequence[UUID], ends_us: int) -> Awaitable[int]:
        """Let leases end later; sent at once, the answer is how many were still held."""
        ...

    async def epoch(self) -> Epoch:
        """Since when it remembers; begun now when it remembers nothing."""
        ...
