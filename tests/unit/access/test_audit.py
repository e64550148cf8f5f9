"""What an entry of the audit log says."""

import pytest

from billing.access.audit import Action, AuditEntry, AuditFilter, check_filter
from billing.errors import InvalidInput


def entry(before: dict[str, object] | None, after: dict[str, object] | None) -> AuditEntry:
    return AuditEntry(7, 0, "admin", Action.UPDATE, "tenant", "t", None, before, after)


def test_what_changed_is_what_differs() -> None:
    changed = entry(
        {"name": "A", "status": "active", "gone": 1}, {"name": "A", "status": "suspended", "new": None}
    )
    assert changed.changed == ("gone", "new", "status")
    assert repr(changed) == "<AuditEntry 7 admin update tenant t>"


def test_of_a_new_or_removed_row_everything_changed() -> None:
    assert entry(None, {"b": 1, "a": None}).changed == ("a", "b")
    assert entry({"b": 1}, None).changed == ("b",)
    assert entry(None, None).changed == ()


def test_only_what_is_audited_can_be_asked_for() -> None:
    assert check_filter(AuditFilter(subject="api_key", actor="admin")).subject == "api_key"
    with pytest.raises(InvalidInput, match="subject: 'users' is not audited") as caught:
        check_filter(AuditFilter(subject="users"))
    assert caught.value.param == "subject"
    for actor in ("", "x" * 201):
        with pytest.raises(InvalidInput, match="actor: 1 to 200 characters"):
            check_filter(AuditFilter(actor=actor))
