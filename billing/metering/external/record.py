"""The usage record of an event. It has neither key nor backend of ours, and its time is the event's own."""

from uuid import UUID

import msgspec

from billing.ids import uuid7
from billing.metering.event import Opened, UsageRecord
from billing.metering.external.data import usage_of
from billing.metering.external.event import ExternalEvent, usage_id_bytes

ENGINE = "external"
"""What stands on the record in the place of an engine."""
STATUS = 0
"""No status was sent to anybody here."""


class Owner(msgspec.Struct, frozen=True):
    """Whose an event is, and what it is priced as, where its words are names."""

    tenant_id: UUID
    project_id: UUID | None
    model: str


def record_of(event: ExternalEvent, owner: Owner) -> UsageRecord:
    """The record of an event; the event's id stands in it as the idempotency key."""
    data = event.data
    opened = Opened(
        id=uuid7(event.at_us, usage_id_bytes(event, owner.tenant_id)),
        tenant_id=owner.tenant_id,
        project_id=owner.project_id,
        key_id=None,
        model=owner.model,
        backend_id=None,
        engine=ENGINE,
        operation=data.operation.value,
        stream=False,
        end_user=data.end_user or None,
        idempotency_key=event.id,
        tags=data.tags,
        service_tier=data.service_tier,
    )
    return UsageRecord(
        opened=opened,
        outcome=data.outcome,
        status=STATUS,
        usage=usage_of(data, event.source),
        duration_us=None,
        ttft_us=None,
        itl_us=None,
        response_model=None,
        response_id=None,
        error=None,
    )
