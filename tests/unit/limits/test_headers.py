"""What a reply tells of the caller's limits."""

from uuid import UUID

import pytest

from billing.limits.bucket import Verdict
from billing.limits.headers import Headers, duration, telling_of
from billing.limits.headers import headers as told_of
from billing.limits.limit import Enforce, Limit, Meter
from tests.limits_kit import limit

TENANT = UUID(int=1)


def headers(limits: list[Limit], verdicts: list[Verdict]) -> Headers:
    return told_of([telling_of(each) for each in limits], verdicts)


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
        (b"ratelimit-policy", b'"requests";q=50;w=60, "tokens";q=1000;w=60'),
        (b"ratelimit", b'"requests";r=49;t=2, "tokens";r=900;t=6'),
    ]


def test_each_side_of_tokens_is_told_under_its_own_name() -> None:
    limits = [limit(TENANT, meter, 9, window_s=3_600) for meter in (Meter.OUTPUT_TOKENS, Meter.INPUT_TOKENS)]
    told = dict(headers(limits, [left(1), left(2)]))
    assert (told[b"x-ratelimit-remaining-output-tokens"], told[b"x-ratelimit-remaining-input-tokens"]) == (
        b"1",
        b"2",
    )
    assert told[b"ratelimit-policy"] == b'"input-tokens";q=9;w=3600, "output-tokens";q=9;w=3600'


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
    assert tuple(value for _, value in lines[:3]) == told


def test_a_burst_below_the_amount_is_told_as_it_is() -> None:
    lines = headers([limit(TENANT, burst=5)], [left(3, 2_400_000)])
    assert [value for _, value in lines[:3]] == [b"50", b"3", b"2.4s"]


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
