"""Who is let in."""

import pytest

from billing.access.token import hash_of
from billing.admin.operator import ADMIN, Role, authenticate
from billing.errors import Unauthenticated, Unavailable

HASH = hash_of("adm-right")


def test_the_token_makes_an_operator_whom_the_audit_log_names() -> None:
    assert authenticate("Bearer adm-right", HASH) == ADMIN
    assert (ADMIN.actor, ADMIN.role) == ("admin", Role.OPERATOR)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer adm-wrong", "Bearer", "Basic adm-right", f"Bearer {HASH}"]
)
def test_nothing_else_does(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        authenticate(header, HASH)


def test_a_server_without_a_token_says_what_to_do_and_lets_nobody_in() -> None:
    with pytest.raises(Unavailable, match="billing admin-token --new"):
        authenticate("Bearer anything", None)
