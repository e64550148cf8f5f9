"""Admission: one decision for all limits, settled once, renewed, told, and nothing left behind."""

from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput, LimitReached
from billing.limits.admission import FINISH_MAX_US, LIMITS_MAX, Admission
from billing.limits.limit import Enforce, Meter
from billing.limits.need import Need
from billing.limits.outbox import Kind
from billing.settings import LimitsSettings
from tests.limits_kit import (
    NOW_US,
    TENANT,
    FakeStore,
    Time,
    answer,
    limit,
    need,
    new_id,
    slots,
    used,
)


async def test_the_first_question_of_a_tenant_is_one_question(admission: Admission, store: FakeStore) -> None:
    await admission.admit(new_id(), [limit(TENANT)], need(1))
    await admission.admit(new_id(), [limit(TENANT)], need(1))
    assert store.asked == ["admit", "admit"]


async def test_the_refusal_names_the_limit_that_takes_longest(admission: Admission) -> None:
    limits = [limit(TENANT, amount=60, burst=1), limit(TENANT, Meter.TOKENS, 60, key_id=UUID(int=9)), slots()]
    await admission.admit(new_id(), limits, need(30))
    refusal = await answer(admission, limits, 60)
    assert isinstance(refusal, LimitReached)
    assert str(refusal) == "Rate limit reached: 60 tokens a minute of this key. Please try again in 30s."
    assert (refusal.meter, refusal.retry_after_us, len(refusal.headers)) == ("tokens", 30_000_000, 8)
    assert admission.counts == {("admitted",): 1, ("refused", "key", "tokens"): 1}


async def test_shadows_refuse_nothing_are_counted_and_hold_only_what_they_would_have_admitted(
    admission: Admission,
) -> None:
    limits = [slots(9), slots(1, enforce=Enforce.SHADOW)]
    permits = [await admission.admit(new_id(), limits, need(1)) for _ in range(2)]
    assert [len(permit.limits) for permit in permits] == [2, 1]
    assert admission.counts["shadow", "tenant", "concurrency"] == 1
    assert repr(permits[0]) == f"<Permit {permits[0].id} of 1 tokens by the store, 2 limits>"


async def test_settling_twice_charges_once(admission: Admission, store: FakeStore) -> None:
    permit = await admission.admit(new_id(), [limit(TENANT, Meter.TOKENS, 100)], need(60))
    for tokens in (25, 60):
        admission.settle(permit, used(tokens))
    assert [(post.kind, post.used) for post in store.posts] == [(Kind.SETTLE, used(25))]
    assert admission.live == admission.unsent == 0


@pytest.mark.parametrize("trouble", ["away", "deaf"])
async def test_a_settlement_that_was_not_taken_is_sent_again_and_counts_once(
    admission: Admission, store: FakeStore, trouble: str
) -> None:
    tokens = limit(TENANT, Meter.TOKENS, 100)
    permit = await admission.admit(new_id(), [tokens], need(60))
    setattr(store, trouble, True)
    admission.settle(permit, used(25))
    assert admission.unsent == 1
    setattr(store, trouble, False)
    await admission.renew()
    assert admission.unsent == 0
    assert store.twin.buckets[tokens.id.hex].level == 75


async def test_settlements_that_cannot_be_sent_are_bounded_and_counted(
    admission: Admission, store: FakeStore
) -> None:
    permits = [await admission.admit(new_id(), [slots(9)], need(1)) for _ in range(5)]
    store.away = True
    for permit in permits:
        admission.settle(permit, used(1))
    assert (admission.unsent, admission.given_up) == (3, 2)


