"""The content of an invoice. The literals of acme's are calculated by hand, beside each line."""

import random
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from billing import money
from billing.errors import Conflict
from billing.invoicing.draft import Draft, Reason, billed_positions, draft
from billing.invoicing.period import parse_period
from billing.metering.stored import RollupRow
from billing.money import Rounding
from billing.pricing.charge import Charge, ChargeKind
from billing.pricing.parse import parse
from billing.pricing.plan import Plan
from billing.pricing.rating import Pool, Unrated
from billing.pricing.term import Term, Unpriced
from billing.tokens.components import Component, Components
from tests.invoice_kit import at, rollup_row

NOVEMBER = parse_period("2026-11")
PLAN_TEXT = """\
plan: demo
currency: USD
label: Demo prices, per 1,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: 0.50, cached_input: 0.05, output: 1.50, reasoning: 1.00}
      - {model: "*", input: 0.10, output: free}
  - effective: 2026-11-15T00:00:00Z
    label: Demo prices from 15 November
    per: 1000
    rates:
      - {model: golden, input: 0.40, cached_input: 0.04, output: 1.20, reasoning: 0.80}
"""


def plan(text: str = PLAN_TEXT) -> Plan:
    wanted = parse(text)
    versions = [msgspec.structs.replace(v, number=number) for number, v in enumerate(wanted.versions, 1)]
    return Plan(UUID(int=1), wanted.name, wanted.currency, 0, tuple(versions))


TERMS = [Term(at("2026-11-01T00:00:00Z"), None, plan())]
ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(5, 1_008, 0, 33, 20)),
    rollup_row("2026-11-14T23:45:00Z", Components(1_013, 0, 0, 33, 20), requests=2),
    rollup_row(
        "2026-11-15T00:00:00Z", Components(1_013, 0, 0, 33, 20), outcome="client_closed", provenance="running"
    ),
    rollup_row("2026-11-02T10:00:00Z", Components(2_000, 0, 0, 0, 0), model="embed"),
    rollup_row("2026-11-20T10:00:00Z", Components(777, 0, 0, 0, 0), model="embed"),
    rollup_row(
        "2026-11-03T10:00:00Z", Components(100, 0, 0, 10, 0), outcome="interrupted", provenance="running"
    ),
    rollup_row("2026-11-03T10:00:00Z", Components(), outcome="interrupted", provenance="none"),
    rollup_row("2026-11-04T10:00:00Z", Components(200, 0, 0, 20, 0), provenance="estimated"),
    rollup_row("2026-11-05T10:00:00Z", Components(300, 0, 0, 0, 0), provenance="none", requests=3),
    rollup_row("2026-12-01T00:00:00Z", Components(9_999, 0, 0, 9_999, 0)),
    rollup_row("2026-10-31T23:45:00Z", Components(9_999, 0, 0, 9_999, 0)),
]


def content(made: Draft) -> list[tuple[int, str, str, int, str]]:
    return [
        (each.version, each.model, each.component, each.quantity, money.plain(each.amount))
        for each in made.billed.lines
    ]


def test_the_invoice_of_acme_equals_what_was_calculated_by_hand() -> None:
    made = draft(ROWS, TERMS, NOVEMBER)
    assert content(made) == [
        (1, "embed", "uncached_input", 2_000, "0.2"),  # 2,000 × 0.10 / 1,000
        (1, "golden", "uncached_input", 1_018, "0.509"),  # (5 + 1,013) × 0.50 / 1,000
        (2, "golden", "uncached_input", 1_013, "0.4052"),  # 1,013 × 0.40 / 1,000
        (1, "golden", "cached_input", 1_008, "0.0504"),  # 1,008 × 0.05 / 1,000
        (1, "golden", "answer_output", 66, "0.099"),  # (33 + 33) × 1.50 / 1,000
        (2, "golden", "answer_output", 33, "0.0396"),  # 33 × 1.20 / 1,000
        (1, "golden", "reasoning", 40, "0.04"),  # (20 + 20) × 1.00 / 1,000
        (2, "golden", "reasoning", 20, "0.016"),  # 20 × 0.80 / 1,000
    ]
    assert (made.subtotal, made.total, made.total_minor, made.currency) == (
        Decimal("1.3592"),
        Decimal("1.36"),
        136,
        "USD",
    )


