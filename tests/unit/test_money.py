"""Amounts: vectors of billing-rules.md §3, and what a price may not be."""

import ast
import re
from decimal import Decimal
from pathlib import Path

import pytest

from billing import money
from billing.errors import InvalidInput
from billing.money import Money, Rounding

ROOT = Path(__file__).parents[2]
MONEY_FOLDERS = ("billing/pricing", "billing/invoicing", "billing/cli")


@pytest.mark.parametrize(
    ("quantity", "price", "per", "expected"),
    [
        pytest.param(202_296_430, "0.60", 1_000_000, "121.377858", id="vector 1: the sum of 100,000 requests, priced once"),
        pytest.param(50_000_000, "0.000001", 1, "50", id="vector 3: a price far below a cent is not rounded first"),
        pytest.param(10_000_000, "0.0000006", 1, "6", id="vector 5: exactly 6 where floats give 5.9999999992384945"),
        pytest.param(5, "0.50", 1_000, "0.0025", id="five tokens cost a quarter of a cent"),
        pytest.param(0, "0.50", 1_000, "0", id="nothing costs nothing"),
        pytest.param(
            2**63 - 1, "999999999.999999999999999999", 1,
            "9223372036854775806999999990.776627963145224193",
            id="the largest count at the longest price keeps every digit",
        ),
    ],
)  # fmt: skip
def test_a_cost_is_exact(quantity: int, price: str, per: int, expected: str) -> None:
    assert money.cost(quantity, Decimal(price), per) == Decimal(expected)


def test_vector_1_rounding_each_request_to_cents_would_bill_nothing() -> None:
    each_at_least, rest = divmod(202_296_430, 100_000)
    tokens = [each_at_least + (number < rest) for number in range(100_000)]
    each = [money.cost(count, Decimal("0.60"), 1_000_000) for count in tokens]
    assert sum(money.to_minor(amount, "USD", Rounding.HALF_EVEN) for amount in each) == 0
    assert money.total(each) == Decimal("121.377858")


def test_vector_2_57_lines_of_0_004_are_0_23_in_total_and_0_00_each() -> None:
    lines = [Decimal("0.004")] * 57
    assert {money.to_minor(line, "USD", Rounding.HALF_EVEN) for line in lines} == {0}
    assert money.from_minor(money.to_minor(money.total(lines), "USD", Rounding.HALF_EVEN), "USD") == Decimal(
        "0.23"
    )


@pytest.mark.parametrize(
    ("amount", "currency", "rounding", "minor"),
    [
        pytest.param("1000", "JPY", Rounding.HALF_EVEN, 1_000, id="vector 4: a yen has no minor unit"),
        pytest.param("1.234", "KWD", Rounding.HALF_EVEN, 1_234, id="vector 4: a dinar has a thousand fils"),
        pytest.param("0.005", "USD", Rounding.HALF_EVEN, 0, id="vector 4: half a cent goes to the even cent"),
        pytest.param("0.005", "USD", Rounding.HALF_UP, 1, id="vector 4: half a cent goes up where the issuer says so"),
        pytest.param("0.015", "USD", Rounding.HALF_EVEN, 2, id="one and a half cents go to two"),
        pytest.param("0.0049999999999999999999", "USD", Rounding.HALF_UP, 0, id="almost half a cent is not half"),
        pytest.param("-0.05", "USD", Rounding.HALF_EVEN, -5, id="a credit is negative"),
    ],
)  # fmt: skip
def test_an_amount_is_rounded_to_minor_units(
    amount: str, currency: str, rounding: Rounding, minor: int
) -> None:
    assert money.to_minor(Decimal(amount), currency, rounding) == minor


@pytest.mark.parametrize(
    ("total", "amounts", "expected"),
    [
        pytest.param(23, ["0.004"] * 57, [1] * 23 + [0] * 34, id="vector 2: 57 lines of 0.4 cents print as 0.23, the first have it"),
        pytest.param(100, ["0.335", "0.332", "0.333"], [34, 33, 33], id="the largest remainder is rounded up"),
        pytest.param(4, ["0.0133", "0.0133", "0.0134"], [1, 1, 2], id="wherever it stands"),
        pytest.param(0, ["0", "0.004"], [0, 0], id="less than half a cent in all"),
        pytest.param(1, ["0", "0.005"], [0, 1], id="a line of nothing gets nothing"),
        pytest.param(-1, ["-0.012", "0.002"], [-1, 0], id="a credit"),
        pytest.param(0, [], [], id="no line"),
        pytest.param(150_000, ["15.571861", "500", "984.428139"], [1_557, 50_000, 98_443], id="a true-up to a round sum"),
    ],
)  # fmt: skip
def test_a_rounded_total_is_shared_out_so_that_what_is_printed_adds_up(
    total: int, amounts: list[str], expected: list[int]
) -> None:
    shared = money.allocate(total, [Decimal(each) for each in amounts], "USD")
    assert (shared, sum(shared)) == (expected, total)


def test_currencies_without_a_minor_unit_are_shared_out_in_whole_units() -> None:
    assert money.allocate(2, [Decimal("0.6"), Decimal("0.9")], "JPY") == [1, 1]
    assert money.allocate(1_500, [Decimal("0.6"), Decimal("0.9")], "KWD") == [600, 900]


