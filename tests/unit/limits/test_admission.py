"""Admission against a store that can be away, deaf, or lose its memory: nothing is lost and nobody waits."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec
import pytest

from billing.errors import LimitReached, LimitsUnavailable, Unavailable
from billing.limits.admission import ENDS_MAX, LIMITS_MAX, RETURN_GRACE_US, Admission, Permit
from billing.limits.bucket import Ask
from billing.limits.limit import Enforce, Limit, Meter, OnFailure
from billing.limits.outbox import Kind, Post
from billing.limits.ports import Epoch
from billing.limits.twin import Decision, State, Twin
from billing.settings import LimitsSettings
from tests.limits_kit import limit, new_id

TENANT = UUID(int=1)
NOW_US = 1_795_500_000_000_000
SETTINGS = LimitsSettings(replicas_max=5, queue_max=3, renewal_interval_s=10.0)


class Time:
    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


class FakeStore:
    """A store in memory on the twin. ``deaf`` does what it is asked and lets nobody know; ``away`` does nothing."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.twin = Twin()
        self.began_us: int | None = None
        self.away = self.deaf = False
        self.asked: list[str] = []
        self.ends_max: list[int] = []
        self.posts: list[Post] = []

    @property
    def connected(self) -> bool:
        return not self.away

    def _heard(self, what: str) -> None:
        self.asked.append(what)
        if self.away or self.deaf:
            raise Unavailable("no answer")

    async def admit(self, tenant_id: UUID, request_id: UUID, asks: Sequence[Ask], *, lease_us: int, epoch_us: int | None,
                    ends_max: int, grace_us: int) -> Decision:  # fmt: skip
        self.ends_max.append(ends_max)
        decision = self.twin.admit(
            request_id.bytes,
            asks,
            self.time(),
            lease_us=lease_us,
            epoch_us=epoch_us,
            ends_max=ends_max,
            grace_us=grace_us,
        )
        self._heard("admit")
        return decision

    def send(self, post: Post, epoch_us: int, done: Callable[[bool], None]) -> None:
        self.posts.append(post)
        taken = not self.away
        if taken and post.kind is Kind.GRANT:
            answer = self.twin.admit(
                post.id, post.asks, self.time(), lease_us=post.lease_us, epoch_us=epoch_us, is_forced=True
            )
            taken = answer.state is not State.UNVERIFIED
        elif taken:
            released = post.kind is Kind.RELEASE
            self.twin.settle(post.id, post.used, self.time(), is_released=released, memory_us=post.memory_us)
        done(taken and not self.deaf)

    async def _renew(self, request_ids: Sequence[UUID]) -> int:
        self._heard("renew")
        return sum(request_id.bytes in self.twin for request_id in request_ids)

    def renew(self, tenant_id: UUID, request_ids: Sequence[UUID], ends_us: int) -> Awaitable[int]:
        return self._renew(request_ids)

    async def epoch(self) -> Epoch:
        self._heard("epoch")
        self.began_us = self.began_us or self.time()
        return Epoch(self.began_us, self.time())

    def forget(self) -> None:
        self.twin, self.began_us = Twin(), None


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> FakeStore:
    return FakeStore(time)


@pytest.fixture
def admission(store: FakeStore, time: Time) -> Admission:
    return Admission(store, time, time, SETTINGS)


async def answer(admission: Admission, limits: Sequence[Limit], bound: int = 10) -> object:
    try:
        return await admission.admit(new_id(), limits, bound)
    except (LimitReached, LimitsUnavailable) as refusal:
        return refusal


def slots(amount: int = 1, **changes: object) -> Limit:
    return limit(TENANT, Meter.CONCURRENCY, amount, **changes)


def opened(amount: int = 50, meter: Meter = Meter.REQUESTS) -> Limit:
    return limit(TENANT, meter, amount, on_failure=OnFailure.OPEN)


async def test_the_first_question_of_a_tenant_finds_out_since_when_the_store_remembers(
    admission: Admission, store: FakeStore
) -> None:
    await admission.admit(new_id(), [limit(TENANT)], 1)
    await admission.admit(new_id(), [limit(TENANT)], 1)
    assert store.asked == ["admit", "epoch", "admit", "admit"]


async def test_the_refusal_names_the_limit_that_takes_longest(admission: Admission) -> None:
    limits = [limit(TENANT, amount=60, burst=1), limit(TENANT, Meter.TOKENS, 60, key_id=UUID(int=9)), slots()]
    await admission.admit(new_id(), limits, 30)
    refusal = await answer(admission, limits, 60)
    assert isinstance(refusal, LimitReached)
    assert str(refusal) == "Rate limit reached: 60 tokens a minute of this key. Please try again in 30s."
    assert (refusal.meter, refusal.retry_after_us, len(refusal.headers)) == ("tokens", 30_000_000, 6)
    assert admission.counts == {("admitted",): 1, ("refused", "key", "tokens"): 1}


async def test_shadows_refuse_nothing_are_counted_and_hold_only_what_they_would_have_admitted(
    admission: Admission,
) -> None:
    limits = [slots(9), slots(1, enforce=Enforce.SHADOW)]
    permits = [await admission.admit(new_id(), limits, 1) for _ in range(2)]
    assert [len(permit.limits) for permit in permits] == [2, 1]
    assert admission.counts["shadow", "tenant", "concurrency"] == 1
    assert repr(permits[0]) == f"<Permit {permits[0].id} of 1 tokens by the store, 2 limits>"


