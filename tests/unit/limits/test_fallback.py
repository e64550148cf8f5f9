"""A worker by itself: its share, once over all outages, and what it owes afterwards."""

from uuid import UUID

import pytest

from billing.limits.fallback import BUCKETS_MAX, Fallback
from billing.limits.limit import Limit, Meter
from billing.limits.twin import State
from tests.limits_kit import (
    limit,
    need,
    new_id,
    used,
)

TENANT = UUID(int=1)
SECOND_US = 1_000_000


def admitted(fallback: Fallback, limits: list[Limit], tries: int, now_us: int = 0, bound: int = 1) -> int:
    decisions = [fallback.admit(new_id(), limits, need(bound), now_us) for _ in range(tries)]
    return sum(decision is not None and decision.state is State.ADMITTED for decision in decisions)


def test_a_worker_admits_its_share_and_what_refills() -> None:
    fallback, limits = Fallback(5), [limit(TENANT)]
    assert admitted(fallback, limits, 20) == 10
    assert admitted(fallback, limits, 20, 12 * SECOND_US) == 2
    assert repr(fallback) == "<Fallback 1/5 <Twin 1 buckets, 12 leases>>"


def test_a_share_below_one_admits_nothing() -> None:
    assert Fallback(8).admit(new_id(), [limit(TENANT, amount=7)], need(1), 0) is None
    assert Fallback(8).admit(new_id(), [limit(TENANT, Meter.CONCURRENCY, 7)], need(1), 0) is None


def test_slots_come_back_and_tokens_are_charged() -> None:
    fallback = Fallback(2)
    limits = [limit(TENANT, Meter.CONCURRENCY, 2), limit(TENANT, Meter.TOKENS, 200)]
    request_id = new_id()
    decision = fallback.admit(request_id, limits, need(80), 0)
    assert decision is not None
    assert decision.state is State.ADMITTED
    assert admitted(fallback, limits, 1) == 0
    fallback.settle(request_id, used(30), 0)
    assert admitted(fallback, limits, 1, bound=71) == 0
    assert admitted(fallback, limits, 1, bound=70) == 1


def test_what_was_used_is_owed_once_less_what_refilled() -> None:
    fallback, limits = Fallback(5), [limit(TENANT)]
    admitted(fallback, limits, 8)
    (debt,) = fallback.owed(6 * SECOND_US)
    assert (debt.limit, debt.used) == (limits[0], pytest.approx(7))
    assert fallback.owed(6 * SECOND_US) == []
    assert admitted(fallback, limits, 9, 6 * SECOND_US) == 3
    (again,) = fallback.owed(12 * SECOND_US)
    assert again.used == pytest.approx(3)  # of 9 missing, 6 are known
    assert again.id != debt.id


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    fallback, limits = Fallback(5), [limit(TENANT)]
    admitted(fallback, limits, 8)
    assert fallback.owed(60 * SECOND_US) == []
    assert "0 buckets" in repr(fallback)


def test_what_the_store_is_told_of_is_not_owed_and_no_share_is_handed_out_twice() -> None:
    fallback, limits = Fallback(2), [limit(TENANT, Meter.TOKENS, 200), limit(TENANT, Meter.CONCURRENCY, 4)]
    request_id = new_id()
    fallback.admit(request_id, limits, need(80), 0)
    assert fallback.owed(0) == []
    assert admitted(fallback, limits, 1, bound=21) == 0  # it still runs
    fallback.settle(request_id, used(60), 0, is_told=True)
    fallback.settle(request_id, used(60), 0, is_told=True)
    assert fallback.owed(0) == []
    assert admitted(fallback, limits, 1, bound=41) == 0
    assert admitted(fallback, limits, 2, bound=20) == 2
    assert fallback.owed(0) == []  # they run


def test_beyond_so_many_limits_nothing_is_admitted_until_some_are_full_again() -> None:
    fallback, limits = Fallback(5), [limit(TENANT)]
    admitted(fallback, limits, 1)
    used, who = fallback._twin.buckets[limits[0].id.hex], fallback._users[limits[0].id.hex]
    names = [str(number) for number in range(BUCKETS_MAX)]
    fallback._twin.buckets.update(dict.fromkeys(names, used))
    fallback._users.update(dict.fromkeys(names, who))
    assert fallback.admit(new_id(), limits, need(1), 0) is None
    assert admitted(fallback, limits, 1, 60 * SECOND_US) == 1
