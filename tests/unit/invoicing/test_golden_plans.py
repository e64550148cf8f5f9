"""The four golden plans over the same usage (billing-rules.md §5); the literals are calculated by hand beside each line.

Three requests of 1,013 prompt tokens, of which the second finds 1,008 in the cache (§3, vector 9) and the third is of a
model of its own; each answers 53 tokens, 20 of them reasoning.
"""

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from billing.invoicing.draft import Draft, draft
from billing.invoicing.period import parse_period
from billing.pricing.parse import parse
from billing.pricing.plan import Plan
from billing.pricing.rating import Unrated
from billing.pricing.term import Term, Unpriced
from billing.tokens.components import Component, Components
from tests.invoice_kit import at, rollup_row

NOVEMBER = parse_period("2026-11")
ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(1_013, 0, 0, 33, 20)),
    rollup_row("2026-11-02T10:15:00Z", Components(5, 1_008, 0, 33, 20)),
    rollup_row("2026-11-30T23:45:00Z", Components(1_013, 0, 0, 33, 20), model="silver"),
]
"""In all: uncached input 2,031, cached input 1,008, answer 99, reasoning 60: 3,198 tokens."""


def billed(rates: str, more: str = "") -> Draft:
    text = f"plan: golden\ncurrency: USD\nversions: [{{effective: 2026-01-01T00:00:00Z, per: 1000, {more} rates: [{rates}]}}]"
    wanted = parse(text)
    version = msgspec.structs.replace(wanted.versions[0], number=1)
    plan = Plan(UUID(int=1), wanted.name, wanted.currency, 0, (version,))
    return draft(ROWS, [Term(at("2026-11-01T00:00:00Z"), None, plan)], NOVEMBER)


def lines(made: Draft) -> list[tuple[str, str, int, str, int | None]]:
    return [
        (each.model, each.component, each.quantity, f"{each.amount.normalize():f}", each.amount_minor)
        for each in made.billed.lines
    ]


def test_input_only() -> None:
    made = billed('{model: "*", input: 0.50, cached_input: 0.05, output: free}')
    assert lines(made) == [
        ("golden", "uncached_input", 1_018, "0.509", 51),  # 1,018 × 0.50 / 1,000
        ("golden", "cached_input", 1_008, "0.0504", 5),  # 1,008 × 0.05 / 1,000
        ("golden", "answer_output", 66, "0", 0),
        ("golden", "reasoning", 40, "0", 0),
        ("silver", "uncached_input", 1_013, "0.5065", 51),  # 1,013 × 0.50 / 1,000
        ("silver", "answer_output", 33, "0", 0),
        ("silver", "reasoning", 20, "0", 0),
    ]
    # 0.5090 + 0.0504 + 0.5065 = 1.0659 → 1.07: cut to 50 + 5 + 50 cents, the other two go to 0.90 and 0.65 of a cent.
    assert (made.subtotal, made.total) == (Decimal("1.0659"), Decimal("1.07"))


def test_output_only() -> None:
    made = billed('{model: "*", input: free, output: 1.50}')
    assert [line for line in lines(made) if line[3] != "0"] == [
        ("golden", "answer_output", 66, "0.099", 10),  # 66 × 1.50 / 1,000
        ("golden", "reasoning", 40, "0.06", 6),  # 40 × 1.50 / 1,000
        ("silver", "answer_output", 33, "0.0495", 5),  # 33 × 1.50 / 1,000
        ("silver", "reasoning", 20, "0.03", 3),  # 20 × 1.50 / 1,000
    ]
    assert (made.subtotal, made.total) == (Decimal("0.2385"), Decimal("0.24"))
    assert made.billed.unrated == ()


