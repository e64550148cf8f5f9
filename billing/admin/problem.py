"""Errors of the admin API as RFC 9457 problems, and the one table from an error's kind to a status."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec

from billing.errors import BillingError, InvalidInput, LimitReached, NotFound

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:billing:problem:"
CHALLENGE = 'Bearer realm="billing"'


class _Shape(msgspec.Struct, frozen=True):
    status: int
    title: str


_SHAPES = {
    "invalid_input": _Shape(400, "What was sent cannot be accepted"),
    "wrong_method": _Shape(405, "The path takes another method"),
    "too_large": _Shape(413, "The request is too large"),
    "headers_too_large": _Shape(431, "The request's headers are too large"),
    "unauthenticated": _Shape(401, "The token or key is missing or wrong"),
    "forbidden": _Shape(403, "Not allowed"),
    "not_found": _Shape(404, "Not found"),
    "conflict": _Shape(409, "The present state does not allow this"),
    "limit_reached": _Shape(429, "A limit is reached"),
    "exhausted": _Shape(429, "Used up for now"),
    "limits_unavailable": _Shape(503, "Limits cannot be checked"),
    "unavailable": _Shape(503, "Not available at the moment"),
    "spool_full": _Shape(503, "The local log is full"),
    "upstream_unreachable": _Shape(502, "The model server cannot be reached"),
    "upstream_timeout": _Shape(504, "The model server did not answer in time"),
    "upstream_broken": _Shape(502, "The model server's answer broke off"),
    "upstream_refused": _Shape(502, "The model server refused"),
    "upstream_overloaded": _Shape(503, "The model server has no room"),
    "misconfigured": _Shape(500, "The service is not set up for this"),
    "internal": _Shape(500, "The service failed"),
}
KINDS = frozenset(_SHAPES)

_KINDS_OF_STATUSES = {
    400: "invalid_input", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "wrong_method",
    409: "conflict", 413: "too_large", 431: "headers_too_large", 503: "unavailable",
}  # fmt: skip
_UNTOLD = "the service failed; what happened stands in its log under this instance"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 writes it. ``param`` names the field or parameter that it is about."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    """This very answer: the ``x-request-id`` of its reply, which the service's log repeats."""
    param: str | None = None


def problem(fault: BillingError, request_id: UUID) -> Problem:
    """The problem of a domain error. What is not the caller's business is not in it."""
    shape = _SHAPES[fault.kind]
    param = fault.param if isinstance(fault, InvalidInput | NotFound) else None
    return _problem(fault.kind, shape.title, shape.status, _detail(fault), request_id, param)


def problem_of_status(status: int, detail: str, request_id: UUID, param: str | None = None) -> Problem:
    """The problem of an error that the web framework found: an unknown path, a wrong method, a body that is no JSON."""
    kind = _KINDS_OF_STATUSES.get(status)
    if kind is None:
        kind = "invalid_input" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"
        return _problem(kind, HTTPStatus(status).phrase, status, detail, request_id, param)
    return _problem(kind, _SHAPES[kind].title, status, detail, request_id, param)


def failure(request_id: UUID) -> Problem:
    """The problem of an error that nobody expected; its text stays in the log."""
    shape = _SHAPES["internal"]
    return _problem("internal", shape.title, shape.status, _UNTOLD, request_id, None)


def headers_of(answer: Problem, fault: BaseException | None = None) -> dict[str, str]:
    """Headers beside the usual ones: how to authenticate, when to come back."""
    headers = {"x-request-id": answer.instance.removeprefix("urn:uuid:")}
    if answer.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = CHALLENGE
    if isinstance(fault, LimitReached):
        headers["retry-after"] = str(-(-fault.retry_after_us // 1_000_000))
    return headers


def explained(extra: Any, detail: str) -> tuple[str, str | None]:
    """What a validation found, each with its path, and the path of the first: ``("name: Expected `str`", "name")``."""
    found = [each for each in extra if isinstance(each, dict)] if isinstance(extra, list) else []
    if not found:
        return detail, None
    sentences = [f"{path}: {each['message']}" if (path := _path(each)) else each["message"] for each in found]
    return "; ".join(sentences), _path(found[0])


def _path(found: dict[str, Any]) -> str | None:
    key = str(found.get("key", ""))
    return None if key in {"", "data"} else key


def _detail(fault: BillingError) -> str:
    return _UNTOLD if _SHAPES[fault.kind].status == HTTPStatus.INTERNAL_SERVER_ERROR else str(fault)


def _problem(kind: str, title: str, status: int, detail: str, request_id: UUID, param: str | None) -> Problem:
    return Problem(TYPE_PREFIX + kind, title, status, detail, f"urn:uuid:{request_id}", param)