def test_what_is_not_billed_stands_apart_with_its_worth() -> None:
    made = draft(ROWS, TERMS, NOVEMBER)
    assert made.waived.reasons == (
        Reason("interrupted", "none", 1, 0, 0, Decimal(0)),
        Reason(
            "interrupted", "running", 1, 110, 0, Decimal("0.065")
        ),  # 100 × 0.50 / 1,000 + 10 × 1.50 / 1,000
    )
    assert made.review.reasons == (
        Reason("complete", "estimated", 1, 220, 0, Decimal("0.13")),  # 200 × 0.50 / 1,000 + 20 × 1.50 / 1,000
        Reason("complete", "none", 3, 300, 0, Decimal("0.15")),  # 300 × 0.50 / 1,000
    )
    assert made.billed.unrated == (
        # At risk: 777 × 0.40 / 1,000, at the price of the only model that the version in force knows.
        Unrated("embed", Component.UNCACHED_INPUT, 777, Unpriced.NO_RATE, Decimal("0.3108")),
    )


def test_every_token_and_request_of_the_period_is_in_exactly_one_section() -> None:
    made = draft(ROWS, TERMS, NOVEMBER)
    inside = [row for row in ROWS if NOVEMBER.holds(row.bucket_us)]
    assert sum(section.requests for section in made.sections) == sum(row.requests for row in inside) == 12
    assert sum(section.tokens for section in made.sections) == 6_605
    for section in made.sections:
        placed = [*(each.quantity for each in section.lines), *(each.quantity for each in section.unrated)]
        assert sum(placed) == section.tokens == sum(each.tokens for each in section.reasons)
        assert section.amount == sum((each.amount for each in section.reasons), Decimal(0))


def test_the_same_rows_in_any_order_and_any_batching_give_the_same_bytes() -> None:
    expected = msgspec.json.encode(draft(ROWS, TERMS, NOVEMBER))
    source = random.Random(7)
    for _ in range(20):
        rows = [part for row in ROWS for part in split(row, source)]
        source.shuffle(rows)
        assert msgspec.json.encode(draft(rows, TERMS, NOVEMBER)) == expected


def split(row: RollupRow, source: random.Random) -> list[RollupRow]:
    """The same usage as two rows."""
    whole = row.components
    part = source.randint(0, whole.uncached_input)
    rest = Components(uncached_input=whole.uncached_input - part)
    return [
        msgspec.structs.replace(row, components=msgspec.structs.replace(whole, uncached_input=part)),
        msgspec.structs.replace(row, requests=0, components=rest),
    ]


def test_vector_2_57_models_of_0_004_each_are_0_23_in_total() -> None:
    rows = [
        rollup_row("2026-11-02T10:00:00Z", Components(40), model=f"model-{number}") for number in range(57)
    ]
    made = draft(rows, TERMS, NOVEMBER)
    assert {each.amount for each in made.billed.lines} == {Decimal("0.004")}
    assert made.total == Decimal("0.23")
    assert sorted(each.amount_minor or 0 for each in made.billed.lines) == [0] * 34 + [1] * 23


@pytest.mark.parametrize(("rounding", "total"), [(Rounding.HALF_EVEN, "0.00"), (Rounding.HALF_UP, "0.01")])
def test_the_issuer_s_policy_decides_about_half_a_cent(rounding: Rounding, total: str) -> None:
    made = draft([rollup_row("2026-11-02T10:00:00Z", Components(50), model="x")], TERMS, NOVEMBER, rounding)
    assert (made.subtotal, str(made.total)) == (Decimal("0.005"), total)


@pytest.mark.parametrize(("currency", "total", "minor"), [("JPY", "1", 1), ("KWD", "1.359", 1_359)])
def test_a_total_has_its_currency_s_decimals(currency: str, total: str, minor: int) -> None:
    terms = [Term(at("2026-11-01T00:00:00Z"), None, plan(PLAN_TEXT.replace("USD", currency)))]
    made = draft(ROWS, terms, NOVEMBER)
    assert (str(made.total), made.total_minor) == (total, minor)


POOLED = """\
plan: globex
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    monthly_fee: "5.00"
    minimum: "2.00"
    billable: {complete: {estimated: bill}}
    rates:
      - model: "*"
        input: {tiers: [{up_to: 1000, price: "1.00"}, {price: "0.50"}], allowance: 500}
        output: free
  - effective: 2026-11-15T00:00:00Z
    per: 1000
    monthly_fee: "9.00"
    minimum: "3.00"
    billable: {interrupted: bill}
    rates:
      - model: "*"
        input: {tiers: [{up_to: 1000, price: "2.00"}, {price: "1.00"}], allowance: 500}
        output: free
"""
POOLED_TERMS = [Term(at("2026-11-01T00:00:00Z"), None, plan(POOLED))]
POOLED_ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(600)),
    rollup_row("2026-11-02T00:00:00Z", Components(300), provenance="estimated"),
    rollup_row("2026-11-16T00:00:00Z", Components(700)),
    rollup_row("2026-11-17T00:00:00Z", Components(100), outcome="interrupted"),
    rollup_row("2026-11-03T00:00:00Z", Components(40), outcome="interrupted"),
    rollup_row("2026-11-18T00:00:00Z", Components(20), provenance="estimated"),
]


