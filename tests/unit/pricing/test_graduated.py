from decimal import Decimal

import msgspec
import pytest

from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.unit import Piece, UnitPrice


def graduated(*tiers: tuple[str, int | None], per: int = 1, allowance: int = 0) -> GraduatedPrice:
    return GraduatedPrice(tuple(Tier(Decimal(price), per, up_to) for price, up_to in tiers), allowance)


TWO = graduated(("10", 15), ("5", None))
THREE = graduated(("0.50", 1_000_000), ("0.40", 3_000_000), ("0", None), per=1_000_000)


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        pytest.param(TWO, 0, "0", id="nothing costs nothing"),
        pytest.param(TWO, 15, "150", id="the last token of the first tier"),
        pytest.param(TWO, 16, "155", id="one token more costs what the second tier says: there is no cliff"),
        pytest.param(THREE, 1, "0.0000005", id="one token of a price per million"),
        pytest.param(THREE, 1_000_000, "0.5", id="a whole tier"),
        pytest.param(THREE, 2_000_000, "0.9", id="0.50 + 0.40"),
        pytest.param(THREE, 10**15, "1.3", id="0.50 + 2 × 0.40, and the rest is free"),
    ],
)  # fmt: skip
def test_each_token_costs_what_its_tier_says(price: GraduatedPrice, quantity: int, amount: str) -> None:
    assert price.amount(quantity) == Decimal(amount)


@pytest.mark.parametrize(
    ("start", "quantity", "expected"),
    [
        pytest.param(0, 15, [(15, 0)], id="up to the edge"),
        pytest.param(15, 1, [(1, 1)], id="from the edge"),
        pytest.param(14, 3, [(1, 0), (2, 1)], id="across the edge"),
        pytest.param(100, 7, [(7, 1)], id="the last tier has no end"),
        pytest.param(14, 0, [], id="nothing"),
    ],
)
def test_tokens_fall_into_tiers_by_how_many_went_before(
    start: int, quantity: int, expected: list[tuple[int, int]]
) -> None:
    units = (UnitPrice(Decimal(10), 1), UnitPrice(Decimal(5), 1))
    assert list(TWO.pieces(start, quantity)) == [Piece(count, units[tier], tier) for count, tier in expected]


@pytest.mark.parametrize(
    ("tiers", "fault"),
    [
        ([], "the last tier ends at 0; it has no end"),
        ([("1", 10)], "the last tier ends at 10; it has no end"),
        ([("1", None), ("2", None)], "a tier to None does not follow 0"),
        ([("1", 10), ("2", 10), ("3", None)], "a tier to 10 does not follow 10"),
        ([("1", 0), ("2", None)], "a tier to 0 does not follow 0"),
    ],
)
def test_tiers_leave_no_gap_and_go_on_without_an_end(tiers: list[tuple[str, int | None]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        graduated(*tiers)


def test_a_price_reads_as_people_say_it() -> None:
    assert str(TWO) == "10 per 1 to 15, then 5 per 1"
    assert (
        str(graduated(("1", 10), ("0", None), allowance=2_000)) == "1 per 1 to 10, then free, 2,000 included"
    )


def test_it_knows_its_dearest_tier_and_whether_it_is_free() -> None:
    assert THREE.dearest == UnitPrice(Decimal("0.50"), 1_000_000)
    assert not THREE.is_free
    assert graduated(("0", 10), ("0", None)).is_free
    assert THREE.is_cumulative


def test_a_stored_price_says_its_shape_and_comes_back_exactly() -> None:
    stored = msgspec.json.encode(graduated(("0.10", 5), ("0", None), allowance=3))
    assert stored == (
        b'{"shape":"graduated","tiers":[{"price":"0.10","per":1,"up_to":5},{"price":"0","per":1}],"allowance":3}'
    )
    assert msgspec.json.encode(msgspec.json.decode(stored, type=GraduatedPrice)) == stored
