"""One bucket: what it holds, how it refills, what fits, what is told."""

import math
from uuid import UUID

import msgspec
import pytest

from billing.limits.bucket import (
    Ask,
    Bucket,
    Verdict,
    ask_of,
    asked_again,
    asks_of,
    changed,
    charged,
    fits,
    is_returning,
    opened,
    refilled,
    taken,
    tokens_of,
    tolerance,
    verdict,
    window_start,
)
from billing.limits.limit import Enforce, Meter
from billing.limits.need import Need
from billing.limits.used import Side
from tests.limits_kit import (
    limit,
    need,
)

TENANT = UUID(int=1)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
NOW_US = 1_795_500_000 * SECOND_US


def ask(
    take: float = 0.0, hold: float = 1.0, *, amount: int = 60, window_us: int = MINUTE_US, created_us: int = 0
) -> Ask:
    return Ask("b", amount, window_us, amount, created_us, take, hold)


def bucket(level: float, reserved: float = 0.0, *, amount: int = 60, window_us: int = MINUTE_US) -> Bucket:
    return Bucket(level, reserved, NOW_US, amount, window_us, amount)


def test_what_a_request_asks_of_each_kind_of_limit() -> None:
    kinds = [
        limit(TENANT),
        limit(TENANT, Meter.TOKENS, 1_000, burst=300),
        limit(TENANT, Meter.CONCURRENCY, 8),
    ]
    asked = [(each.take, each.hold, each.burst, each.window_us) for each in asks_of(kinds, need(200))]
    assert asked == [(1, 0, 50, MINUTE_US), (0, 200, 300, MINUTE_US), (0, 1, 8, 0)]
    assert [ask_of(kinds[1], need(bound)).hold for bound in (0, 300, 301)] == [1, 300, 300]
    assert ask_of(limit(TENANT, enforce=Enforce.SHADOW), need(1)).is_shadow


def test_a_limit_of_a_side_reserves_that_side_and_a_strict_one_its_worst_case() -> None:
    some = Need(10, 20, 40, 80)
    for meter, side, holds in (
        (Meter.TOKENS, Side.BOTH, [30, 120]),
        (Meter.INPUT_TOKENS, Side.INPUT, [10, 40]),
        (Meter.OUTPUT_TOKENS, Side.OUTPUT, [20, 80]),
    ):
        asks = [ask_of(limit(TENANT, meter, 1_000, is_strict=is_strict), some) for is_strict in (False, True)]
        assert [each.hold for each in asks] == holds
        assert [(each.side, each.is_strict) for each in asks] == [(side, False), (side, True)]


def test_a_guess_reserves_no_more_than_a_part_of_a_burst() -> None:
    guess = Need(10, 1_024, 40, 4_096, is_guess=True)
    of = limit(TENANT, Meter.OUTPUT_TOKENS, 1_000)
    assert [ask_of(each, guess).hold for each in (of, limit(TENANT, Meter.TOKENS, 1_000))] == [250, 250]
    assert ask_of(limit(TENANT, Meter.OUTPUT_TOKENS, 100_000), guess).hold == 1_024
    assert ask_of(limit(TENANT, Meter.INPUT_TOKENS, 20), guess).hold == 10
    assert ask_of(limit(TENANT, Meter.OUTPUT_TOKENS, 1_000, is_strict=True), guess).hold == 1_000
    assert asked_again(ask_of(of, Need(1, 1, 1, 1)), guess).hold == 250


def test_a_strict_limit_knows_no_worst_case_of_an_answer_of_any_length() -> None:
    boundless = Need(10, 20, 40, None)
    assert tokens_of(Side.OUTPUT, boundless, is_strict=True) == math.inf
    assert tokens_of(Side.INPUT, boundless, is_strict=True) == 40
    assert tokens_of(Side.OUTPUT, boundless, is_strict=False) == 20


def test_what_is_asked_again_differs_in_what_is_held() -> None:
    first, second = Need(10, 20, 40, 80), Need(1, 2, 3, None)
    for meter in Meter:
        for is_strict in (False, True):
            of = limit(TENANT, meter, 50, is_strict=is_strict)
            assert asked_again(ask_of(of, first), second) == ask_of(of, second)


