"""Instants in and out."""

import pytest

from billing.admin.moment import instant, written, written_or_none
from billing.errors import InvalidInput
from tests.invoice_kit import at


def test_out_they_are_utc() -> None:
    assert written(at("2026-11-24T10:00:00Z")) == "2026-11-24T10:00:00Z"
    assert written(at("2026-11-24T10:00:00Z") + 5) == "2026-11-24T10:00:00.000005Z"
    assert written_or_none(None) is None
    assert written_or_none(0) == "1970-01-01T00:00:00Z"


def test_in_they_may_have_any_offset() -> None:
    assert instant("2026-11-24T15:30:00+05:30", "starts_at") == at("2026-11-24T10:00:00Z")
    assert instant(None, "starts_at") is None


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-24T10:00:00", "2026-13-01T00:00:00Z", "1816-01-01T00:00:00Z"]
)
def test_what_is_no_instant_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^ends_at: ") as caught:
        instant(text, "ends_at")
    assert caught.value.param == "ends_at"
