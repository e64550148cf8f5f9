from decimal import Decimal

import msgspec
import pytest

from billing.invoicing.late import LateUsage, is_late, late_subscribed, late_terms, late_usage
from billing.invoicing.recompute import redraft
from billing.metering.stored import RollupRow
from billing.pricing.term import Term
from billing.tokens.components import Component
from tests.invoice_kit import at, rollup_row
from tests.issue_kit import PLAN, PLANS, ROWS, TERMS, Components, inputs_of

COLLECTION = 1
EARLY = inputs_of(end="2026-11-24T10:15:00Z")
MANY = rollup_row("2026-11-05T00:00:00Z", Components(0, 0, 0, 10_000, 0), requests=10)
"""So much that the minimum is reached: 100 × 2.00 / 1,000 + the rest × 1.20 / 1,000."""


def late(row: RollupRow, collection: int = 2) -> RollupRow:
    return msgspec.structs.replace(row, collection=collection)


@pytest.mark.parametrize(
    ("bucket", "collection", "expected"),
    [
        ("2026-11-24T10:00:00Z", 1, False),
        ("2026-11-24T10:00:00Z", 2, True),
        ("2026-11-24T10:15:00Z", 1, True),
        ("2026-11-30T23:45:00Z", 2, True),
        ("2026-12-01T00:00:00Z", 2, False),
        ("2026-10-31T23:45:00Z", 2, False),
    ],
)
def test_late_is_what_came_after_the_close_or_the_early_end(
    bucket: str, collection: int, expected: bool
) -> None:
    assert is_late(late(rollup_row(bucket, Components(1)), collection), EARLY, COLLECTION) is expected


def test_late_usage_costs_what_full_knowledge_would_have_billed_more() -> None:
    rows = [*ROWS, MANY, late(rollup_row("2026-11-06T00:00:00Z", Components(1_000, 0, 0, 100, 0)))]
    issued = redraft(inputs_of(), PLANS, rows, COLLECTION)
    found = late_usage(rows, TERMS, inputs_of(), COLLECTION, issued)
    # The allowance is used up and the second tier reached: 1,000 × 0.40 / 1,000 + 100 × 1.20 / 1,000, and no second fee.
    assert found == LateUsage(1, 1_100, 1, "USD", 52)
    assert found.amount == Decimal("0.52")


def test_late_units_stand_beside_late_tokens() -> None:
    rows = [*ROWS, late(rollup_row("2026-11-06T00:00:00Z", Components(1_000, second=12)))]
    issued = redraft(inputs_of(), PLANS, rows, COLLECTION)
    found = late_usage(rows, TERMS, inputs_of(), COLLECTION, issued)
    assert (found.tokens, found.units) == (1_000, {Component.SECOND: 12})


def test_late_usage_below_the_minimum_costs_nothing_more() -> None:
    rows = [*ROWS, late(rollup_row("2026-11-06T00:00:00Z", Components(1_000, 0, 0, 0, 0)))]
    issued = redraft(inputs_of(), PLANS, rows, COLLECTION)
    assert late_usage(rows, TERMS, inputs_of(), COLLECTION, issued).amount_minor == 0


def test_late_usage_that_is_not_billed_costs_nothing() -> None:
    rows = [*ROWS, MANY, late(rollup_row("2026-11-06T00:00:00Z", Components(9), outcome="upstream_error"))]
    issued = redraft(inputs_of(), PLANS, rows, COLLECTION)
    assert late_usage(rows, TERMS, inputs_of(), COLLECTION, issued) == LateUsage(1, 9, 0, "USD", 0)


def test_without_late_usage_there_is_none_also_when_prices_changed() -> None:
    other = [Term(0, None, msgspec.structs.replace(PLAN, name="other"))]
    issued = redraft(inputs_of(), PLANS, ROWS, COLLECTION)
    assert late_usage(ROWS, other, inputs_of(), COLLECTION, issued) == LateUsage(0, 0, 0, "USD", 0)


def test_a_plan_that_was_ended_after_an_early_close_gives_no_fee_back() -> None:
    ended = [Term(TERMS[0].starts_us, at("2026-11-26T00:00:00Z"), PLAN)]
    more = late(rollup_row("2026-11-25T00:00:00Z", Components(0, 0, 0, 100, 0)))
    rows = [*ROWS, MANY, more]
    issued = redraft(EARLY, PLANS, rows, COLLECTION)
    found = late_usage(
        rows,
        late_terms(TERMS, ended, EARLY),
        EARLY,
        COLLECTION,
        issued,
        subscribed=late_subscribed(TERMS, ended, EARLY),
    )
    # 100 × 1.20 / 1,000.
    assert found.amount == Decimal("0.12")
    assert [str(each.amount) for each in issued.charges] == ["20"]


def test_a_whole_month_is_priced_by_the_invoices_own_terms() -> None:
    assert late_terms(TERMS, [], inputs_of()) == TERMS


def test_after_an_early_end_the_present_terms_price() -> None:
    end_us = EARLY.end_us
    assert late_terms(TERMS, TERMS, EARLY) == [
        Term(TERMS[0].starts_us, end_us, PLAN),
        Term(end_us, None, PLAN),
    ]
    changed_us = at("2026-11-28T00:00:00Z")
    present = [Term(0, changed_us, PLAN), Term(changed_us, None, PLAN)]
    assert [each.starts_us for each in late_terms(TERMS, present, EARLY)] == [
        TERMS[0].starts_us,
        end_us,
        changed_us,
    ]
    ended = [Term(0, at("2026-11-20T00:00:00Z"), PLAN)]
    assert late_terms(TERMS, ended, EARLY) == [Term(TERMS[0].starts_us, end_us, PLAN)]
