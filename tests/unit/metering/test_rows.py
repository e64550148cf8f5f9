import hashlib
from uuid import UUID

import msgspec
import pytest

from billing.clock import BUCKET_US
from billing.metering.event import UsageRecord, decode_entry, encode_entry, interrupt, payload_hash, settle
from billing.metering.journal import Reason
from billing.metering.rows import COLUMNS, ROLLUP_COLUMNS, sort_out
from tests import metering_kit as kit

USAGE_ID = UUID("01900000-1111-7000-8000-000000000001")
RECORD = settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID))
EVER = [(0, 1 << 60)]
KNOWN = {kit.TENANT: 7}


def changed(record: UsageRecord, **fields: object) -> UsageRecord:
    return msgspec.structs.replace(record, **fields)


def named(record: UsageRecord) -> dict[str, object]:
    """The values of a record's row by the names of their columns."""
    [row] = sort_out([record], KNOWN, EVER).rows
    names = [name for name, _ in (*COLUMNS, *ROLLUP_COLUMNS)]
    return dict(zip(names, row.values, strict=True))


def test_a_row_has_a_value_for_each_column() -> None:
    row = named(RECORD)
    assert (row["tenant_id"], row["id"], row["key_id"]) == (kit.TENANT, USAGE_ID, kit.KEY)
    assert (row["input"], row["input_provenance"], row["input_method"]) == (500, "reported", "usage")
    assert (row["output"], row["reasoning"], row["cached_input"]) == (53, 20, 0)
    assert (row["collection"], row["payload_hash"]) == (7, payload_hash(RECORD))
    assert (row["tags"], row["provenance"]) == ('{"team":"search"}', "reported")


def test_what_is_unknown_is_null_and_never_zero() -> None:
    row = named(interrupt(kit.opened(USAGE_ID), None))
    assert [row[name] for name in ("input", "input_provenance", "input_method", "output")] == [None] * 4
    assert (row["cache_write"], row["duration_us"], row["provenance"]) == (None, None, "none")
    assert row["input_estimate"] == 400


def test_a_row_carries_what_it_adds_to_the_rollup() -> None:
    row = named(RECORD)
    bucket_us = row["rollup_bucket_s"] * 1_000_000
    assert bucket_us <= RECORD.at_us < bucket_us + BUCKET_US
    added = [row[f"rollup_{name}"] for name in ("uncached_input", "cached_input", "answer_output", "reasoning")]  # fmt: skip
    assert added == [500, 0, 33, 20]


def test_a_tenant_that_does_not_exist_goes_to_quarantine_with_its_bytes() -> None:
    divided = sort_out([RECORD], {kit.OTHER_TENANT: 1}, EVER)
    [rejected] = divided.rejected
    assert (rejected.reason, rejected.tenant_id, rejected.id) == (
        Reason.UNKNOWN_TENANT, kit.TENANT, USAGE_ID,
    )  # fmt: skip
    assert msgspec.msgpack.decode(rejected.payload, type=UsageRecord) == RECORD
    assert rejected.payload_hash == hashlib.sha256(rejected.payload).digest()[:16]
    assert divided.rows == []


@pytest.mark.parametrize(
    "partitions", [[], [(0, RECORD.at_us)], [(RECORD.at_us + 1, 1 << 60)], [(0, 1), (1 << 59, 1 << 60)]]
)
def test_an_id_outside_the_partitions_goes_to_quarantine(partitions: list[tuple[int, int]]) -> None:
    assert [r.reason for r in sort_out([RECORD], KNOWN, partitions).rejected] == [Reason.OUTSIDE_PARTITIONS]


def test_partitions_are_half_open() -> None:
    assert sort_out([RECORD], KNOWN, [(RECORD.at_us, RECORD.at_us + 1)]).rows


def test_an_id_that_holds_no_time_goes_to_quarantine() -> None:
    random_id = UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479")
    record = settle(kit.opened(random_id), kit.closed(random_id))
    [rejected] = sort_out([record], KNOWN, EVER).rejected
    assert rejected.reason == Reason.OUTSIDE_PARTITIONS
    assert "holds no time" in rejected.detail


def test_the_same_record_twice_in_a_batch_is_one_row_and_a_duplicate() -> None:
    divided = sort_out([RECORD, RECORD, RECORD], KNOWN, EVER)
    assert (len(divided.rows), divided.duplicates, divided.rejected) == (1, 2, [])


def test_another_record_of_the_same_id_is_a_conflict_and_the_first_stands() -> None:
    divided = sort_out([RECORD, changed(RECORD, status=499)], KNOWN, EVER)
    assert [row.record for row in divided.rows] == [RECORD]
    assert [rejected.reason for rejected in divided.rejected] == [Reason.CONFLICT]


def test_records_of_one_id_but_two_tenants_are_two_records() -> None:
    other = changed(RECORD, opened=kit.opened(USAGE_ID, kit.OTHER_TENANT))
    assert len(sort_out([RECORD, other], {**KNOWN, kit.OTHER_TENANT: 1}, EVER).rows) == 2


def test_a_row_is_the_same_after_its_entries_went_through_a_spool() -> None:
    opened, closed = (decode_entry(encode_entry(e)) for e in (kit.opened(USAGE_ID), kit.closed(USAGE_ID)))
    assert named(settle(opened, closed)) == named(RECORD)


def test_a_record_is_not_lost_over_a_nul_in_a_label() -> None:
    opened = msgspec.structs.replace(kit.opened(USAGE_ID), end_user="a\0b", idempotency_key="\0")
    row = named(changed(settle(opened, kit.closed(USAGE_ID)), response_id="x\0", response_model="\0m"))
    assert [row[name] for name in ("end_user", "idempotency_key", "response_id", "response_model")] == [
        "ab",
        "",
        "x",
        "m",
    ]