async def test_leases_are_renewed_when_due_and_at_once_after_a_return(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    await admission.admit(new_id(), [slots()], need(1))
    for later_us in (0, 9_999_999, 1):
        time.us += later_us
        await admission.renew()
    assert store.asked.count("renew") == 2
    admission.reconnected()
    await admission.renew()
    assert store.asked.count("renew") == 3


async def test_a_clock_that_is_off_is_not_ready(store: FakeStore, time: Time) -> None:
    admission = Admission(store, lambda: time() - 2_000_001, time, LimitsSettings())
    assert admission.ready
    await admission.renew()
    assert (admission.ready, admission.clock_difference_us) == (False, 2_000_001)


async def test_a_changed_limit_counts_at_once_and_keeps_what_was_used(admission: Admission) -> None:
    before = limit(TENANT, amount=2)
    for _ in range(2):
        await admission.admit(new_id(), [before], need(1))
    after = msgspec.structs.replace(before, amount=5, burst=5)
    assert isinstance(await answer(admission, [before]), LimitReached)
    refusal = await answer(admission, [after])
    assert isinstance(refusal, LimitReached)
    assert refusal.retry_after_us == 12_000_000  # a fifth of a minute, not half of one


async def test_what_is_remembered_of_limits_is_bounded(admission: Admission) -> None:
    admission._asked.update((UUID(int=number), None) for number in range(LIMITS_MAX))
    await admission.admit(new_id(), [limit(TENANT)], need(1))
    assert len(admission._asked) == 1


async def test_a_stream_is_charged_while_it_runs_and_what_it_reserved_shrinks(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    tokens = limit(TENANT, Meter.TOKENS, 600)
    permit = await admission.admit(new_id(), [tokens], need(500))
    admission.progress(permit, used(200))
    await admission.renew()
    bucket = store.twin.buckets[tokens.id.hex]
    assert (bucket.level, bucket.reserved) == (400, 300)
    time.us += 10_000_000
    admission.progress(permit, used(250))
    await admission.renew()
    bucket = store.twin.buckets[tokens.id.hex]
    assert (bucket.level, bucket.reserved) == (450, 250)
    admission.settle(permit, used(270))
    admission.progress(permit, used(999))
    bucket = store.twin.buckets[tokens.id.hex]
    assert (bucket.level, bucket.reserved) == (430, 0)


async def test_finishing_sends_what_is_left(admission: Admission, store: FakeStore) -> None:
    permit = await admission.admit(new_id(), [slots()], need(1))
    store.away = True
    admission.settle(permit, used(1))
    store.away = False
    await admission.finish()
    assert admission.unsent == 0


async def test_finishing_waits_for_answers_that_take_another_round(
    admission: Admission, store: FakeStore
) -> None:
    permit = await admission.admit(new_id(), [slots()], need(1))
    store.postponed = True
    admission.settle(permit, used(1))
    await admission.finish()
    assert admission.unsent == 0


async def test_finishing_ends_also_when_the_store_takes_nothing(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    permit = await admission.admit(new_id(), [slots()], need(1))
    store.away = True
    admission.settle(permit, used(1))
    await admission.finish()
    assert (admission.unsent, time.us - NOW_US) == (1, FINISH_MAX_US)


async def test_what_a_strict_limit_can_never_admit_is_refused_without_asking(
    admission: Admission, store: FakeStore
) -> None:
    strict = limit(TENANT, Meter.OUTPUT_TOKENS, 100, is_strict=True)
    with pytest.raises(InvalidInput, match="set `max_tokens` to at most 100"):
        await admission.admit(new_id(), [strict], Need(1, 1, 4, 101))
    assert "admit" not in store.asked
    assert admission.counts["refused", "tenant", "output_tokens"] == 1
    assert await admission.admit(new_id(), [strict], Need(1, 1, 4, 100))


async def test_each_end_user_has_a_template_for_itself(admission: Admission) -> None:
    template = limit(TENANT, amount=2, per_end_user=True)
    for who in ("alice", "bob", ""):
        for _ in range(2):
            await admission.admit(new_id(), [template], Need(1, 1, 1, 1, who))
        with pytest.raises(LimitReached, match="2 requests a minute of each end user of this tenant"):
            await admission.admit(new_id(), [template], Need(1, 1, 1, 1, who))