def test_tiers_allowance_fee_and_minimum_are_what_was_calculated_by_hand() -> None:
    made = draft(POOLED_ROWS, POOLED_TERMS, NOVEMBER)
    assert [
        (each.version, each.quantity, each.tier, each.included, f"{each.amount:f}", each.amount_minor)
        for each in made.billed.lines
    ] == [
        (1, 500, None, True, "0", 0),  # of 600 + 300 (estimated, billed by version 1), 500 are included
        (1, 400, 0, False, "0.400", 40),  # 400 × 1.00 / 1,000
        # Of 700 + 100 (interrupted, billed by version 2), the first tier has room for 600: × 2.00 / 1,000.
        (2, 600, 0, False, "1.200", 120),
        (2, 200, 1, False, "0.200", 20),  # 200 × 1.00 / 1,000
    ]
    assert made.charges == (
        Charge(ChargeKind.FEE, "globex", 1, Decimal(5), Decimal(5), 500),  # the first version's
        # The last version's, less 0.40 + 1.20 + 0.20 of usage.
        Charge(ChargeKind.MINIMUM, "globex", 2, Decimal(3), Decimal("1.2"), 120),
    )
    assert (made.subtotal, str(made.total), made.total_minor) == (Decimal("8.0"), "8.00", 800)


def test_what_is_not_billed_is_worth_what_it_would_cost_on_top_of_what_is() -> None:
    made = draft(POOLED_ROWS, POOLED_TERMS, NOVEMBER)
    # The billed 1,700 left the pool in its second tier, where each of the two begins.
    assert made.waived.reasons == (
        Reason("interrupted", "reported", 1, 40, 0, Decimal("0.02")),  # by version 1: 40 × 0.50 / 1,000
    )
    assert made.review.reasons == (
        Reason("complete", "estimated", 1, 20, 0, Decimal("0.02")),  # by version 2: 20 × 1.00 / 1,000
    )
    assert {each.amount_minor for each in (*made.waived.lines, *made.review.lines)} == {None}
    assert billed_positions(POOLED_ROWS, POOLED_TERMS, NOVEMBER) == {Pool("globex", "*", "input"): 1_700}


def test_a_fee_is_owed_though_nothing_was_used() -> None:
    made = draft([], POOLED_TERMS, NOVEMBER)
    assert (made.billed.lines, [each.kind for each in made.charges]) == ((), ["fee", "minimum"])
    assert str(made.total) == "8.00"  # 5.00 and the minimum of 3.00


def test_a_draft_comes_back_from_its_json_as_it_was() -> None:
    for made in (draft(POOLED_ROWS, POOLED_TERMS, NOVEMBER), draft(ROWS, [], NOVEMBER)):
        stored = msgspec.json.encode(made)
        assert msgspec.json.encode(msgspec.json.decode(stored, type=Draft)) == stored


def test_usage_without_a_plan_is_unrated_and_there_is_no_total() -> None:
    made = draft(ROWS[:1], [], NOVEMBER)
    assert (made.currency, made.total, made.total_minor, made.label) == (None, None, None, "")
    assert {each.reason for each in made.billed.unrated} == {Unpriced.NO_PLAN}
    assert sum(each.quantity for each in made.billed.unrated) == 1_066


def test_the_label_is_that_of_the_prices_at_the_end_of_the_period() -> None:
    assert draft([], TERMS, NOVEMBER).label == "Demo prices from 15 November"
    assert draft([], TERMS, parse_period("2026-10")).label == "Demo prices, per 1,000 tokens"
    ended = [Term(at("2026-11-01T00:00:00Z"), at("2026-11-10T00:00:00Z"), plan())]
    assert draft([], ended, NOVEMBER).label == "Demo prices, per 1,000 tokens"


def test_one_invoice_is_in_one_currency() -> None:
    other = Term(at("2026-11-15T00:00:00Z"), None, plan(PLAN_TEXT.replace("USD", "EUR")))
    with pytest.raises(Conflict, match="the period has plans in EUR and USD; one invoice is in one currency"):
        draft(ROWS, [*TERMS, other], NOVEMBER)


