"""Who calls: a tenant's key, as the gateways know it, before anything else of a request is read."""

from collections.abc import Callable
from typing import Any, Protocol

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from billing.clock import Clock
from billing.directory.caller import Caller

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], None]
Calling = Request[Caller, Any, Any]
"""A request whose user is known."""


class Callers(Protocol):
    """Who a header stands for (``directory.service``)."""

    def caller(self, authorization: bytes | None, now_us: int) -> Caller:
        """Raises ``Unauthenticated``, ``Forbidden`` or ``Unavailable``."""


def key_guard(callers: Callers, clock: Clock) -> Guard:
    """A guard for the router: the caller stands on the request as its user afterwards."""

    def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        authorization = connection.headers.get("authorization")
        if authorization is None and (key := connection.headers.get("x-api-key")) is not None:
            authorization = f"Bearer {key}"
        told = None if authorization is None else authorization.encode("latin-1", errors="replace")
        connection.scope["user"] = callers.caller(told, clock())

    return guard
