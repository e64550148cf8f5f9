from decimal import Decimal

import pytest

from billing.dashboard import format as written

NOON = 1_795_521_600_123_456
"""2026-11-24 12:00:00.123456 UTC."""


def test_numbers_are_written_with_thousands_apart_and_differences_with_their_sign() -> None:
    assert written.count(1_234_567) == "1,234,567"
    assert [written.signed(number) for number in (1_005, -3, 0)] == ["+1,005", "−3", "0"]
    assert [written.counted(number, "request") for number in (0, 1, 2)] == [
        "0 requests",
        "1 request",
        "2 requests",
    ]
    assert written.counted(2, "entry", "entries") == "2 entries"


def test_amounts_of_a_column_have_equally_many_decimals_and_none_is_rounded() -> None:
    assert written.amounts([Decimal("0.1"), Decimal("1234.00005")], "USD") == ["0.10000", "1,234.00005"]
    assert written.amount(Decimal(7), "JPY") == "7"
    assert written.amount(Decimal(7), None) == "7.00"
    assert written.amounts([], "USD") == []


@pytest.mark.parametrize(
    ("span_us", "text"),
    [
        (None, "–"), (99, "99 µs"), (100, "0.1 ms"), (12_345, "12.3 ms"), (999_999, "999.9 ms"),
        (4_129_999, "4.12 s"), (59_999_999, "59.99 s"), (185_000_000, "3 min 05 s"),
    ],
)  # fmt: skip
def test_a_span_is_as_short_as_it_can_be_read_and_is_cut(span_us: int | None, text: str) -> None:
    assert written.span(span_us) == text


def test_a_pace_has_a_decimal_while_it_is_small() -> None:
    assert written.pace(1_284, 60_000_000) == "21.4"
    assert written.pace(600_000, 60_000_000) == "10,000"
    assert written.pace(5, 0) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (0, "now"), (59, "59 s ago"), (60, "1 min ago"), (3_600, "1 h ago"), (172_800, "2 d ago")],
)
def test_how_long_ago_is_said_in_the_largest_unit(seconds: int, text: str) -> None:
    assert written.ago(NOON - seconds * 1_000_000, NOON) == text


def test_instants_are_written_in_utc() -> None:
    assert written.clock(NOON) == "12:00:00"
    assert written.minute(NOON) == "2026-11-24 12:00"
    assert written.moment(NOON) == "2026-11-24 12:00:00.123"
    assert written.timestamp(NOON) == "2026-11-24T12:00:00.123456Z"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert written.percentile([], 50) is None
    assert written.percentile([7], 95) == 7
    assert written.percentile(list(range(1, 101)), 50) == 50
    assert written.percentile([30, 10, 20], 95) == 30


def test_words_and_ids_are_shortened_for_people() -> None:
    assert written.words("client_closed") == "client closed"
    assert written.short_id("01a20c96-63a8-7bba-b644-a70c1bc3cba7") == "…1bc3cba7"
