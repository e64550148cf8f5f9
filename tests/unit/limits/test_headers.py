"""What a reply tells of the caller's limits."""

from uuid import UUID

import pytest

from billing.limits.bucket import Verdict
from billing.limits.headers import duration, headers
from billing.limits.limit import Enforce, Meter
from tests.limits_kit import limit

TENANT = UUID(int=1)


def left(remaining: int, reset_us: int = 1_200_000) -> Verdict:
    return Verdict(True, remaining, reset_us, 0)


def test_requests_and_tokens_are_told_and_slots_and_shadows_are_not() -> None:
    limits = [
        limit(TENANT, Meter.CONCURRENCY, 5), limit(TENANT, Meter.TOKENS, 1_000), limit(TENANT),
        limit(TENANT, amount=2, enforce=Enforce.SHADOW),
    ]  # fmt: skip
    assert headers(limits, [left(1), left(900, 6_000_000), left(49), left(0)]) == [
        (b"x-ratelimit-limit-requests", b"50"),
        (b"x-ratelimit-remaining-requests", b"49"),
        (b"x-ratelimit-reset-requests", b"1.2s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"900"),
        (b"x-ratelimit-reset-tokens", b"6s"),
    ]


def test_the_tightest_is_the_one_with_the_smallest_share_left() -> None:
    limits = [limit(TENANT, amount=1_000), limit(TENANT, amount=10), limit(TENANT, amount=100)]
    told = dict(headers(limits, [left(50), left(9), left(80)]))
    assert (told[b"x-ratelimit-limit-requests"], told[b"x-ratelimit-remaining-requests"]) == (b"1000", b"50")


@pytest.mark.parametrize(
    ("remaining", "reset_us", "told"),
    [(150, 60_000_000, (b"50", b"50", b"0s")), (50, 180_000_000, (b"50", b"50", b"1m0s")), (3, 236_400_000, (b"50", b"3", b"1m56.4s"))],
)  # fmt: skip
def test_no_more_than_the_limit_remains_whatever_a_burst_holds(
    remaining: int, reset_us: int, told: tuple[bytes, ...]
) -> None:
    lines = headers([limit(TENANT, burst=150)], [left(remaining, reset_us)])
    assert tuple(value for _, value in lines) == told


def test_a_burst_below_the_amount_is_told_as_it_is() -> None:
    lines = headers([limit(TENANT, burst=5)], [left(3, 2_400_000)])
    assert [value for _, value in lines] == [b"50", b"3", b"2.4s"]


def test_no_limits_tell_nothing() -> None:
    assert headers([], []) == []


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, b"0s"), (1, b"1ms"), (120_000, b"120ms"), (999_001, b"1s"), (1_000_000, b"1s"), (1_200_000, b"1.2s"),
        (7_660_000, b"7.66s"), (10_000_000, b"10s"), (59_999_999, b"1m0s"), (360_000_000, b"6m0s"),
        (3_600_000_000, b"1h0m0s"), (90_061_001_000, b"25h1m1.001s"),
    ],
)  # fmt: skip
def test_times_are_written_as_openai_does_and_never_too_short(microseconds: int, text: bytes) -> None:
    assert duration(microseconds) == text
