"""A limit in words, and the numbers that it may have."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.limits.limit import (
    AMOUNT_MAX,
    BOOST_US_MAX,
    WINDOWS,
    Enforce,
    Limit,
    Meter,
    NamedLimit,
    OnFailure,
    check,
    check_boost,
    in_force,
)
from tests.limits_kit import limit

TENANT = UUID(int=1)
OWNER = {"project": {"project_id": UUID(int=2)}, "key": {"key_id": UUID(int=3)}, "tenant": {}}


@pytest.mark.parametrize("scope", OWNER)
def test_the_scope_is_whose_it_is(scope: str) -> None:
    assert limit(TENANT, **OWNER[scope]).scope == scope
    assert limit(TENANT, **OWNER[scope]).sentence() == f"50 requests a minute of this {scope}"


def test_a_limit_says_itself() -> None:
    of_key = limit(TENANT, Meter.TOKENS, 100_000, model="golden", key_id=UUID(int=3))
    assert (
        of_key.sentence("key sk-12345678…") == "100,000 tokens a minute of key sk-12345678… on model golden"
    )
    assert limit(TENANT, Meter.CONCURRENCY, 8).rate() == "8 requests at once"
    assert [limit(TENANT, window_s=s).rate() for s in (1, 3_600, 86_400, 90)] == [
        "50 requests a second", "50 requests an hour", "50 requests a day", "50 requests every 90 seconds"
    ]  # fmt: skip
    assert repr(limit(TENANT)) == "<Limit 50 requests a minute of this tenant, enforced, closed>"


def test_the_burst_is_the_amount_unless_said() -> None:
    assert (limit(TENANT).capacity, limit(TENANT, burst=7).capacity) == (50, 7)


def test_a_shadow_does_not_refuse() -> None:
    assert limit(TENANT).is_enforced
    assert not limit(TENANT, enforce=Enforce.SHADOW).is_enforced


def test_a_limit_survives_the_directorys_json() -> None:
    for each in (
        limit(TENANT),
        limit(TENANT, Meter.CONCURRENCY, 3, key_id=UUID(int=3), archived=True, version=9),
    ):
        assert msgspec.json.decode(msgspec.json.encode(each), type=Limit) == each


def test_an_owner_is_named_for_people() -> None:
    named = NamedLimit(limit(TENANT), "acme", None, None)
    assert named.owner == "tenant acme"
    assert msgspec.structs.replace(named, project="web").owner == "project web"
    assert msgspec.structs.replace(named, key_prefix="sk-12345678").owner == "key sk-12345678…"


@pytest.mark.parametrize(
    ("meter", "amount", "changes", "param"),
    [
        (Meter.REQUESTS, 0, {}, "amount"),
        (Meter.TOKENS, AMOUNT_MAX + 1, {}, "amount"),
        (Meter.REQUESTS, 5, {"burst": 0}, "burst"),
        (Meter.REQUESTS, 5, {"burst": 5_001}, "burst"),
        (Meter.OUTPUT_TOKENS, AMOUNT_MAX, {"burst": AMOUNT_MAX + 1}, "burst"),
        (Meter.CONCURRENCY, 5, {"burst": 5}, "burst"),
        (Meter.CONCURRENCY, 5, {"window_s": 60}, "window_s"),
        (Meter.CONCURRENCY, 5, {"is_strict": True}, "strict"),
        (Meter.REQUESTS, 5, {"window_s": 90}, "window_s"),
        (Meter.REQUESTS, 5, {"window_s": None}, "window_s"),
        (Meter.TOKENS, 5, {"is_strict": True, "burst": 3}, "burst"),
        (Meter.TOKENS, 5, {"is_strict": True, "on_failure": OnFailure.OPEN}, "on_failure"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    meter: Meter, amount: int, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check(limit(TENANT, meter, amount, **changes))
    assert refusal.value.param == param


def test_what_can_be_kept_passes() -> None:
    check(limit(TENANT, amount=1, burst=1_000))
    check(limit(TENANT, Meter.TOKENS, AMOUNT_MAX))
    check(limit(TENANT, Meter.CONCURRENCY, 1))
    for window_s in WINDOWS:
        check(limit(TENANT, Meter.INPUT_TOKENS, 1, window_s=window_s, is_strict=True))


def test_a_template_counts_each_end_user_of_its_owner() -> None:
    each = limit(TENANT, Meter.INPUT_TOKENS, 9, key_id=UUID(int=3), per_end_user=True)
    assert (each.scope, each.owned_by) == ("end_user", "key")
    assert each.sentence() == "9 input tokens a minute of each end user of this key"


NOW_US = 1_795_500_000_000_000
HOUR_US = 3_600_000_000


def test_a_boost_ends_by_itself() -> None:
    plain = limit(TENANT, amount=50)
    boosted = limit(TENANT, amount=50, burst=100, boost=200, boost_until_us=NOW_US)
    during, after = boosted.at(NOW_US - 1), boosted.at(NOW_US)
    assert (during.amount, during.burst, during.id) == (200, 400, boosted.id)
    assert (after.amount, after.burst) == (50, 100)
    assert in_force((plain, boosted), NOW_US - 1) == (plain, during)
    assert in_force((plain,), NOW_US) == (plain,)
    assert boosted.without_past(NOW_US - 1).boost == 200
    assert boosted.without_past(NOW_US).boost is None


@pytest.mark.parametrize(
    ("amount", "until_us", "param"),
    [
        (50, NOW_US + HOUR_US, "amount"),
        (50_001, NOW_US + HOUR_US, "amount"),
        (51, NOW_US, "until"),
        (51, NOW_US + BOOST_US_MAX + 1, "until"),
    ],
)
def test_a_boost_is_larger_and_not_for_ever(amount: int, until_us: int, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_boost(limit(TENANT, amount=50), amount, until_us, NOW_US)
    assert refusal.value.param == param
    check_boost(limit(TENANT, amount=50), 51, NOW_US + 1, NOW_US)


def test_a_limit_that_was_raised_beyond_its_boost_is_what_it_is() -> None:
    raised = limit(TENANT, amount=1_000, burst=1, boost=100, boost_until_us=NOW_US)
    assert raised.at(NOW_US - 1) is raised
