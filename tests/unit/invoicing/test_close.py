from uuid import UUID

import msgspec
import pytest

from billing.invoicing.close import NoInvoice, Waiting, failure, reason_against, waiting_for, waiting_in
from billing.invoicing.draft import Draft, draft
from billing.metering.journal import Cursor
from billing.metering.stored import SpoolRow
from billing.pricing.term import Gap, Term, Unpriced
from billing.tokens.components import Components
from tests.invoice_kit import at, rollup_row
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


NOVEMBER_GAP = Gap(NOVEMBER.start_us, at("2026-11-15T00:00:00Z"), Unpriced.NO_VERSION, "unit")


@pytest.mark.parametrize(
    ("empty", "has_usage", "expected"),
    [
        (NO_PLAN, True, NoInvoice.NO_PLAN),
        (NO_PLAN, False, NoInvoice.NOTHING_TO_BILL),
        (NO_FEE, False, NoInvoice.NOTHING_TO_BILL),
        (NO_FEE, True, None),
        (FEE, False, None),
        (FEE, True, None),
    ],
)
def test_there_is_an_invoice_for_usage_or_a_fee_under_a_plan(
    empty: Draft, has_usage: bool, expected: NoInvoice | None
) -> None:
    against = reason_against(empty, "acme", has_usage=has_usage)
    assert (against and against.reason) == expected


@pytest.mark.parametrize(
    ("empty", "has_usage", "waiting", "expected"),
    [
        (NO_PLAN, True, None, "no plan prices 2026-11: billing subscriptions create --tenant acme --plan PLAN, then close again"),
        (NO_PLAN, False, None, "nothing was used in 2026-11 and there is no plan"),
        (NO_FEE, False, None, "nothing was used in 2026-11 and there is no fee"),
        (
            FEE, True, Waiting(NOVEMBER_GAP, 1_200),
            ("plan unit has no prices before 2026-11-15T00:00:00Z, and 1,200 requests were made since 2026-11-01T00:00:00Z: "
            "add a version that is effective from 2026-11-01T00:00:00Z or earlier (billing plans apply FILE), then close again"),
        ),
        (
            NO_FEE, True, Waiting(msgspec.structs.replace(NOVEMBER_GAP, reason=Unpriced.NO_PLAN), 1),
            ("no plan prices 2026-11-01T00:00:00Z to 2026-11-15T00:00:00Z, and 1 request was made then: give it one, or one "
            "whose rates are free (billing subscriptions create --tenant acme --plan PLAN --starts-at 2026-11-01T00:00:00Z "
            "--ends-at 2026-11-15T00:00:00Z), then close again"),
        ),
    ],
)  # fmt: skip
def test_a_reason_says_what_to_do(
    empty: Draft, has_usage: bool, waiting: Waiting | None, expected: str
) -> None:
    against = reason_against(empty, "acme", has_usage=has_usage, waiting=waiting)
    assert against is not None
    assert against.detail == expected


def test_usage_without_a_version_keeps_the_month_waiting_unless_all_of_it_is_waived() -> None:
    waived = rollup_row("2026-11-02T00:00:00Z", Components(9), outcome="upstream_error")
    unknown = rollup_row("2026-11-02T00:00:00Z", Components(), provenance="none", requests=2)
    assert waiting_in(NOVEMBER_GAP, [waived]) is None
    assert waiting_in(NOVEMBER_GAP, []) is None
    assert waiting_in(NOVEMBER_GAP, [waived, unknown]) == Waiting(NOVEMBER_GAP, 2)


def test_an_unexpected_error_is_one_line_of_what_the_database_said() -> None:
    class FromDriver(Exception):
        orig = ValueError("value out of range\nDETAIL: of 17 values")

    assert failure(FromDriver("INSERT INTO secret")) == (
        "unexpected: FromDriver: value out of range; nothing is billed, and the log has all of it"
    )
    assert failure(KeyError()).startswith("unexpected: KeyError: ;")


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