async def test_settling_twice_charges_once(admission: Admission, store: FakeStore) -> None:
    permit = await admission.admit(new_id(), [limit(TENANT, Meter.TOKENS, 100)], 60)
    for used in (25, 60):
        admission.settle(permit, used)
    assert [(post.kind, post.used) for post in store.posts] == [(Kind.SETTLE, 25)]
    assert admission.live == admission.unsent == 0


@pytest.mark.parametrize("trouble", ["away", "deaf"])
async def test_a_settlement_that_was_not_taken_is_sent_again_and_counts_once(
    admission: Admission, store: FakeStore, trouble: str
) -> None:
    tokens = limit(TENANT, Meter.TOKENS, 100)
    permit = await admission.admit(new_id(), [tokens], 60)
    setattr(store, trouble, True)
    admission.settle(permit, 25)
    assert admission.unsent == 1
    setattr(store, trouble, False)
    await admission.renew()
    assert admission.unsent == 0
    assert store.twin.buckets[tokens.id.hex].level == 75


async def test_settlements_that_cannot_be_sent_are_bounded_and_counted(
    admission: Admission, store: FakeStore
) -> None:
    permits = [await admission.admit(new_id(), [slots(9)], 1) for _ in range(5)]
    store.away = True
    for permit in permits:
        admission.settle(permit, 1)
    assert (admission.unsent, admission.given_up) == (3, 2)


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
    done, running = [await admission.admit(new_id(), limits, 60) for _ in range(2)]
    admission.settle(done, 40)
    store.away = False
    admission.reconnected()
    await admission.renew()
    requests, tokens, held = (store.twin.buckets[each.id.hex] for each in limits)
    assert (requests.level, tokens.level, tokens.reserved, held.reserved) == (48, 960, 60, 1)
    admission.settle(running, 10)
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
    admission.settle(await admission.admit(new_id(), limits, 10), 0)
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
    admission.settle(await admission.admit(new_id(), limits, 10), 0)
    store.deaf = True
    permit = await answer(admission, limits)
    store.deaf = False
    assert isinstance(permit, Permit)
    if ends_first:
        admission.settle(permit, 1)
    await admission.renew()
    assert store.twin.buckets[limits[0].id.hex].reserved == (0 if ends_first else 1)
    admission.settle(permit, 1)
    assert store.twin.buckets[limits[0].id.hex].reserved == 0


async def test_a_store_that_lost_its_memory_hears_of_live_requests(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    limits = [slots(2), limit(TENANT, Meter.TOKENS, 600, created_us=NOW_US - 1)]
    store.began_us = NOW_US - 10
    permit = await admission.admit(new_id(), limits, 100)
    store.forget()
    time.us += 1_000_000
    await admission.renew()
    held, tokens = (store.twin.buckets[each.id.hex] for each in limits)
    assert (held.reserved, tokens.reserved, tokens.level) == (1, 100, 100)  # nothing is free but what refills
    assert admission.counts["store", "lost"] == 1
    admission.settle(permit, 30)
    assert (admission.unsent, store.twin.buckets[limits[1].id.hex].level) == (0, 70)


async def test_a_settlement_never_overtakes_its_announcement(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    permit = await admission.admit(new_id(), [slots(2)], 1)
    store.forget()
    time.us += 1
    store.deaf = True
    admission._announce([permit])
    admission.settle(permit, 1)
    assert store.posts == []
    store.deaf = False
    await admission.renew()
    assert [post.kind for post in store.posts] == [Kind.GRANT, Kind.SETTLE]
    assert store.twin.buckets[permit.limits[0].id.hex].reserved == 0


async def test_leases_are_renewed_when_due_and_at_once_after_a_return(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    await admission.admit(new_id(), [slots()], 1)
    for later_us in (0, 9_999_999, 1):
        time.us += later_us
        await admission.renew()
    assert store.asked.count("renew") == 2
    admission.reconnected()
    await admission.renew()
    assert store.asked.count("renew") == 3


async def test_others_leases_are_left_alone_until_all_could_renew_them(
    admission: Admission, store: FakeStore, time: Time
) -> None:
    await admission.renew()
    for later_us in (0, RETURN_GRACE_US, 0):
        time.us += later_us
        await admission.admit(new_id(), [limit(TENANT)], 1)
    admission.reconnected()
    await admission.admit(new_id(), [limit(TENANT)], 1)
    assert store.ends_max[-4:] == [0, ENDS_MAX, ENDS_MAX, 0]


async def test_a_clock_that_is_off_is_not_ready(store: FakeStore, time: Time) -> None:
    admission = Admission(store, lambda: time() - 2_000_001, time, SETTINGS)
    assert admission.ready
    await admission.renew()
    assert (admission.ready, admission.clock_difference_us) == (False, 2_000_001)


async def test_a_changed_limit_counts_at_once_and_keeps_what_was_used(admission: Admission) -> None:
    before = limit(TENANT, amount=2)
    for _ in range(2):
        await admission.admit(new_id(), [before], 1)
    after = msgspec.structs.replace(before, amount=5, burst=5)
    assert isinstance(await answer(admission, [before]), LimitReached)
    refusal = await answer(admission, [after])
    assert isinstance(refusal, LimitReached)
    assert refusal.retry_after_us == 12_000_000  # a fifth of a minute, not half of one


async def test_what_is_remembered_of_limits_is_bounded(admission: Admission) -> None:
    admission._asked.update((UUID(int=number), None) for number in range(LIMITS_MAX))
    await admission.admit(new_id(), [limit(TENANT)], 1)
    assert len(admission._asked) == 1


async def test_finishing_sends_what_is_left(admission: Admission, store: FakeStore) -> None:
    permit = await admission.admit(new_id(), [slots()], 1)
    store.away = True
    admission.settle(permit, 1)
    store.away = False
    await admission.finish()
    assert admission.unsent == 0
