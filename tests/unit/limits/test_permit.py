"""An admitted request says in one line who admitted it."""

from uuid import UUID

import pytest

from billing.limits.permit import Permit
from tests.limits_kit import limit

ID = UUID(int=5)


@pytest.mark.parametrize(("is_local", "by"), [(False, "the store"), (True, "this worker")])
def test_a_permit_says_itself(is_local: bool, by: str) -> None:
    permit = Permit(ID, UUID(int=1), 70, (limit(UUID(int=1)),), [], is_local)
    assert repr(permit) == f"<Permit {ID} of 70 tokens by {by}, 1 limits>"
