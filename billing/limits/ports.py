"""What admission needs of the store that all gateways share, as a protocol: ``cache.py`` is the real one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from billing.errors import Unavailable
from billing.limits.bucket import Ask
from billing.limits.live import Usage
from billing.limits.outbox import Post
from billing.limits.twin import Decision


class Epoch(msgspec.Struct, frozen=True):
    """Since when the store remembers, and its clock."""

    epoch_us: int
    now_us: int


class NotExecuted(Unavailable):
    """The store has done nothing of what it was asked: the question never left, or was refused before anything else."""


class Store(Protocol):
    """What holds the buckets of all gateways.

    Raises ``Unavailable`` within ``timeout_s``: ``NotExecuted`` where nothing was done, else the outcome is unknown.
    """

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
        ends_max: int,
        grace_us: int,
    ) -> Decision:
        """All asks or none.

        Of up to ``ends_max`` leases that are over it ends those that were found over ``grace_us`` before and not renewed.
        """
        ...

    def send(self, post: Post, done: Callable[[bool], None]) -> None:
        """Send without waiting; ``done`` is told once, later, whether the store has taken it."""
        ...

    def renew(self, tenant_id: UUID, usages: Sequence[Usage], lease_us: int) -> Awaitable[int]:
        """Let leases last another ``lease_us`` and charge what was used so far; sent at once.

        The answer is how many were still held.
        """
        ...

    async def epoch(self) -> Epoch:
        """Since when it remembers; begun now when it remembers nothing."""
        ...

    def returned(self) -> None:
        """One of its servers was reached, for the first time or again: it may have lost its memory."""
        ...

    async def pause(self) -> None:
        """Let answers come for a moment."""
        ...
