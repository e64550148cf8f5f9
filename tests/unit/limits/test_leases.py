"""Leases are renewed in their time, each tenant for itself, and what was charged with it is known."""

from uuid import UUID

import pytest

from billing.errors import Unavailable
from billing.limits.leases import IDS_MAX, Leases
from billing.limits.permit import Permit, Place
from tests.limits_kit import (
    FakeStore,
    Time,
    new_id,
    used,
)

LEFT, RIGHT = UUID(int=1), UUID(int=2)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(Time())


@pytest.fixture
def leases(store: FakeStore) -> Leases:
    return Leases(store, interval_us=10, lease_us=30)


def running(leases: Leases, store: FakeStore, tenant_id: UUID = LEFT, *, is_held: bool = True) -> Permit:
    permit = Permit(new_id(), tenant_id, 9, (), [], is_local=False)
    leases.live.put(permit, Place.STORE)
    if is_held:
        store.twin.admit(permit.id.bytes, [], store.time(), lease_us=30)
    return permit


async def test_they_are_renewed_every_interval_and_when_all_must_be(leases: Leases, store: FakeStore) -> None:
    running(leases, store)
    for now_us in (0, 9, 10):
        assert await leases.renew(now_us) == ([], None)
    assert len(store.asked) == 2
    leases.renew_all()
    await leases.renew(11)
    assert len(store.asked) == 3


async def test_one_command_renews_so_many(leases: Leases, store: FakeStore) -> None:
    for _ in range(IDS_MAX + 1):
        running(leases, store)
    await leases.renew(0)
    assert len(store.asked) == 2


async def test_a_tenant_that_failed_is_tried_again_and_no_other(leases: Leases, store: FakeStore) -> None:
    for tenant in (LEFT, RIGHT):
        running(leases, store, tenant)
    store.lost_tenants.add(RIGHT)
    for now_us in (0, 1):
        lost, fault = await leases.renew(now_us)
        assert (lost, isinstance(fault, Unavailable)) == ([], True)
    assert len(store.asked) == 3
    assert repr(leases) == "<Leases of <LiveRequests 2, 0 counted>, 1 tenants failed>"
    store.lost_tenants.clear()
    assert await leases.renew(2) == ([], None)
    assert await leases.renew(3) == ([], None)
    assert len(store.asked) == 4


async def test_what_the_store_does_not_know_is_told(leases: Leases, store: FakeStore) -> None:
    known, unknown, other = (
        running(leases, store),
        running(leases, store, is_held=False),
        running(leases, store, RIGHT),
    )
    assert await leases.renew(0) == ([known, unknown], None)
    assert other not in (await leases.renew(10))[0]


async def test_what_was_charged_is_known_once_it_is_answered(leases: Leases, store: FakeStore) -> None:
    permit = running(leases, store)
    leases.live.progress(permit.id, used(5))
    store.lost_tenants.add(LEFT)
    await leases.renew(0)
    assert leases.live.charged(permit.id) == used(0)
    store.lost_tenants.clear()
    await leases.renew(1)
    leases.live.progress(permit.id, used(8))
    assert leases.live.charged(permit.id) == used(5)
