from decimal import Decimal

import msgspec
import pytest

from billing.pricing.unit import Piece, UnitPrice


@pytest.mark.parametrize(
    ("price", "per", "quantity", "amount"),
    [
        pytest.param("0.60", 1_000_000, 202_296_430, "121.377858", id="vector 1"),
        pytest.param("0.000001", 1, 50_000_000, "50", id="vector 3"),
        pytest.param("0.50", 1_000, 1, "0.0005", id="one token of a price per thousand"),
        pytest.param("0", 1, 10**18, "0", id="free is free at any size"),
    ],
)
def test_an_amount_is_quantity_times_price_by_per(price: str, per: int, quantity: int, amount: str) -> None:
    assert UnitPrice(Decimal(price), per).amount(quantity) == Decimal(amount)


@pytest.mark.parametrize(
    ("price", "per", "text"),
    [("0.50", 1_000, "0.5 per 1,000"), ("0.0000006", 1, "0.0000006 per 1"), ("0.00", 1, "free")],
)
def test_a_price_reads_as_people_say_it(price: str, per: int, text: str) -> None:
    assert str(UnitPrice(Decimal(price), per)) == text


def test_an_allowance_makes_a_price_that_counts_over_a_period() -> None:
    price = UnitPrice(Decimal("0.50"), 1_000, 2_000)
    assert str(price) == "0.5 per 1,000, 2,000 included"
    assert price.is_cumulative
    assert price.dearest == UnitPrice(Decimal("0.50"), 1_000)
    assert not price.dearest.is_cumulative


def test_every_token_is_one_piece_wherever_it_stands() -> None:
    price = UnitPrice(Decimal(1), 1)
    assert price.pieces(0, 5) == price.pieces(10**9, 5) == (Piece(5, price),)
    assert price.pieces(0, 0) == ()


def test_a_stored_price_says_its_shape_and_comes_back_exactly() -> None:
    price = UnitPrice(Decimal("0.000000000000000001"), 1_000_000)
    stored = msgspec.json.encode(price)
    assert stored == b'{"shape":"unit","price":"1E-18","per":1000000}'
    assert msgspec.json.decode(stored, type=UnitPrice) == price
