"""Admission and a store that can be away, deaf, full, or lose its memory: nothing is lost and nobody waits."""

import asyncio

import pytest

from billing.errors import LimitReached, LimitsUnavailable
from billing.limits.admission import RETURN_GRACE_US, Admission, Permit
from billing.limits.limit import Enforce, Meter, OnFailure
from billing.limits.outbox import Kind
from billing.limits.twin import Twin
from tests.limits_kit import (
    NOW_US,
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


async def test_while_the_store_is_away_closed_limits_refuse_and_open_ones_share(
    admission: Admission, store: FakeStore
) -> None:
    await admission.renew()
    store.away = True
    closed = await answer(admission, [opened(), limit(TENANT, Meter.TOKENS, 7)])
    assert (
        str(closed)
        == "the limit of 7 tokens a minute of this tenant cannot be checked at the moment; try again shortly"
    )
    limits = [opened(), limit(TENANT, amount=1, enforce=Enforce.SHADOW)]
    answers = [await answer(admission, limits) for _ in range(11)]
    assert [type(each) for each in answers] == [Permit] * 10 + [LimitReached]
    assert isinstance(answers[0], Permit)
    assert (answers[0].is_local, answers[0].headers, len(answers[0].limits)) == (True, [], 1)
    assert isinstance(await answer(admission, [opened(4)]), LimitsUnavailable)
    assert (admission.counts["fallback", "open"], admission.counts["fallback", "closed"]) == (10, 2)
    assert repr(admission).startswith("<Admission store away, 10 live")


async def test_a_worker_that_never_reached_the_store_is_closed(
    admission: Admission, store: FakeStore
) -> None:
    store.away = True
    assert isinstance(await answer(admission, [opened()]), LimitsUnavailable)
    await admission.renew()  # which says nothing either
    assert isinstance(await answer(admission, [limit(TENANT, enforce=Enforce.SHADOW)]), Permit)


async def test_what_was_admitted_alone_is_told_when_the_store_is_back(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    await admission.renew()
    limits = [opened(), opened(1_000, Meter.TOKENS), slots(20, on_failure=OnFailure.OPEN)]
    store.away = True
    done, running = [await admission.admit(new_id(), limits, need(60)) for _ in range(2)]
    admission.settle(done, used(40))
    store.away = False
    admission.reconnected()
    await admission.renew()
    requests, tokens, held = (store.twin.buckets[each.id.hex] for each in limits)
    assert (requests.level, tokens.level, tokens.reserved, held.reserved) == (48, 960, 60, 1)
    admission.settle(running, used(10))
    assert admission.unsent == 0
    assert (store.twin.buckets[limits[1].id.hex].level, store.twin.buckets[limits[2].id.hex].reserved) == (
        950,
        0,
    )
    await admission.renew()
    assert store.twin.buckets[limits[0].id.hex].level == 48


async def test_after_an_unheard_answer_a_closed_limit_leaves_nothing_behind(
    admission: Admission, store: FakeStore
) -> None:
    limits = [slots(1), limit(TENANT, Meter.TOKENS, 100)]
    admission.settle(await admission.admit(new_id(), limits, need(10)), used(0))
    store.deaf = True
    assert isinstance(await answer(admission, limits), LimitsUnavailable)
    store.deaf = False
    await admission.renew()
    assert isinstance(await answer(admission, limits, 100), Permit)
    assert admission.counts["store", "unanswered"] == 1


@pytest.mark.parametrize("ends_first", [True, False])
async def test_after_an_unheard_answer_an_open_limit_counts_the_request_once(
    admission: Admission, store: FakeStore, ends_first: bool
) -> None:
    limits = [slots(5, on_failure=OnFailure.OPEN)]
    await admission.renew()
    admission.settle(await admission.admit(new_id(), limits, need(10)), used(0))
    store.deaf = True
    permit = await answer(admission, limits)
    store.deaf = False
    assert isinstance(permit, Permit)
    if ends_first:
        admission.settle(permit, used(1))
    await admission.renew()
    assert store.twin.buckets[limits[0].id.hex].reserved == (0 if ends_first else 1)
    admission.settle(permit, used(1))
    assert store.twin.buckets[limits[0].id.hex].reserved == 0


async def test_a_store_that_lost_its_memory_hears_of_live_requests(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    limits = [slots(2), limit(TENANT, Meter.TOKENS, 600, created_us=NOW_US - 1)]
    store.began_us = NOW_US - 10
    await admission.renew()
    permit = await admission.admit(new_id(), limits, need(100))
    store.forget()
    time.us += 1_000_000
    await admission.renew()
    held, tokens = (store.twin.buckets[each.id.hex] for each in limits)
    assert (held.reserved, tokens.reserved, tokens.level) == (1, 100, 100)  # nothing is free but what refills
    assert admission.counts["store", "lost"] == 1
    admission.settle(permit, used(30))
    assert (admission.unsent, store.twin.buckets[limits[1].id.hex].level) == (0, 70)


async def test_a_settlement_never_overtakes_its_announcement(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    permit = await admission.admit(new_id(), [slots(2)], need(1))
    store.forget()
    time.us += 1
    store.deaf = True
    admission._announce([permit])
    admission.settle(permit, used(1))
    assert store.posts == []
    store.deaf = False
    await admission.renew()
    assert [post.kind for post in store.posts] == [Kind.GRANT, Kind.SETTLE]
    assert store.twin.buckets[permit.limits[0].id.hex].reserved == 0


async def test_others_leases_are_left_alone_until_all_could_renew_them(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    limits = [slots()]
    await admission.admit(new_id(), limits, need(1))
    time.us += 60_000_000  # longer than a lease: the store refused, or hung, or its clock was set on
    assert isinstance(await answer(admission, limits), LimitReached)
    await admission.renew()
    time.us += RETURN_GRACE_US
    assert isinstance(await answer(admission, limits), LimitReached)


async def test_a_store_that_refuses_holds_nothing_and_is_sent_no_release(
    admission: Admission, store: FakeStore
) -> None:
    await admission.renew()
    store.full = True
    assert isinstance(await answer(admission, [slots(5)]), LimitsUnavailable)
    permit = await answer(admission, [slots(5, on_failure=OnFailure.OPEN)])
    assert isinstance(permit, Permit)
    admission.settle(permit, used(1))
    assert (store.posts, admission.unsent) == ([], 0)
    assert (admission.counts["store", "refused"], admission.counts["store", "unanswered"]) == (2, 0)


async def test_an_epoch_that_is_not_told_stops_no_decision(admission: Admission, store: FakeStore) -> None:
    store.is_epoch_away = True
    await admission.renew()
    assert isinstance(await answer(admission, [slots(5)]), Permit)
    store.away = True
    assert isinstance(await answer(admission, [opened()]), Permit)  # it knows the store: one server answered


async def test_releases_are_given_up_before_settlements(admission: Admission, store: FakeStore) -> None:
    permits = [await admission.admit(new_id(), [slots(9)], need(1)) for _ in range(2)]
    store.deaf = True
    for _ in range(4):
        assert isinstance(await answer(admission, [slots(9)]), LimitsUnavailable)
    for permit in permits:
        admission.settle(permit, used(1))
    assert (admission.unsent, admission.given_up, admission.given_up_by_kind) == (3, 3, {"release": 3})


async def test_outages_that_come_and_go_hand_out_no_share_twice(
    admission: Admission, store: FakeStore
) -> None:
    await admission.renew()
    limits = [slots(5, on_failure=OnFailure.OPEN), opened(500, Meter.TOKENS)]
    permits = []
    for _ in range(3):
        store.away = True
        permits += [each for each in [await answer(admission, limits, 60)] if isinstance(each, Permit)]
        store.away = False
        admission.reconnected()
        await admission.renew()
    assert len(permits) == 1  # of 5 slots this worker's share is one, and it is taken
    assert store.twin.buckets[limits[0].id.hex].reserved == 1
    admission.settle(permits[0], used(60))
    store.away = True
    assert isinstance(await answer(admission, limits, 60), LimitReached)  # 40 of its 100 tokens are left
    assert isinstance(await answer(admission, limits, 40), Permit)
    store.away = False
    await admission.renew()
    await admission.renew()
    assert store.twin.buckets[limits[1].id.hex].level == 440  # charged once


async def test_a_part_of_the_store_that_lost_its_memory_hears_of_live_requests_at_a_tenants_question(
    admission: Admission, store: FakeStore
) -> None:
    limits = [slots(2)]
    permit = await admission.admit(new_id(), limits, need(1))
    assert admission.counts["store", "lost"] == 0
    store.twin = Twin()  # its epoch lies elsewhere, and is as it was
    assert isinstance(await answer(admission, limits), Permit)
    assert admission.counts["store", "lost"] == 1
    await admission.renew()
    assert store.twin.buckets[limits[0].id.hex].reserved == 2
    assert permit.id.bytes in store.twin


async def test_requests_that_come_together_first_are_no_loss(admission: Admission, store: FakeStore) -> None:
    await asyncio.gather(*(answer(admission, [slots(9)]) for _ in range(5)))
    assert admission.counts == {("admitted",): 5}


async def test_a_server_that_came_back_is_looked_at_again(admission: Admission, store: FakeStore) -> None:
    admission.reconnected()
    assert store.returns == 1
