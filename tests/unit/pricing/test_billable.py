import pytest

from billing.metering.rollup import NO_PROVENANCE
from billing.pricing.billable import PROVENANCES, Disposition, disposition
from billing.tokens.usage import Outcome, Provenance

BILL, WAIVE, REVIEW = Disposition
KNOWN = (Provenance.REPORTED, Provenance.RUNNING, Provenance.COUNTED)
NOT_KNOWN = (Provenance.ESTIMATED, NO_PROVENANCE)

TABLE = [
    (Outcome.COMPLETE, KNOWN, BILL),
    (Outcome.COMPLETE, NOT_KNOWN, REVIEW),
    (Outcome.CLIENT_CLOSED, KNOWN, BILL),
    (Outcome.CLIENT_CLOSED, NOT_KNOWN, REVIEW),
    (Outcome.UPSTREAM_ERROR, (*KNOWN, *NOT_KNOWN), WAIVE),
    (Outcome.TRUNCATED, (*KNOWN, *NOT_KNOWN), WAIVE),
    (Outcome.INTERRUPTED, (*KNOWN, *NOT_KNOWN), WAIVE),
]
CASES = [(outcome, provenance, expected) for outcome, all_of, expected in TABLE for provenance in all_of]


@pytest.mark.parametrize(("outcome", "provenance", "expected"), CASES)
def test_outcome_and_provenance_say_what_becomes_of_usage(
    outcome: str, provenance: str, expected: Disposition
) -> None:
    assert disposition(outcome, provenance) is expected


def test_the_table_covers_every_outcome_and_provenance() -> None:
    assert len(CASES) == len(Outcome) * (len(Provenance) + 1)


def test_what_a_later_version_may_write_is_not_billed_by_accident() -> None:
    assert disposition("rerouted", "reported") is WAIVE
    assert disposition("complete", "guessed") is REVIEW


def test_what_a_plan_says_counts_over_the_table() -> None:
    said = {"interrupted": {"running": BILL}, "complete": {"reported": WAIVE}}
    assert disposition("interrupted", "running", said) is BILL
    assert disposition("interrupted", "reported", said) is WAIVE
    assert disposition("complete", "reported", said) is WAIVE
    assert disposition("complete", "estimated", said) is REVIEW


def test_a_plan_can_name_every_provenance_that_a_rollup_has() -> None:
    assert set(PROVENANCES) == {*KNOWN, *NOT_KNOWN}
