"""Every error of a request becomes a problem here, and nowhere else."""

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from billing.admin.problem import (
    MEDIA_TYPE,
    Problem,
    explained,
    failure,
    headers_of,
    problem,
    problem_of_status,
)
from billing.errors import BillingError
from billing.ids import NewId

_log = logging.getLogger(__name__)

_STATUS_FAILED_MIN = HTTPStatus.INTERNAL_SERVER_ERROR


class Faults:
    """Turns errors into problems; each answer gets an id of its own, which the log repeats for what is our fault."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id

    def __repr__(self) -> str:
        return "<Faults>"

    @property
    def handlers(self) -> ExceptionHandlersMap:
        """What Litestar is given."""
        return {BillingError: self.of_ours, HTTPException: self.of_litestar, Exception: self.unexpected}

    def of_ours(self, request: Request[Any, Any, Any], fault: BillingError) -> Response[Problem]:
        """An error that this project raised on purpose."""
        answer = problem(fault, self._new_id())
        if answer.status >= _STATUS_FAILED_MIN:
            _log.warning("%s %r: %s: %s (%s)", request.method, request.url.path, fault.kind, fault, answer.instance)  # fmt: skip
        return _response(answer, fault)

    def of_litestar(self, request: Request[Any, Any, Any], fault: HTTPException) -> Response[Problem]:
        """An error that Litestar found in a request; one of its own making is unexpected."""
        if fault.status_code >= _STATUS_FAILED_MIN:
            return self.unexpected(request, fault)
        detail, param = _said(request, fault)
        return _response(problem_of_status(fault.status_code, detail, self._new_id(), param), fault)

    def unexpected(self, request: Request[Any, Any, Any], fault: Exception) -> Response[Problem]:
        """A defect: its text goes to the log alone."""
        answer = failure(self._new_id())
        _log.error("%s %r failed (%s)", request.method, request.url.path, answer.instance, exc_info=fault)
        return _response(answer)


def _said(request: Request[Any, Any, Any], fault: HTTPException) -> tuple[str, str | None]:
    """What is wrong with a request, and with which field of it, where the framework's own words say too little."""
    if isinstance(fault, ValidationException) and fault.extra and not _lacks_body(fault.extra):
        return explained(fault.extra, fault.detail)
    match fault.status_code:
        case HTTPStatus.NOT_FOUND:
            return (
                f"there is nothing at {request.method} {request.url.path}; /api/docs lists what there is",
                None,
            )
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{request.url.path} does not take {request.method}; /api/docs lists what there is", None
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "the request's body is larger than is taken here", None
        case HTTPStatus.BAD_REQUEST:
            why = "there is none" if _lacks_body(fault.extra) else fault.detail
            return f"the request's body cannot be read as JSON: {why}", None
        case _:
            return fault.detail, None


def _lacks_body(extra: Any) -> bool:
    # Litestar says no more than the name of the handler's parameter when there is no body at all.
    return isinstance(extra, list) and [each.get("message") for each in extra] == ["'data'"]


def _response(answer: Problem, fault: BaseException | None = None) -> Response[Problem]:
    headers = headers_of(answer, fault)
    if isinstance(fault, HTTPException):
        allowed = [value for name, value in (fault.headers or {}).items() if name.lower() == "allow"]
        if allowed:
            headers["allow"] = _methods(allowed[0])
    return Response(answer, status_code=answer.status, media_type=MEDIA_TYPE, headers=headers)


def _methods(allowed: str) -> str:
    """The same in one order: Litestar's own differs from start to start."""
    return ", ".join(sorted(allowed.split(", ")))
