"""Leases of live requests, renewed in bulk: each tenant by itself, since of a cluster one server may be away.

What the store charged with a renewal is remembered with the request, so that it is not charged again if it is announced.
"""

from collections.abc import Awaitable
from uuid import UUID

from billing.errors import Unavailable
from billing.limits.live import LiveRequests, Usage
from billing.limits.permit import Permit
from billing.limits.ports import Store

IDS_MAX = 250
"""Leases that one command renews; it may charge each, and nobody else is served meanwhile."""


class Leases:
    """When which leases are renewed: all every ``interval_us``, and those that failed at the next call."""

    def __init__(self, store: Store, interval_us: int, lease_us: int) -> None:
        self.live = LiveRequests()
        self._store = store
        self._interval_us = interval_us
        self._lease_us = lease_us
        self._renewed_us: int | None = None
        self._failed: set[UUID] = set()

    def __repr__(self) -> str:
        return f"<Leases of {self.live!r}, {len(self._failed)} tenants failed>"

    def renew_all(self) -> None:
        """The store was reached again, or its clock was set: leases may have run on without us, and none can wait."""
        self._renewed_us = None

    async def renew(self, now_us: int) -> tuple[list[Permit], Unavailable | None]:
        """Renew what is due; requests among which the store does not know some, and the last failure. Never raises."""
        asked = self._send(now_us)
        lost: list[Permit] = []
        failure: Unavailable | None = None
        for permits, usages, answer in asked:
            try:
                held = await answer
            except Unavailable as fault:
                self._failed.add(permits[0].tenant_id)
                failure = fault  # the others were sent too, and their answers may come
                continue
            if held < len(permits):
                lost += permits
            else:
                self.live.note_charged(usages)
        return lost, failure

    def _send(self, now_us: int) -> list[tuple[list[Permit], list[Usage], Awaitable[int]]]:
        is_due = self._renewed_us is None or now_us - self._renewed_us >= self._interval_us
        failed, self._failed = self._failed, set()
        if is_due:
            self._renewed_us = now_us
        elif not failed:
            return []
        sent = []
        for permits in self.live.batches(IDS_MAX):
            tenant_id = permits[0].tenant_id
            if is_due or tenant_id in failed:
                usages = self.live.usages(permits)
                sent.append((permits, usages, self._store.renew(tenant_id, usages, self._lease_us)))
        return sent
