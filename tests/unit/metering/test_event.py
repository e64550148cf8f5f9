from uuid import UUID

import msgspec
import pytest

from billing.metering.event import (
    INTERRUPTED_STATUS,
    Closed,
    Opened,
    UsageRecord,
    decode_entry,
    encode_entry,
    interrupt,
    payload_hash,
    settle,
)
from billing.tokens.usage import UNKNOWN, Count, Outcome, Part, Provenance, TokenUsage
from tests import metering_kit as kit

USAGE_ID = UUID("01900000-1111-7000-8000-000000000001")
OTHER_ID = UUID("01900000-1111-7000-8000-000000000002")


@pytest.mark.parametrize(
    "entry", [kit.opened(USAGE_ID), kit.progress(USAGE_ID, 7), kit.closed(USAGE_ID)], ids=lambda e: type(e).__name__
)  # fmt: skip
def test_an_entry_survives_its_bytes(entry: object) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", encode_entry(["unknown", 1])])
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_entry(payload)


def test_entries_written_before_a_field_was_added_are_still_read() -> None:
    shortened = msgspec.msgpack.encode(msgspec.to_builtins(kit.opened(USAGE_ID))[:10])
    entry = decode_entry(shortened)
    assert (entry.id, entry.tags, entry.service_tier) == (USAGE_ID, {}, "standard")


def test_a_record_is_its_open_entry_with_how_it_ended() -> None:
    record = settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID, outcome=Outcome.TRUNCATED))
    assert (record.id, record.outcome, record.status) == (USAGE_ID, Outcome.TRUNCATED, 200)
    assert record.usage == kit.usage()
    assert (record.duration_us, record.ttft_us, record.itl_us) == (1_234_567, 90_000, 11_000)


def test_a_records_time_is_the_time_inside_its_id() -> None:
    record = settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID))
    assert record.at_us == 0x0190_0000_1111 * 1_000


def test_the_close_of_another_request_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong to open entry"):
        settle(kit.opened(USAGE_ID), kit.closed(OTHER_ID))


def test_an_interrupted_request_has_its_last_progress_and_nothing_made_up() -> None:
    record = interrupt(kit.opened(USAGE_ID), kit.progress(USAGE_ID, 31))
    assert (record.outcome, record.status, record.error) == (
        Outcome.INTERRUPTED, INTERRUPTED_STATUS, "gateway_died",
    )  # fmt: skip
    assert record.usage.output.value == 31
    assert record.usage.reasoning == UNKNOWN
    assert record.itl_us is None


def test_an_interrupted_request_without_progress_has_unknown_counts_never_zero() -> None:
    record = interrupt(kit.opened(USAGE_ID), None)
    assert record.usage.input.value is None
    assert record.usage.output.value is None
    assert record.duration_us is None


def test_the_hash_tells_the_same_record_from_another() -> None:
    def record(**changes: object) -> UsageRecord:
        return msgspec.structs.replace(settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID)), **changes)

    assert payload_hash(record()) == payload_hash(record())
    assert len(payload_hash(record())) == 16
    assert payload_hash(record(status=499)) != payload_hash(record())
    assert payload_hash(record(usage=kit.usage(output_tokens=54))) != payload_hash(record())


OLD = UUID("0193a000-0000-7000-8000-000000000001")


def test_a_record_of_before_a_field_was_added_has_the_hash_it_was_stored_with() -> None:
    opened = Opened(
        OLD, UUID(int=1), None, UUID(int=2), "m", UUID(int=3), "vllm", "chat", True, 5, "u", "k", {"b": "2", "a": "1"}
    )  # fmt: skip
    used = TokenUsage(input=Count(5, Provenance.REPORTED, "x"))
    closed = Closed(OLD, Outcome.COMPLETE, 200, used, 7, 3, 2, "rm", "ri", None)
    # Computed by the program of before: a spool that is read again must not look like a conflict.
    assert payload_hash(settle(opened, closed)).hex() == "f3894c797a61681727242c968f848840"


@pytest.mark.parametrize("name", ["ttfa_us", "gap_max_us", "overhead_us"])
def test_the_hash_tells_a_later_field(name: str) -> None:
    record = settle(kit.opened(USAGE_ID), kit.closed(USAGE_ID))
    assert payload_hash(msgspec.structs.replace(record, **{name: 5})) != payload_hash(record)


def test_the_hash_tells_dialects_and_parts() -> None:
    def record(dialect: str = "openai", **parts: int) -> UsageRecord:
        used = msgspec.structs.replace(
            kit.usage(),
            parts={Part(word): Count(value, Provenance.REPORTED, "usage") for word, value in parts.items()},
        )
        opened = msgspec.structs.replace(kit.opened(USAGE_ID), dialect=dialect)
        return settle(opened, kit.closed(USAGE_ID, used))

    hashes = [
        payload_hash(each)
        for each in (record(), record("ollama"), record(audio_input=5), record(audio_input=6))
    ]
    assert len(set(hashes)) == 4
    assert (
        decode_entry(encode_entry(kit.closed(USAGE_ID, record(audio_input=5).usage))).usage.parts
        == record(audio_input=5).usage.parts
    )


def test_the_hash_does_not_depend_on_the_order_of_tags() -> None:
    def record(tags: dict[str, str]) -> UsageRecord:
        return settle(
            msgspec.structs.replace(kit.opened(USAGE_ID), tags=tags),
            kit.closed(USAGE_ID),
        )

    assert payload_hash(record({"a": "1", "b": "2"})) == payload_hash(record({"b": "2", "a": "1"}))