def test_each_end_user_has_a_bucket_that_does_not_say_who_it_is() -> None:
    template = limit(TENANT, per_end_user=True)
    names = [ask_of(template, Need(1, 1, 1, 1, who)).bucket for who in ("alice", "bob", "alice", "")]
    assert len(set(names)) == 3
    assert names[0] == names[2]
    assert all(len(name) == 32 and "alice" not in name for name in names)
    assert ask_of(limit(TENANT, per_end_user=True), Need(1, 1, 1, 1, "alice")).bucket not in names


STRICT = Bucket(60, 0, NOW_US, 60, MINUTE_US, 60, is_strict=True)
TURN_US = window_start(NOW_US, MINUTE_US) + MINUTE_US
"""When the next minute begins."""


def test_a_strict_bucket_is_whole_when_the_next_window_begins_and_not_before() -> None:
    used_up = charged(STRICT, 0, 60)
    assert refilled(used_up, TURN_US - 1).level == 0
    assert refilled(used_up, TURN_US).level == 60
    assert refilled(refilled(used_up, TURN_US), NOW_US).level == 60  # a clock that was set back
    debt = charged(STRICT, 0, 150)
    assert [refilled(debt, TURN_US + minutes * MINUTE_US).level for minutes in (0, 1, 2)] == [-30, 30, 60]


def test_what_was_used_of_a_strict_bucket_stays_used_when_its_amount_changes() -> None:
    used_up = charged(STRICT, 0, 50)
    for amount, level in ((600, 550), (55, 5), (40, 0)):
        asked = Ask("b", amount, MINUTE_US, amount, 0, 0.0, 1.0, is_strict=True)
        assert changed(used_up, asked).level == level
    asked = Ask("b", 60, MINUTE_US, 60, 0, 0.0, 1.0, is_strict=True)
    assert changed(bucket(900, amount=1_000), asked).level == 60
    assert changed(bucket(7, amount=1_000), asked).level == 7


def test_what_is_announced_makes_no_window_larger() -> None:
    asked = Ask("b", 60, MINUTE_US, 60, 0, -40.0, 40.0, is_strict=True)
    after = taken(STRICT, asked)
    assert (after.level, after.reserved) == (60, 40)
    assert taken(charged(STRICT, 0, 50), asked).level == 50


def test_a_strict_bucket_tells_when_its_window_ends() -> None:
    asked = Ask("b", 60, MINUTE_US, 60, 0, 0.0, 30.0, is_strict=True)
    left = TURN_US - NOW_US
    assert verdict(charged(STRICT, 0, 40), asked, does_fit=False) == Verdict(False, 20, left, left)
    assert verdict(STRICT, asked, does_fit=True) == Verdict(True, 60, 0, 0)
    debt = verdict(charged(STRICT, 0, 150), asked, does_fit=False)
    assert (debt.reset_us, debt.wait_us) == (left + 2 * MINUTE_US, left + MINUTE_US)
    crowded = msgspec.structs.replace(STRICT, reserved=40)
    assert verdict(crowded, asked, does_fit=False).wait_us == left


def test_a_strict_bucket_that_a_lost_store_held_begins_with_the_next_window() -> None:
    asked = Ask("b", 60, MINUTE_US, 60, 0, 0.0, 30.0, is_strict=True)
    assert opened(asked, NOW_US + 9, NOW_US + 5).level == 0
    assert opened(asked, TURN_US, NOW_US + 5).level == 60


def test_a_share_is_a_part_of_amount_and_burst() -> None:
    share = ask_of(limit(TENANT, Meter.TOKENS, 1_000), need(200), replicas=8)
    assert (share.amount, share.burst, share.hold) == (125, 125, 125)
    assert ask_of(limit(TENANT, Meter.CONCURRENCY, 9), need(1), replicas=4).burst == 2
    assert ask_of(limit(TENANT, amount=4), need(1), replicas=8).burst == 0.5


