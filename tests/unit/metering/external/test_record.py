"""The record of an event."""

from uuid import UUID

from billing.ids import instant_of
from billing.metering.external.event import read_event
from billing.metering.external.record import Owner, record_of
from billing.tokens.usage import Outcome
from tests.events_kit import NOW, event
from tests.invoice_kit import at

OWNER = Owner(UUID(int=1), UUID(int=2), "golden")


def test_it_has_the_time_of_the_event_and_neither_key_nor_backend() -> None:
    sent = event(
        model="gold", input=7, output=3, operation="chat", outcome="truncated", end_user="", tags={"a": "b"}
    )
    record = record_of(read_event(sent | {"time": "2026-11-24T10:00:00.123456Z"}, "", at(NOW)), OWNER)
    opened = record.opened
    assert (record.at_us, instant_of(record.id)) == (at("2026-11-24T10:00:00.123Z"),) * 2
    assert (opened.tenant_id, opened.project_id, opened.model) == (UUID(int=1), UUID(int=2), "golden")
    assert (opened.key_id, opened.backend_id, opened.engine, opened.stream) == (None, None, "external", False)
    assert (opened.operation, opened.end_user, opened.tags) == ("chat", None, {"a": "b"})
    assert (record.outcome, record.status, record.duration_us) == (Outcome.TRUNCATED, 0, None)
    assert opened.idempotency_key == "step-1"


def test_the_same_event_has_the_same_id_always() -> None:
    made = [record_of(read_event(event(number), "", at(NOW)), OWNER).id for number in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
