"""An admitted request says in one line who admitted it."""

from uuid import UUID

import pytest

from billing.limits.permit import Permit, Place
from tests.limits_kit import limit, need

ID = UUID(int=5)


@pytest.mark.parametrize(("is_local", "by"), [(False, "the store"), (True, "this worker")])
def test_a_permit_says_itself(is_local: bool, by: str) -> None:
    permit = Permit(ID, UUID(int=1), need(70), (limit(UUID(int=1)),), [], is_local)
    assert repr(permit) == f"<Permit {ID} of 70 tokens by {by}, 1 limits>"


def test_the_store_holds_what_it_admitted_and_what_it_was_told_of() -> None:
    assert [place for place in Place if place.is_store] == [Place.STORE, Place.ANNOUNCED]
