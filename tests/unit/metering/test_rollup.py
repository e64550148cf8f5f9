from uuid import UUID

import msgspec
import pytest

from billing.clock import BUCKET_US, bucket_start
from billing.metering.event import interrupt, settle
from billing.metering.rollup import NO_PROJECT, UNKNOWN_BAND, key_of, prompt_band, quantities
from billing.tokens.components import Components
from billing.tokens.usage import Outcome
from tests import metering_kit as kit

USAGE_ID = UUID("01900000-1111-7000-8000-000000000001")
PROJECT = UUID("01900000-0000-7000-8000-0000000000ff")
RECORD = settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID))


@pytest.mark.parametrize(
    ("tokens", "band"),
    [(None, UNKNOWN_BAND), (0, 0), (4_000, 0), (4_001, 1), (128_000, 5), (128_001, 6), (1_000_000, 9), (1_000_001, 10)],
)  # fmt: skip
def test_an_edge_belongs_to_the_band_below_it(tokens: int | None, band: int) -> None:
    assert prompt_band(tokens) == band


def test_a_row_is_a_bucket_of_a_tenant_split_by_what_a_rate_may_select_on() -> None:
    key = key_of(RECORD)
    assert (key.tenant_id, key.model, key.operation, key.service_tier) == (
        kit.TENANT, "golden", "chat", "standard",
    )  # fmt: skip
    assert key.bucket_us == bucket_start(RECORD.at_us)
    assert key.bucket_us % BUCKET_US == 0
    assert (key.prompt_band, key.outcome, key.provenance) == (0, "complete", "reported")


def test_a_request_without_a_project_counts_under_none() -> None:
    assert key_of(RECORD).project_id == NO_PROJECT
    with_project = msgspec.structs.replace(
        RECORD, opened=msgspec.structs.replace(RECORD.opened, project_id=PROJECT)
    )
    assert key_of(with_project).project_id == PROJECT


def test_an_interrupted_request_without_counts_stands_apart() -> None:
    key = key_of(interrupt(kit.opened(USAGE_ID), None))
    assert (key.prompt_band, key.outcome, key.provenance) == (UNKNOWN_BAND, Outcome.INTERRUPTED, "none")


def test_a_row_adds_up_disjoint_components() -> None:
    assert quantities(RECORD) == Components(uncached_input=500, answer_output=33, reasoning=20)
