"""The requests that run: who holds for each, how far it is, and nothing of those that have ended."""

from uuid import UUID

import pytest

from billing.limits.live import LiveRequests
from billing.limits.permit import Permit, Place
from billing.limits.used import UNKNOWN
from tests.limits_kit import (
    new_id,
    used,
)

LEFT, RIGHT = UUID(int=1), UUID(int=2)


@pytest.fixture
def live() -> LiveRequests:
    return LiveRequests()


def running(live: LiveRequests, tenant_id: UUID = LEFT, place: Place = Place.STORE) -> Permit:
    permit = Permit(new_id(), tenant_id, 9, (), [], is_local=not place.is_store)
    live.put(permit, place)
    return permit


def test_a_request_ends_once(live: LiveRequests) -> None:
    permit = running(live, place=Place.UNCLEAR)
    assert (live.place(permit.id), len(live)) == (Place.UNCLEAR, 1)
    assert [live.end(permit.id) for _ in range(2)] == [Place.UNCLEAR, None]
    assert (live.place(permit.id), len(live)) == (None, 0)


def test_who_holds_is_told_by_tenant(live: LiveRequests) -> None:
    stored, announced = running(live), running(live, RIGHT, Place.ANNOUNCED)
    alone = [running(live, place=place) for place in (Place.WORKER, Place.UNCLEAR)]
    assert live.at_store() == [stored, announced]
    assert live.at_store(RIGHT) == [announced]
    assert live.at_worker() == alone


def test_batches_are_of_one_tenant_and_bounded(live: LiveRequests) -> None:
    for tenant in (LEFT, RIGHT, LEFT, LEFT):
        running(live, tenant)
    running(live, place=Place.WORKER)
    batches = [(batch[0].tenant_id, len(batch)) for batch in live.batches(2)]
    assert sorted(batches) == [(LEFT, 1), (LEFT, 2), (RIGHT, 1)]


def test_how_far_a_request_is_is_forgotten_with_it(live: LiveRequests) -> None:
    counted, other = running(live), running(live)
    for tokens in (5, 8):
        live.progress(counted.id, used(tokens))
    assert live.usages([counted, other]) == [(counted.id, used(8)), (other.id, UNKNOWN)]
    assert repr(live) == "<LiveRequests 2, 1 counted>"
    live.end(counted.id)
    live.progress(counted.id, used(9))
    assert repr(live) == "<LiveRequests 1, 0 counted>"
