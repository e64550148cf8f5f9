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


UNITS = rollup_row("2026-11-05T00:00:00Z", Components(uncached_input=100, training=40, second=30, search=2))
UNITS_PLAN = TOTAL_PLAN.replace("total: 0.40", "total: 0.40, second: 1, training: 2, request: 3")


def test_units_are_compared_each_by_itself_and_are_no_tokens() -> None:
    terms = [Term(TERMS[0].starts_us, None, plan_of(UNITS_PLAN))]
    found = reconcile([UNITS], draft([UNITS], terms, NOVEMBER))
    assert found.is_equal
    assert found.components == (
        Balance("uncached_input", 100, 0, 0, 0, 0, 0),
        Balance("training", 40, 40, 0, 0, 0, 0),
        Balance("second", 30, 30, 0, 0, 0, 0),
        Balance("search", 2, 2, 0, 0, 0, 2),
        Balance("total", 0, 100, 0, 0, 0, 0),
    )
    assert found.tokens == Balance("tokens", 140, 140, 0, 0, 0, 0)
    # A price of requests makes a line of them, and no second request.
    assert found.requests == Balance("requests", 1, 1, 0, 0, 0, 0)
    assert [each.unit for each in (*found.components, found.tokens, found.requests)] == [
        "tokens", "tokens", "seconds", "searches", "tokens", "tokens", "requests",
    ]  # fmt: skip


def test_a_unit_that_stands_nowhere_is_seen_also_where_all_tokens_have_one_price() -> None:
    terms = [Term(TERMS[0].starts_us, None, plan_of(UNITS_PLAN))]
    more = msgspec.structs.replace(UNITS, components=msgspec.structs.replace(UNITS.components, second=31))
    found = reconcile([more], draft([UNITS], terms, NOVEMBER))
    assert (found.is_equal, found.tokens.difference) == (False, 0)