@pytest.mark.parametrize(
    ("tokens", "provenance", "model", "unrated", "worth", "requests_unknown"),
    [
        pytest.param(Components(100), "estimated", "golden", 0, "0.05", 0, id="a rate for everything"),
        pytest.param(Components(100), "estimated", "silver", 100, None, 0, id="a rate for nothing"),
        pytest.param(Components(100, 0, 0, 7), "estimated", "half", 7, "0.01", 0, id="a rate for a part"),
        pytest.param(Components(), "none", "golden", 0, None, 2, id="nothing known"),
        pytest.param(Components(100), "none", "golden", 0, "0.05", 2, id="a part known"),
        pytest.param(Components(), "estimated", "golden", 0, "0", 0, id="nothing used"),
    ],
)
def test_what_a_reason_is_worth_is_none_where_nobody_can_say(
    tokens: Components, provenance: str, model: str, unrated: int, worth: str | None, requests_unknown: int
) -> None:
    text = PLAN_TEXT.replace('"*", input: 0.10, output: free', "half, input: 0.10")
    terms = [Term(at("2026-11-01T00:00:00Z"), None, plan(text))]
    row = rollup_row("2026-11-02T10:00:00Z", tokens, model=model, provenance=provenance, requests=2)
    made = draft([row], terms, NOVEMBER)
    expected = None if worth is None else Decimal(worth)
    for part in (made.review, made.review.reasons[0]):
        assert (part.worth, part.requests_unknown) == (expected, requests_unknown)
    assert made.review.reasons[0].unrated == made.review.tokens_unrated == unrated


UNITS_PLAN = """\
plan: units
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: 0.50, output: 1.50, second: "0.0001", request: "0.01"}
"""
UNITS_TERMS = [Term(at("2026-11-01T00:00:00Z"), None, plan(UNITS_PLAN))]
UNITS_ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(uncached_input=100, audio_input=50, second=60), requests=3),
    rollup_row("2026-11-02T00:00:00Z", Components(second=30, image=2, training=500)),
    rollup_row("2026-11-02T00:00:00Z", Components(second=7), outcome="upstream_error"),
    rollup_row("2026-11-02T00:00:00Z", Components(search=4), model="other", provenance="estimated"),
]


def test_units_and_requests_are_billed_beside_tokens() -> None:
    made = draft(UNITS_ROWS, UNITS_TERMS, NOVEMBER)
    assert [(line.component, line.quantity, money.plain(line.amount)) for line in made.billed.lines] == [
        ("uncached_input", 100, "0.05"),  # 100 × 0.50 / 1,000
        ("audio_input", 50, "0.025"),  # as input: 50 × 0.50 / 1,000
        ("second", 90, "0.009"),  # 90 × 0.0001
        ("request", 4, "0.04"),  # of the billed ones alone: 4 × 0.01
    ]
    assert (made.billed.requests, made.billed.tokens, made.billed.tokens_unrated) == (4, 650, 500)
    assert made.billed.units == {Component.IMAGE: 2, Component.SECOND: 90}
    assert made.billed.units_unrated == {Component.IMAGE: 2}
    assert [(each.component, each.quantity, each.at_risk) for each in made.billed.unrated] == [
        (Component.TRAINING, 500, None),
        (Component.IMAGE, 2, None),
    ]


def test_units_that_are_not_billed_are_worth_what_they_would_cost_as_far_as_a_rate_says() -> None:
    made = draft(UNITS_ROWS, UNITS_TERMS, NOVEMBER)
    # 7 × 0.0001, and the request.
    assert (made.waived.units, made.waived.worth) == ({Component.SECOND: 7}, Decimal("0.0107"))
    assert (made.waived.is_unknown, made.review.units, made.review.worth) == (
        False,
        {Component.SEARCH: 4},
        None,
    )
    [reason] = made.review.reasons
    assert (reason.tokens, reason.units_unrated, reason.worth) == (0, {Component.SEARCH: 4}, None)


def test_units_that_are_known_are_not_unknown_where_tokens_are() -> None:
    unknown = rollup_row("2026-11-02T00:00:00Z", Components(), outcome="interrupted", provenance="none")
    assert draft([unknown, UNITS_ROWS[2]], UNITS_TERMS, NOVEMBER).waived.is_unknown is False
    assert draft([unknown], UNITS_TERMS, NOVEMBER).waived.worth is None
