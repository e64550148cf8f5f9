from decimal import Decimal

import msgspec
import pytest

from billing import money
from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.price import Price, pieces
from billing.pricing.unit import UnitPrice

UNIT = UnitPrice(Decimal(2), 1, 100)
TIERS = GraduatedPrice((Tier(Decimal(3), 1, 10), Tier(Decimal(1), 1)), 100)


def split(price: Price, start: int, quantity: int) -> list[tuple[int, str, int | None, bool]]:
    return [
        (each.quantity, str(each.price), each.tier, each.included) for each in pieces(price, start, quantity)
    ]


@pytest.mark.parametrize(
    ("price", "start", "quantity", "expected"),
    [
        pytest.param(UNIT, 0, 100, [(100, "free", None, True)], id="100 free: 100 cost nothing"),
        pytest.param(UNIT, 0, 101, [(100, "free", None, True), (1, "2 per 1", None, False)], id="the 101st costs"),
        pytest.param(UNIT, 100, 7, [(7, "2 per 1", None, False)], id="the allowance is used up"),
        pytest.param(
            TIERS, 95, 20, [(5, "free", None, True), (10, "3 per 1", 0, False), (5, "1 per 1", 1, False)],
            id="tiers count after the allowance",
        ),
        pytest.param(TIERS, 109, 2, [(1, "3 per 1", 0, False), (1, "1 per 1", 1, False)], id="on the way"),
        pytest.param(TIERS, 7, 0, [], id="nothing"),
    ],
)  # fmt: skip
def test_the_allowance_is_taken_off_before_the_shape_counts(
    price: Price, start: int, quantity: int, expected: list[tuple[int, str, int | None, bool]]
) -> None:
    assert split(price, start, quantity) == expected


def test_vector_7_each_period_climbs_its_own_tiers() -> None:
    price = GraduatedPrice((Tier(Decimal(10), 1, 5), Tier(Decimal(8), 1)))
    # Period 1: 7 tokens = 5 × 10 + 2 × 8; period 2 begins anew: 3 × 10.
    assert [
        money.total([each.price.amount(each.quantity) for each in pieces(price, 0, q)]) for q in (7, 3)
    ] == [66, 30]


def test_what_was_stored_before_allowances_and_tiers_reads_as_ever() -> None:
    stored = b'{"shape":"unit","price":"0.5","per":1000}'
    price = msgspec.json.decode(stored, type=Price)
    assert price == UnitPrice(Decimal("0.5"), 1_000)
    assert msgspec.json.encode(price) == stored