def test_output_only_without_a_word_on_input_leaves_it_unrated() -> None:
    made = billed('{model: "*", output: 1.50}')
    assert (made.subtotal, made.total) == (Decimal("0.2385"), Decimal("0.24"))
    assert made.billed.unrated == (
        Unrated("golden", Component.UNCACHED_INPUT, 1_018, Unpriced.NO_RATE),
        Unrated("golden", Component.CACHED_INPUT, 1_008, Unpriced.NO_RATE),
        Unrated("silver", Component.UNCACHED_INPUT, 1_013, Unpriced.NO_RATE),
    )


def test_both() -> None:
    made = billed('{model: "*", input: 0.50, cached_input: 0.05, output: 1.50, reasoning: 1.00}')
    assert lines(made) == [
        ("golden", "uncached_input", 1_018, "0.509", 51),
        ("golden", "cached_input", 1_008, "0.0504", 5),
        ("golden", "answer_output", 66, "0.099", 10),
        ("golden", "reasoning", 40, "0.04", 4),  # 40 × 1.00 / 1,000
        ("silver", "uncached_input", 1_013, "0.5065", 50),
        ("silver", "answer_output", 33, "0.0495", 5),
        ("silver", "reasoning", 20, "0.02", 2),  # 20 × 1.00 / 1,000
    ]
    # 0.509 + 0.0504 + 0.099 + 0.04 + 0.5065 + 0.0495 + 0.02 = 1.2744 → 1.27. Cut to cents they are 1.24; the other three go
    # to 0.95, 0.90 and 0.90 of a cent and not to 0.65. Each rounded by itself they would print 1.28.
    assert (made.subtotal, made.total) == (Decimal("1.2744"), Decimal("1.27"))


def test_blended_total() -> None:
    made = billed('{model: "*", total: 0.30}')
    assert lines(made) == [
        ("golden", "total", 2_132, "0.6396", 64),  # (1,018 + 1,008 + 66 + 40) × 0.30 / 1,000
        ("silver", "total", 1_066, "0.3198", 32),  # (1,013 + 33 + 20) × 0.30 / 1,000
    ]
    assert (made.subtotal, made.total) == (Decimal("0.9594"), Decimal("0.96"))


@pytest.mark.parametrize(
    ("minimum", "charged", "total"),
    [
        # Usage is 0.9594: 2.00 lacks 1.0406, 0.90 lacks nothing; the fee of 5.00 stands beside.
        ("2.00", [("fee", "5", 500), ("minimum", "1.0406", 104)], "7.00"),
        ("0.90", [("fee", "5", 500)], "5.96"),
    ],
)
def test_blended_total_with_a_fee_and_a_minimum(
    minimum: str, charged: list[tuple[str, str, int]], total: str
) -> None:
    made = billed('{model: "*", total: 0.30}', f"monthly_fee: 5.00, minimum: {minimum},")
    assert [(each.kind, f"{each.amount:f}", each.amount_minor) for each in made.charges] == charged
    assert str(made.total) == total


def test_graduated_input_with_an_allowance_and_output_together() -> None:
    made = billed(
        '{model: "*", input: {tiers: [{up_to: 1000, price: 0.50}, {price: 0.30}], allowance: 1000}, output: free}'
    )
    priced = [
        (each.model, each.component, each.quantity, each.tier, each.included, f"{each.amount:f}")
        for each in made.billed.lines
    ]
    # In the order of filling: uncached input of golden (1,018), of silver (1,013), cached input of golden (1,008).
    assert [line for line in priced if line[1].endswith("input")] == [
        ("golden", "uncached_input", 1_000, None, True, "0"),
        ("golden", "uncached_input", 18, 0, False, "0.0090"),  # 18 × 0.50 / 1,000
        ("golden", "cached_input", 1_008, 1, False, "0.3024"),  # 1,008 × 0.30 / 1,000
        ("silver", "uncached_input", 982, 0, False, "0.4910"),  # 982 × 0.50 / 1,000: the tier's 1,000 are full
        ("silver", "uncached_input", 31, 1, False, "0.0093"),  # 31 × 0.30 / 1,000
    ]  # fmt: skip
    assert (made.subtotal, made.total) == (Decimal("0.8117"), Decimal("0.81"))
