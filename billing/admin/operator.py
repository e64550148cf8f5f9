"""Who operates: every route of the admin API asks for the admin token before anything else of a request is read."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from billing.access import token
from billing.errors import Unauthenticated, Unavailable

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], None]

UNSET = (
    "no admin token is set on this server: set BILLING_ADMIN_TOKEN, or run `billing admin-token --new`, "
    "then start it again"
)


class Role(StrEnum):
    """What an operator may do."""

    OPERATOR = "operator"


class Operator(msgspec.Struct, frozen=True):
    """Who calls the admin API; ``actor`` is the name in the audit log."""

    actor: str
    role: Role


ADMIN = Operator("admin", Role.OPERATOR)


def authenticate(authorization: str | None, token_hash: str | None) -> Operator:
    """The operator of an ``Authorization`` header.

    Raises ``Unauthenticated``, and ``Unavailable`` while the server knows no token at all.
    """
    if token_hash is None:
        raise Unavailable(UNSET)
    if not token.matches(token.bearer(authorization), token_hash):
        raise Unauthenticated("the admin token is not the one of this server")
    return ADMIN


def token_guard(token_hash: str | None) -> Guard:
    """A guard for routers: the operator stands on the request as its user afterwards."""

    def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        connection.scope["user"] = authenticate(connection.headers.get("authorization"), token_hash)

    return guard
