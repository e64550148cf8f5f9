from decimal import Decimal

import msgspec
import pytest

from billing.errors import Conflict
from billing.invoicing.ceiling import check_total, may_exceed
from billing.invoicing.content import content_of
from billing.invoicing.draft import draft
from billing.pricing.term import Term
from billing.tokens.components import Components
from tests.invoice_kit import rollup_row
from tests.issue_kit import NOVEMBER, TERMS, drafted, inputs_of, plan_of

DEAR = """\
plan: dear
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1
    rates:
      - {model: cheap, input: {tiers: [{up_to: 5, price: "1000000000"}, {price: 1}]}, output: free}
      - {model: golden, total: "1000000000"}
"""
DEAR_TERMS = [Term(TERMS[0].starts_us, None, plan_of(DEAR))]
EMPTY = draft([], DEAR_TERMS, NOVEMBER)
MOST = 92_233_720
"""As many tokens at a billion each as a bigint of cents can hold."""


def test_a_total_beyond_what_can_be_booked_is_refused_with_the_tenant_and_the_amount() -> None:
    rows = [rollup_row("2026-11-02T00:00:00Z", Components(MOST + 1))]
    with pytest.raises(Conflict) as refused:
        check_total(draft(rows, DEAR_TERMS, NOVEMBER), "acme")
    assert str(refused.value).startswith(
        "the invoice of acme for November 2026 would come to 92,233,721,000,000,000.00 USD, and no more than "
        "92,233,720,368,547,758.07 can be booked: a price or a count is wrong."
    )
    check_total(draft([rollup_row("2026-11-02T00:00:00Z", Components(MOST))], DEAR_TERMS, NOVEMBER), "acme")


def test_no_content_is_made_of_what_cannot_be_booked() -> None:
    over = msgspec.structs.replace(drafted(), total_minor=1 << 63)
    with pytest.raises(Conflict, match="the invoice of acme for November 2026"):
        content_of(over, inputs_of())


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, False), (MOST, False), (MOST + 1, True), (10**19, True)]
)
def test_what_so_many_tokens_cost_at_most_is_known_without_their_prices(tokens: int, expected: bool) -> None:
    assert may_exceed(tokens, DEAR_TERMS, EMPTY) is expected


def test_fees_count_and_without_a_plan_nothing_is_owed() -> None:
    assert not may_exceed(10**30, [], draft([], [], NOVEMBER))
    almost = msgspec.structs.replace(EMPTY, subtotal=Decimal("92233720368547757.50"))
    assert may_exceed(0, [], almost)


@pytest.mark.parametrize("word", ["second", "request"])
def test_the_dearest_may_be_a_unit_or_a_request(word: str) -> None:
    text = DEAR.replace('total: "1000000000"', f'{word}: "1000000000"').replace(
        'price: "1000000000"', "price: 1"
    )
    terms = [Term(TERMS[0].starts_us, None, plan_of(text))]
    empty = draft([], terms, NOVEMBER)
    assert [may_exceed(quantity, terms, empty) for quantity in (MOST, MOST + 1)] == [False, True]
