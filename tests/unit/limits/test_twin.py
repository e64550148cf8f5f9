"""The limits of a tenant in memory: all or none, once for each id, and an end for every lease."""

from typing import Any

from billing.limits.bucket import Ask, announced
from billing.limits.twin import State, Twin
from billing.limits.used import UNKNOWN, Side
from tests.limits_kit import used

NOW_US = 1_795_500_000_000_000
LEASE_US = 30_000_000


def requests(amount: int = 2, *, is_shadow: bool = False, name: str = "r") -> Ask:
    return Ask(name, amount, 60_000_000, amount, NOW_US, 1.0, 0.0, is_shadow, Side.NEITHER)


def tokens(hold: float, amount: int = 100) -> Ask:
    return Ask("t", amount, 60_000_000, amount, NOW_US, 0.0, hold)


def slots(amount: int = 1) -> Ask:
    return Ask("s", amount, 0, amount, NOW_US - 1, 0.0, 1.0, side=Side.NEITHER)


def state(twin: Twin, usage_id: bytes, *asks: Ask, now_us: int = NOW_US, **words: Any) -> State:
    return twin.admit(usage_id, asks, now_us, lease_us=LEASE_US, **words).state


def test_a_tenant_that_is_not_known_begins_once() -> None:
    twin = Twin()
    answers = [twin.admit(b"%d" % each, [requests()], NOW_US, lease_us=1, epoch_us=NOW_US) for each in (1, 2)]
    assert [(answer.state, answer.begins) for answer in answers] == [
        (State.ADMITTED, True),
        (State.ADMITTED, False),
    ]
    assert Twin().admit(b"1", [slots()], NOW_US, lease_us=1, grace_us=1).state is State.REFUSED


def test_all_or_none() -> None:
    twin = Twin(NOW_US)
    assert state(twin, b"1", requests(), slots()) is State.ADMITTED
    assert state(twin, b"2", requests(), slots()) is State.REFUSED
    assert twin.buckets["r"].level == 1
    assert b"1" in twin
    assert b"2" not in twin


def test_an_id_is_admitted_once() -> None:
    twin = Twin(NOW_US)
    answers = [twin.admit(b"1", [tokens(60)], NOW_US, lease_us=LEASE_US) for _ in range(3)]
    assert {answer.state for answer in answers} == {State.ADMITTED}
    assert [answer.verdicts[0].remaining for answer in answers] == [40, 40, 40]


def test_a_settlement_counts_once() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", tokens(60))
    assert [twin.settle(b"1", used(10), NOW_US) for _ in range(2)] == [True, False]
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved) == (90, 0)


def test_a_release_charges_nothing_and_an_admission_after_it_takes_nothing() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", tokens(60), requests())
    twin.settle(b"1", UNKNOWN, NOW_US, is_released=True, memory_us=LEASE_US)
    assert (twin.buckets["t"].level, twin.buckets["r"].level) == (100, 1)
    assert state(twin, b"1", tokens(60)) is State.ENDED
    assert not twin.settle(b"late", used(5), NOW_US, is_released=True, memory_us=LEASE_US)
    assert state(twin, b"late", tokens(60)) is State.ENDED
    assert state(twin, b"late", tokens(60), now_us=NOW_US + LEASE_US, ends_max=9) is State.ADMITTED


def test_a_lease_that_ends_is_charged_in_full_a_few_at_a_time() -> None:
    twin = Twin(NOW_US)
    for usage_id in (b"1", b"2"):
        state(twin, usage_id, tokens(40), slots(2))
    late_us = NOW_US + LEASE_US
    assert state(twin, b"3", slots(2), now_us=late_us) is State.REFUSED
    assert state(twin, b"3", slots(2), now_us=late_us, ends_max=1) is State.ADMITTED
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved) == (60, 40)
    assert repr(twin) == "<Twin 2 buckets, 2 leases>"


def test_a_shadow_takes_only_where_it_would_have_admitted() -> None:
    twin = Twin(NOW_US)
    for number in range(3):
        assert (
            state(twin, b"%d" % number, requests(9), requests(1, is_shadow=True, name="shadow"))
            is State.ADMITTED
        )
    assert (twin.buckets["r"].level, twin.buckets["shadow"].level) == (6, 0)