@pytest.mark.parametrize("total", [-1, 4])
def test_what_is_no_rounded_sum_of_the_amounts_is_not_shared_out(total: int) -> None:
    with pytest.raises(ValueError, match=f"{total} is no rounded sum of amounts that are cut to 1"):
        money.allocate(total, [Decimal("0.011"), Decimal("0.001")], "USD")


@pytest.mark.parametrize(("currency", "text"), [("USD", "-0.05"), ("JPY", "-5"), ("KWD", "-0.005")])
def test_minor_units_become_an_amount_with_the_currency_s_decimals(currency: str, text: str) -> None:
    assert str(money.from_minor(-5, currency)) == text


@pytest.mark.parametrize("text", ["0", "0.25", "1000000000", "0.000000000000000001", "00.10", ".5", "5."])
def test_a_price_is_decimal_text(text: str) -> None:
    assert money.parse_price(text, "price") == Decimal(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("-0.25", "price: a price cannot be negative, got -0.25"),
        ("-0", "price: a price cannot be negative, got -0"),
        ("", "price: '' is not a decimal number; write for example \"0.25\""),
        ("1e-7", "price: '1e-7' is not a decimal number; write for example \"0.25\""),
        ("NaN", "price: 'NaN' is not a decimal number; write for example \"0.25\""),
        ("Infinity", "price: 'Infinity' is not a decimal number; write for example \"0.25\""),
        ("0,25", "price: '0,25' is not a decimal number; write for example \"0.25\""),
        ("1.2.3", "price: '1.2.3' is not a decimal number; write for example \"0.25\""),
        ("٣", "price: '٣' is not a decimal number; write for example \"0.25\""),
        ("1000000000.01", "price: 1000000000.01 is above the largest price of 1000000000"),
        ("0.0000000000000000001", "price: 0.0000000000000000001 has more than 18 decimals"),
    ],
)  # fmt: skip
def test_what_is_no_price_is_refused_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        money.parse_price(text, "price")
    assert (str(refused.value), refused.value.param) == (fault, "price")


@pytest.mark.parametrize("code", ["usd", "US", "USDT", "U$D", "ÜSD", ""])
def test_what_is_no_currency_code_is_refused(code: str) -> None:
    with pytest.raises(InvalidInput, match="write three capital letters, for example USD"):
        money.check_currency(code, "currency")


@pytest.mark.parametrize(
    ("amount", "text"), [("1E-7", "0.0000001"), ("1E+3", "1000"), ("0.50", "0.5"), ("100", "100"), ("0.00", "0")]
)  # fmt: skip
def test_plain_text_has_neither_exponent_nor_trailing_zeros(amount: str, text: str) -> None:
    assert money.plain(Decimal(amount)) == text


def test_two_currencies_do_not_add_up() -> None:
    assert str(Money(Decimal("0.10"), "USD") + Money(Decimal("0.20"), "USD")) == "0.3 USD"
    with pytest.raises(ValueError, match="cannot add EUR to USD"):
        _ = Money(Decimal(1), "USD") + Money(Decimal(1), "EUR")


def test_a_price_is_for_a_power_of_ten_of_tokens() -> None:
    with pytest.raises(ValueError, match="per 500 is not a power of ten"):
        money.cost(1, Decimal(1), 500)


SECONDS_OR_A_PATH = re.compile(r"_S = |_s: float|\.seconds|_dir / ")
"""What is no money: times, which are named after their unit, and paths."""


def test_no_float_and_no_true_division_comes_near_money() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [
            ROOT / "billing/money.py",
            *(p for folder in MONEY_FOLDERS for p in (ROOT / folder).rglob("*.py")),
        ]
        for text in [path.read_text("utf-8")]
        for node in ast.walk(ast.parse(text))
        if _is_float(node) and not SECONDS_OR_A_PATH.search(text.splitlines()[node.lineno - 1])
    ]
    assert faults == []


def _is_float(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.Name):
        return node.id in {"float", "round"}
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and not isinstance(node.right, ast.Constant | ast.Name)
    )


@pytest.mark.parametrize("code", ["ZZZ", "XXX", "XAU", "DEM", "BGN"])
def test_a_code_that_is_no_active_currency_is_refused(code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        money.check_currency(code, "currency")
    assert (str(refused.value), refused.value.param) == (
        f"currency: {code} is no active currency code of ISO 4217, as USD is",
        "currency",
    )
    with pytest.raises(InvalidInput):
        money.exponent(code)


@pytest.mark.parametrize(
    ("decimals", "codes"),
    [
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (2, "USD EUR GBP CHF CNY INR BRL HUF IDR COP MGA MRU XCD XCG ZWG"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    ],
)
def test_a_currency_has_the_decimals_of_iso_4217(decimals: int, codes: str) -> None:
    for code in codes.split():
        assert money.check_currency(code, "currency") == code
        assert money.exponent(code) == decimals


def test_a_difference_and_the_order_of_remainders_are_exact_beyond_28_digits() -> None:
    long = Decimal("12345678901.000000000000000001")
    assert money.difference(long, Decimal(12345678901)) == Decimal("1E-18")
    close = [Decimal("0.0" + "4" * 40), Decimal("0.0" + "4" * 39 + "5")]
    assert money.allocate(9, close, "USD") == [4, 5]
