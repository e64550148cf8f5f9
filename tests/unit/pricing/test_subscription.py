from uuid import UUID

import pytest

from billing.errors import Conflict, InvalidInput
from billing.pricing.subscription import Subscription, check_fits, check_span
from tests.invoice_kit import TENANT, at

JANUARY, FEBRUARY, MARCH = at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")


def subscription(
    starts_us: int, ends_us: int | None, *, plan: str = "demo", currency: str = "USD"
) -> Subscription:
    return Subscription(UUID(int=1), TENANT, UUID(int=2), plan, currency, starts_us, ends_us, 0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param((JANUARY, FEBRUARY), (FEBRUARY, None), False, id="one that begins where the other ends"),
        pytest.param((JANUARY, None), (FEBRUARY, MARCH), True, id="one inside an open one"),
        pytest.param((JANUARY, None), (FEBRUARY, None), True, id="two open ones"),
        pytest.param((FEBRUARY, MARCH), (JANUARY, FEBRUARY), False, id="in any order"),
        pytest.param((JANUARY, MARCH), (FEBRUARY, MARCH), True, id="the same end"),
    ],
)
def test_spans_are_half_open(one: tuple[int, int], other: tuple[int, int], expected: bool) -> None:
    assert subscription(*one).overlaps(subscription(*other)) is expected
    assert subscription(*other).overlaps(subscription(*one)) is expected


@pytest.mark.parametrize(
    ("starts_us", "ends_us", "fault"),
    [
        (JANUARY + 1, None, "starts_at: 2026-01-01T00:00:00Z is not a multiple of 15 minutes"),
        (JANUARY, FEBRUARY + 60_000_000, "ends_at: 2026-02-01T00:01:00Z is not a multiple of 15 minutes"),
        (FEBRUARY, FEBRUARY, "ends_at: 2026-02-01T00:00:00Z is not after the start 2026-02-01T00:00:00Z"),
    ],
)
def test_a_span_lies_on_the_grid_and_ends_after_it_begins(
    starts_us: int, ends_us: int | None, fault: str
) -> None:
    check_span(JANUARY, FEBRUARY)
    with pytest.raises(InvalidInput) as refused:
        check_span(starts_us, ends_us)
    assert str(refused.value) == fault


def test_a_tenant_has_one_plan_at_a_time_and_one_currency() -> None:
    existing = [subscription(JANUARY, FEBRUARY)]
    check_fits(subscription(FEBRUARY, None, plan="next"), existing)
    with pytest.raises(Conflict) as refused:
        check_fits(subscription(JANUARY, None), existing)
    assert str(refused.value) == (
        "the tenant has plan demo from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z already; end that first, or choose "
        "another span"
    )
    with pytest.raises(Conflict, match=r"plan yen is in JPY, the tenant is billed in USD \(plan demo from"):
        check_fits(subscription(FEBRUARY, None, plan="yen", currency="JPY"), existing)


def test_a_subscription_that_was_taken_back_is_in_nobodys_way() -> None:
    void = subscription(FEBRUARY, FEBRUARY, currency="JPY")
    assert void.is_void
    assert not void.overlaps(subscription(JANUARY, None))
    assert not subscription(JANUARY, None).overlaps(void)
    check_fits(subscription(JANUARY, None), [void])