def test_what_is_forced_is_granted_whatever_is_left() -> None:
    twin = Twin(NOW_US)
    for usage_id in (b"1", b"2"):
        assert state(twin, usage_id, tokens(80), slots(), charged=0) is State.ADMITTED
    assert (twin.buckets["t"].reserved, twin.buckets["s"].reserved) == (160, 2)


def test_slots_wait_for_the_announcements_after_a_loss() -> None:
    twin = Twin(NOW_US)
    assert state(twin, b"1", slots(), now_us=NOW_US + 1, grace_us=2) is State.REFUSED
    assert state(twin, b"1", slots(), now_us=NOW_US + 2, grace_us=2) is State.ADMITTED


def test_what_is_not_there_cannot_be_charged() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", tokens(40))
    twin.buckets.clear()
    assert twin.settle(b"1", used(5), NOW_US)
    assert twin.buckets == {}


def test_what_is_charged_while_a_request_runs_is_reserved_no_more() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", tokens(60), slots())
    assert twin.renew([(b"1", used(25)), (b"unknown", used(5))], NOW_US, lease_us=LEASE_US) == 1
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved, twin.buckets["s"].reserved) == (75, 35, 1)
    for told in (used(25), used(10), UNKNOWN):
        twin.renew([(b"1", told)], NOW_US, lease_us=LEASE_US)
    assert twin.held(b"1") == ["t", "s"]
    twin.settle(b"1", used(40), NOW_US)
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved, twin.buckets["s"].reserved) == (60, 0, 0)


def test_what_was_charged_is_not_refunded_and_what_exceeds_the_bound_is_a_debt() -> None:
    twin = Twin(NOW_US)
    for usage_id, count in ((b"1", 30), (b"2", 70)):
        state(twin, usage_id, tokens(40))
        twin.renew([(usage_id, used(count))], NOW_US, lease_us=LEASE_US)
    twin.settle(b"1", used(5), NOW_US)
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved) == (0, 0)
    twin.settle(b"2", UNKNOWN, NOW_US)
    assert twin.buckets["t"].level == 0


def test_a_lease_lasts_from_its_renewal_and_ends_with_a_charge_of_what_is_left() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", tokens(40))
    twin.renew([(b"1", used(15))], NOW_US + 10, lease_us=LEASE_US)
    twin.renew([(b"1", UNKNOWN)], NOW_US, lease_us=1)  # never shorter
    state(twin, b"2", now_us=NOW_US + LEASE_US, ends_max=9)
    assert twin.buckets["t"].reserved == 25
    state(twin, b"2", now_us=NOW_US + 10 + LEASE_US, ends_max=9)
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved) == (75, 0)


def test_a_lease_that_is_found_over_lasts_for_the_grace_once_and_may_be_renewed() -> None:
    twin = Twin(NOW_US)
    for usage_id in (b"1", b"2"):
        state(twin, usage_id, tokens(40), slots(2))
    late_us = NOW_US + 2 * LEASE_US
    words = {"ends_max": 9, "grace_us": 5}
    assert (
        state(twin, b"3", slots(2), now_us=late_us, **words) is State.REFUSED
    )  # nobody could renew meanwhile
    twin.renew([(b"1", UNKNOWN)], late_us + 1, lease_us=LEASE_US)
    assert state(twin, b"3", slots(2), now_us=late_us + 5, **words) is State.REFUSED
    assert state(twin, b"3", slots(2), now_us=late_us + 6, **words) is State.ADMITTED
    assert (b"1" in twin, b"2" in twin, twin.buckets["t"].reserved) == (True, False, 40)


def test_one_that_was_charged_beyond_its_reservation_is_charged_only_of_what_more_it_uses() -> None:
    twin = Twin(NOW_US)
    state(twin, b"1", announced(tokens(40), used(70)), slots(), charged=used(70))
    assert (twin.buckets["t"].level, twin.buckets["t"].reserved, twin.buckets["s"].reserved) == (100, 0, 1)
    twin.renew([(b"1", used(75))], NOW_US, lease_us=LEASE_US)
    twin.settle(b"1", used(80), NOW_US)
    assert (twin.buckets["t"].level, twin.buckets["s"].reserved) == (90, 0)
