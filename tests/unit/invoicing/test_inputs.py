import json

import msgspec
import pytest

from billing.invoicing.inputs import Inputs, pin, unpin
from billing.invoicing.period import Period
from billing.pricing.coverage import Month
from billing.pricing.term import Term
from tests.issue_kit import NOVEMBER, PLAN, PLANS, TERMS, inputs_of


def test_terms_come_back_as_they_were() -> None:
    assert unpin(pin(TERMS), PLANS) == TERMS


def test_a_version_that_was_added_later_does_not_count() -> None:
    later = msgspec.structs.replace(PLAN.versions[0], effective_us=NOVEMBER.start_us, number=2)
    grown = msgspec.structs.replace(PLAN, versions=(*PLAN.versions, later))
    assert unpin(pin(TERMS), {PLAN.name: grown}) == TERMS
    both = unpin(pin([Term(0, None, grown)]), {PLAN.name: grown})
    assert [version.number for version in both[0].plan.versions] == [1, 2]


@pytest.mark.parametrize("plans", [{}, {PLAN.name: msgspec.structs.replace(PLAN, versions=())}])
def test_a_plan_that_lacks_a_version_is_said_and_not_priced_without_it(plans: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="plan graduated lacks versions that an invoice was computed with"):
        unpin(pin(TERMS), plans)  # type: ignore[arg-type] # plans of the right kind, or none


def test_inputs_survive_being_stored_as_json() -> None:
    inputs = inputs_of(end="2026-11-24T10:15:00Z")
    stored = json.loads(json.dumps(msgspec.to_builtins(inputs)))
    assert msgspec.convert(stored, Inputs) == inputs


def test_an_early_invoice_covers_less_than_its_month() -> None:
    inputs = inputs_of(end="2026-11-24T10:15:00Z")
    assert inputs.period == Period(NOVEMBER.start_us, inputs.end_us, "2026-11")
    assert inputs.whole_month == NOVEMBER
    assert inputs_of().period == NOVEMBER
    assert inputs.plans == {"graduated"}
    assert inputs.charged_month == Month(NOVEMBER.start_us, NOVEMBER.end_us, 2_880)
