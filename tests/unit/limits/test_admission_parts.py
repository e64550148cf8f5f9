"""Admission on a cluster of which one server is away, or a store that refuses: every other server is told all the same."""

from uuid import UUID

from billing.limits.admission import Admission, Permit
from billing.limits.limit import Meter, OnFailure
from billing.limits.outbox import Kind
from billing.limits.twin import Twin
from billing.limits.used import NOTHING, UNKNOWN
from tests.limits_kit import (
    TENANT,
    FakeStore,
    Time,
    answer,
    limit,
    need,
    new_id,
    opened,
    slots,
    used,
)

AWAY = UUID(int=2)


async def test_a_server_that_is_away_keeps_no_announcement_from_another(
    admission: Admission, store: FakeStore
) -> None:
    limits = [slots(3)]
    permits = [await admission.admit(new_id(), limits, need(1)) for _ in range(3)]
    await admission.admit(new_id(), [limit(AWAY, Meter.CONCURRENCY, 1)], need(1))
    store.lost_tenants.add(AWAY)
    store.twin = Twin()
    admission.reconnected()
    await admission.renew()
    assert all(permit.id.bytes in store.twin for permit in permits)


async def test_a_settlement_is_sent_again_while_another_server_or_the_epochs_is_away(
    admission: Admission, store: FakeStore
) -> None:
    permit = await admission.admit(new_id(), [slots(3)], need(1))
    await admission.admit(new_id(), [limit(AWAY, Meter.CONCURRENCY, 1)], need(1))
    store.deaf = True
    admission.settle(permit, used(1))
    store.deaf, store.is_epoch_away = False, True
    store.lost_tenants.add(AWAY)
    await admission.renew()
    assert (admission.unsent, admission.counts["store", "refused"]) == (0, 2)


async def test_only_leases_that_could_not_be_renewed_are_renewed_sooner(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    for tenant in (TENANT, AWAY):
        await admission.admit(new_id(), [limit(tenant, Meter.CONCURRENCY, 1)], need(1))
    store.lost_tenants.add(AWAY)
    await admission.renew()
    assert store.asked.count("renew") == 2
    for _ in range(2):
        time.us += 1_000_000
        await admission.renew()
    assert store.asked.count("renew") == 4
    store.lost_tenants.clear()
    for _ in range(2):
        time.us += 1_000_000
        await admission.renew()
    assert store.asked.count("renew") == 5


async def test_all_leases_are_renewed_at_once_when_the_stores_clock_was_set(
    store: FakeStore, time: Time, admission: Admission
) -> None:
    await admission.admit(new_id(), [slots()], need(1))
    for _ in range(2):
        await admission.renew()
    assert store.asked.count("renew") == 1
    ahead = Time()
    ahead.us = time.us + 60_000_000
    store.time = ahead
    await admission.renew()
    assert store.asked.count("renew") == 2


async def test_what_was_charged_while_a_request_ran_is_not_charged_again_when_it_is_announced(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    limits = [limit(TENANT, Meter.TOKENS, 10_000), slots(2)]
    short, beyond = [await admission.admit(new_id(), limits, need(1_000)) for _ in range(2)]
    admission.progress(short, used(400))
    admission.progress(beyond, used(3_000))
    await admission.renew()
    for permit in (short, beyond):
        store.twin.settle(permit.id.bytes, UNKNOWN, time())  # another worker ended the lease
    assert store.twin.buckets[limits[0].id.hex].level == 6_000
    admission.progress(beyond, used(3_500))
    for _ in range(2):
        admission.reconnected()
        await admission.renew()
    bucket = store.twin.buckets[limits[0].id.hex]
    assert (bucket.level, bucket.reserved) == (6_100, 600)
    admission.settle(beyond, used(3_600))
    admission.settle(short, used(900))
    bucket = store.twin.buckets[limits[0].id.hex]
    assert (bucket.level, bucket.reserved) == (5_500, 0)


async def test_a_request_whose_admission_was_not_answered_is_counted_once(
    admission: Admission, store: FakeStore
) -> None:
    limits = [opened(500), opened(10_000, Meter.TOKENS), slots(50, on_failure=OnFailure.OPEN)]
    await admission.renew()
    store.deaf = True
    ended, running = [await admission.admit(new_id(), limits, need(100)) for _ in range(2)]
    store.twin.settle(running.id.bytes, NOTHING, 0)  # of this one the question did not arrive
    store.twin.buckets.clear()
    store.twin.settle(ended.id.bytes, NOTHING, 0)
    arrived = await admission.admit(new_id(), limits, need(100))
    admission.settle(ended, used(30))
    store.deaf = False
    for _ in range(2):
        await admission.renew()
    requests, tokens, held = (store.twin.buckets[each.id.hex] for each in limits)
    assert (requests.level, tokens.level, tokens.reserved, held.reserved) == (497, 9_970, 200, 2)
    for permit in (running, arrived):
        admission.settle(permit, used(50))
    await admission.renew()
    requests, tokens, held = (store.twin.buckets[each.id.hex] for each in limits)
    assert (requests.level, tokens.level, tokens.reserved, held.reserved) == (497, 9_870, 0, 0)
    assert Kind.RELEASE not in {post.kind for post in store.posts}
    store.away = True
    assert isinstance(await answer(admission, limits), Permit)
