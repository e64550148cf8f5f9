"""The requests that a worker has admitted and that have not ended: who holds for each, and how far it is."""

from collections.abc import Iterable, Iterator
from uuid import UUID

from billing.limits.permit import Permit, Place
from billing.limits.used import NOTHING, UNKNOWN, Used, beyond

Usage = tuple[UUID, Used]
"""A usage id and the tokens it has used so far; ``UNKNOWN`` where nobody counts while it runs."""


class LiveRequests:
    """Live requests by usage id (its number: a UUID's hash is computed in Python); one that has ended is forgotten."""

    def __init__(self) -> None:
        self._requests: dict[int, tuple[Permit, Place]] = {}
        self._used: dict[int, Used] = {}
        self._charged: dict[int, Used] = {}

    def __repr__(self) -> str:
        return f"<LiveRequests {len(self._requests)}, {len(self._used)} counted>"

    def __len__(self) -> int:
        return len(self._requests)

    def put(self, permit: Permit, place: Place) -> None:
        """Note who holds for a request from now on."""
        self._requests[permit.id.int] = (permit, place)

    def progress(self, usage_id: UUID, used: Used) -> None:
        """Note how many tokens a request has used so far; of one that has ended it says nothing."""
        if usage_id.int in self._requests:
            self._used[usage_id.int] = used

    def place(self, usage_id: UUID) -> Place | None:
        """Who holds for a request; None once it has ended."""
        request = self._requests.get(usage_id.int)
        return None if request is None else request[1]

    def end(self, usage_id: UUID) -> Place | None:
        """Forget a request; who held for it, None if it had ended already."""
        request = self._requests.pop(usage_id.int, None)
        if self._used:
            self._used.pop(usage_id.int, None)
            self._charged.pop(usage_id.int, None)
        return None if request is None else request[1]

    def at_store(self, tenant_id: UUID | None = None) -> list[Permit]:
        """Requests that the store holds, of one tenant or of all."""
        return [
            permit
            for permit, place in self._requests.values()
            if place.is_store and (tenant_id is None or permit.tenant_id == tenant_id)
        ]

    def at_worker(self) -> list[Permit]:
        """Requests that this worker holds by itself."""
        return [permit for permit, place in self._requests.values() if not place.is_store]

    def batches(self, ids_max: int) -> Iterator[list[Permit]]:
        """Requests that the store holds, in batches of one tenant each."""
        batches: dict[UUID, list[Permit]] = {}
        for permit in self.at_store():
            batch = batches.setdefault(permit.tenant_id, [])
            batch.append(permit)
            if len(batch) == ids_max:
                yield batches.pop(permit.tenant_id)
        yield from batches.values()

    def note_charged(self, usages: Iterable[Usage]) -> None:
        """The store has taken how far these were: so much is charged of those that still run."""
        for usage_id, used in usages:
            if usage_id.int in self._used:
                _, self._charged[usage_id.int] = beyond(used, self.charged(usage_id))

    def charged(self, usage_id: UUID) -> Used:
        """How many tokens of a request the store surely charged while it ran."""
        return self._charged.get(usage_id.int, NOTHING)

    def usages(self, permits: list[Permit]) -> list[Usage]:
        """How far each of these requests is."""
        return [(permit.id, self._used.get(permit.id.int, UNKNOWN)) for permit in permits]
