import msgspec

from billing.invoicing.draft import draft
from billing.invoicing.reconcile import Balance, reconcile
from billing.pricing.term import Term
from tests.invoice_kit import rollup_row
from tests.issue_kit import NOVEMBER, ROWS, TERMS, Components, drafted, plan_of

LATE = [msgspec.structs.replace(ROWS[1], collection=2)]
TOTAL_PLAN = """\
plan: blended
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, total: 0.40}
"""


def test_everything_used_stands_in_exactly_one_place() -> None:
    found = reconcile(ROWS, drafted())
    assert found.is_equal
    assert found.components == (
        Balance("uncached_input", 1_531, 1_513, 7, 11, 0, 13),
        Balance("answer_output", 153, 150, 3, 0, 0, 0),
        Balance("reasoning", 20, 20, 0, 0, 0, 0),
    )
    assert found.tokens == Balance("tokens", 1_704, 1_683, 10, 11, 0, 13)
    assert found.requests == Balance("requests", 6, 4, 1, 1, 0, 0)


def test_late_usage_stands_apart() -> None:
    found = reconcile([*ROWS, *LATE], drafted(), LATE)
    assert found.is_equal
    assert (found.tokens.late, found.requests.late) == (560, 2)


def test_what_stands_nowhere_or_twice_is_seen() -> None:
    missing = reconcile([*ROWS, *LATE], drafted())
    assert not missing.is_equal
    assert (missing.tokens.difference, missing.requests.difference) == (560, 2)
    twice = reconcile(ROWS, drafted([*ROWS, *LATE]))
    assert (twice.is_equal, twice.tokens.difference) == (False, -560)
    exchanged = drafted([rollup_row("2026-11-01T00:00:00Z", Components(0, 7, 0, 0, 0))])
    other = reconcile([rollup_row("2026-11-01T00:00:00Z", Components(7))], exchanged)
    assert (other.is_equal, other.tokens.difference) == (False, 0)


def test_one_price_for_all_tokens_is_compared_by_the_sum() -> None:
    terms = [Term(TERMS[0].starts_us, None, plan_of(TOTAL_PLAN))]
    found = reconcile(ROWS, draft(ROWS, terms, NOVEMBER))
    assert found.is_equal
    assert [each.name for each in found.components] == [
        "uncached_input",
        "answer_output",
        "reasoning",
        "total",
    ]
    assert found.tokens.difference == 0
