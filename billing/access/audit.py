"""The audit log as it is read: who wrote what, when, and what it was before. The database's own triggers write it."""

from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from billing.errors import InvalidInput

SUBJECTS = (
    "tenant", "project", "api_key", "backend", "model", "deployment", "price_plan", "price_plan_version",
    "subscription", "usage_limit", "issuer", "invoice", "ledger_transaction", "ledger_posting", "usage_quarantine",
)  # fmt: skip
"""The tables whose writes are audited."""
ACTOR_LENGTH_MAX = 200


class Action(StrEnum):
    """What was done to a row."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class AuditEntry(msgspec.Struct, frozen=True):
    """One write of one row. ``before`` and ``after`` hold the row's columns; secrets stand there only as changed."""

    id: int
    """Counts up; entries are shown newest first by it."""
    at_us: int
    actor: str
    action: Action
    subject: str
    subject_id: str
    tenant_id: UUID | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"<AuditEntry {self.id} {self.actor} {self.action} {self.subject} {self.subject_id}>"

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the columns that differ between before and after, sorted; all of them when there is only one side."""
        before, after = self.before or {}, self.after or {}
        names = sorted(before.keys() | after.keys())
        return tuple(
            name for name in names if name not in before or name not in after or before[name] != after[name]
        )


class AuditFilter(msgspec.Struct, frozen=True):
    """Which entries are meant; None means any."""

    tenant_id: UUID | None = None
    subject: str | None = None
    actor: str | None = None


def check_filter(wanted: AuditFilter) -> AuditFilter:
    """The filter, if its parts can be; raises ``InvalidInput`` naming the part."""
    if wanted.subject is not None and wanted.subject not in SUBJECTS:
        raise InvalidInput(
            f"subject: {wanted.subject[:80]!r} is not audited; known are {', '.join(SUBJECTS)}", "subject"
        )
    if wanted.actor is not None and not 1 <= len(wanted.actor) <= ACTOR_LENGTH_MAX:
        raise InvalidInput(f"actor: 1 to {ACTOR_LENGTH_MAX} characters, got {len(wanted.actor)}", "actor")
    return wanted
