from uuid import UUID

import pytest

from billing.invoicing.close import NoInvoice, reason_against, sentence, waiting_for
from billing.invoicing.draft import Draft, draft
from billing.metering.journal import Cursor
from billing.metering.stored import SpoolRow
from billing.pricing.term import Term
from tests.invoice_kit import at
from tests.issue_kit import NOVEMBER, TERMS, plan_of

FREE = """\
plan: unit
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1
    rates: [{model: golden, input: 1, output: 1}]
"""
NO_PLAN = draft([], [], NOVEMBER)
NO_FEE = draft([], [Term(TERMS[0].starts_us, None, plan_of(FREE))], NOVEMBER)
FEE = draft([], TERMS, NOVEMBER)


@pytest.mark.parametrize(
    ("empty", "has_usage", "expected"),
    [
        (NO_PLAN, True, NoInvoice.NO_PLAN),
        (NO_PLAN, False, NoInvoice.NO_PLAN),
        (NO_FEE, False, NoInvoice.NOTHING_TO_BILL),
        (NO_FEE, True, None),
        (FEE, False, None),
        (FEE, True, None),
    ],
)
def test_there_is_an_invoice_for_usage_or_a_fee_under_a_plan(
    empty: Draft, has_usage: bool, expected: NoInvoice | None
) -> None:
    assert reason_against(empty, has_usage=has_usage) is expected


def test_a_reason_says_what_to_do() -> None:
    assert sentence(NoInvoice.NO_PLAN, "acme", "2026-11") == (
        "no plan prices 2026-11: billing subscriptions create --tenant acme --plan PLAN, then close again"
    )
    assert (
        sentence(NoInvoice.NOTHING_TO_BILL, "acme", "2026-11")
        == "nothing was used in 2026-11 and there is no fee"
    )


def test_spools_that_are_waited_for_are_named_a_few_of_them() -> None:
    through_us = at("2026-12-01T00:00:00Z")
    behind = [
        SpoolRow(
            UUID(int=number),
            f"gpu-{number}",
            Cursor(),
            0,
            None,
            through_us - number * 1_000_000 if number else None,
        )
        for number in range(7)
    ]
    text = waiting_for(behind, through_us)
    assert text.startswith(
        "not every request from before 2026-12-01T00:00:00Z has its record yet: "
        "spool 00000000-0000-0000-0000-000000000000 on gpu-0 is recorded by nobody yet; "
        "spool 00000000-0000-0000-0000-000000000001 on gpu-1 is recorded through 2026-11-30T23:59:59Z; "
    )
    assert text.endswith("; and 2 more")
    assert "more" not in waiting_for(behind[:5], through_us)