def test_a_limit_younger_than_the_store_opens_full_and_an_older_one_with_what_refilled() -> None:
    assert opened(ask(created_us=NOW_US), NOW_US, NOW_US).level == 60
    assert opened(ask(), NOW_US, NOW_US).level == 0
    assert opened(ask(), NOW_US + 2 * SECOND_US, NOW_US).level == 2
    assert opened(ask(), NOW_US + MINUTE_US * 9, NOW_US).level == 60
    assert opened(ask(), NOW_US, NOW_US + SECOND_US).level == 0


def test_slots_of_an_older_limit_wait_until_running_requests_are_announced() -> None:
    slots = ask(window_us=0)
    assert is_returning(slots, NOW_US, NOW_US - 1, 2)
    assert not is_returning(slots, NOW_US + 1, NOW_US - 1, 2)
    assert not is_returning(ask(window_us=0, created_us=NOW_US), NOW_US, NOW_US - 1, 2)
    assert not is_returning(ask(), NOW_US, NOW_US - 1, 2)


@pytest.mark.parametrize(
    ("later_us", "level"), [(0, 10), (SECOND_US, 11), (MINUTE_US, 60), (-SECOND_US, 10), (1, 10.000001)]
)
def test_a_bucket_refills_up_to_its_burst(later_us: int, level: float) -> None:
    later = refilled(bucket(10), NOW_US + later_us)
    assert later.level == pytest.approx(level)
    assert later.at_us == max(NOW_US, NOW_US + later_us)


def test_a_clock_set_back_and_forth_refills_once() -> None:
    there_and_back = refilled(
        refilled(refilled(bucket(10), NOW_US + SECOND_US), NOW_US - SECOND_US), NOW_US + SECOND_US
    )
    assert there_and_back.level == 11


def test_without_a_window_only_what_is_reserved_counts() -> None:
    slots = refilled(bucket(5, 2, window_us=0, amount=3), NOW_US + 1)
    assert slots.level == 3
    assert fits(slots, ask(window_us=0))
    assert not fits(taken(slots, ask(window_us=0)), ask(window_us=0))
    assert charged(slots, 1, 500).level == 3


def test_what_fits_beside_what_is_reserved() -> None:
    assert fits(bucket(10, 5), ask(hold=5))
    assert not fits(bucket(10, 5), ask(hold=5.001))
    assert fits(bucket(10 - 1e-10), ask(hold=10))
    assert fits(bucket(1), ask(take=1, hold=0))
    assert not fits(bucket(-3), ask(hold=1))


def test_a_settlement_charges_what_was_used_and_refunds_nothing() -> None:
    reserved = taken(bucket(60), ask(hold=40))
    assert (reserved.level, reserved.reserved) == (60, 40)
    assert (charged(reserved, 40, 10).level, charged(reserved, 40, 10).reserved) == (50, 0)
    assert charged(reserved, 40, 100).level == -40  # a debt
    assert charged(reserved, 99, 0).reserved == 0


def test_a_changed_limit_keeps_what_was_used() -> None:
    less = changed(bucket(50, 20), ask(amount=30))
    assert (less.level, less.reserved, less.burst) == (50, 20, 30)
    assert refilled(less, NOW_US).level == 30


def test_what_is_told_of_a_bucket() -> None:
    assert verdict(bucket(10.5, 4), ask(), does_fit=True) == Verdict(True, 6, 53_500_000, 0)
    assert verdict(bucket(10, 4), ask(hold=8), does_fit=False) == Verdict(False, 6, 54_000_000, 2_000_000)
    assert verdict(bucket(60, 58), ask(hold=8), does_fit=False) == Verdict(False, 2, 58_000_000, 58_000_000)
    assert verdict(bucket(-10), ask(), does_fit=False) == Verdict(False, 0, 70_000_000, 11_000_000)
    assert verdict(bucket(3, 3, amount=3, window_us=0), ask(window_us=0), does_fit=False) == Verdict(
        False, 0, 0, SECOND_US
    )


def test_tolerance_grows_with_the_burst() -> None:
    assert tolerance(1) < 1e-8
    assert tolerance(10**12) == pytest.approx(0.01, rel=1e-3)
