"""Errors as callers of OpenAI's API read them, and the one table from an error's kind to a status (pure)."""

import msgspec

from billing.errors import BillingError, InvalidInput, LimitReached, NotFound, WrongMethod


class _Shape(msgspec.Struct, frozen=True):
    status: int
    type: str
    code: str | None


_SHAPES = {
    "invalid_input": _Shape(400, "invalid_request_error", None),
    "wrong_method": _Shape(405, "invalid_request_error", "method_not_supported"),
    "too_large": _Shape(413, "invalid_request_error", "request_too_large"),
    "headers_too_large": _Shape(431, "invalid_request_error", "headers_too_large"),
    "unauthenticated": _Shape(401, "invalid_request_error", "invalid_api_key"),
    "forbidden": _Shape(403, "permission_error", "forbidden"),
    "not_found": _Shape(404, "invalid_request_error", "unknown_url"),
    "conflict": _Shape(409, "invalid_request_error", "conflict"),
    "limit_reached": _Shape(429, "requests", "rate_limit_exceeded"),
    "exhausted": _Shape(429, "requests", "rate_limit_exceeded"),
    "limits_unavailable": _Shape(503, "server_error", "limits_unavailable"),
    "unavailable": _Shape(503, "server_error", "unavailable"),
    "spool_full": _Shape(503, "server_error", "spool_full"),
    "upstream_unreachable": _Shape(502, "server_error", "upstream_unreachable"),
    "upstream_timeout": _Shape(504, "server_error", "upstream_timeout"),
    "upstream_broken": _Shape(502, "server_error", "upstream_broken"),
    "upstream_refused": _Shape(502, "server_error", "upstream_refused"),
    "upstream_overloaded": _Shape(503, "server_error", "upstream_overloaded"),
    "misconfigured": _Shape(500, "server_error", "misconfigured"),
    "internal": _Shape(500, "server_error", "internal_error"),
}
KINDS = frozenset(_SHAPES)

# What these errors say in detail (addresses, folders) is for the operator's log, not for a caller.
_SENTENCES = {
    "spool_full": "the gateway cannot record usage at the moment, and serves nothing unrecorded; try again shortly",
    "upstream_unreachable": "the model server cannot be reached; try again shortly",
    "upstream_timeout": "the model server did not answer in time",
    "upstream_broken": "the model server's answer broke off or was not understood",
    "upstream_refused": "the model server did not accept the request; ask your operator",
    "upstream_overloaded": "the model server has no room for the request at the moment; try again shortly",
    "misconfigured": "the gateway is not set up for this request; ask your operator",
    "internal": "the gateway failed; ask your operator",
}


class Problem(msgspec.Struct, frozen=True):
    """An error ready to be sent: status, JSON body in OpenAI's envelope, and headers beside the usual ones."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem(fault: BillingError) -> Problem:
    """The status and envelope of an error: ``{"error": {"message", "type", "param", "code"}}``."""
    shape = _SHAPES[fault.kind]
    param = fault.param if isinstance(fault, InvalidInput | NotFound) else None
    code = "model_not_found" if isinstance(fault, NotFound) and param == "model" else shape.code
    envelope = {
        "error": {
            "message": _SENTENCES.get(fault.kind) or str(fault),
            "type": "tokens"
            if isinstance(fault, LimitReached) and fault.meter.endswith("tokens")
            else shape.type,
            "param": param,
            "code": code,
        }
    }
    return Problem(shape.status, msgspec.json.encode(envelope), _headers(fault))


def _headers(fault: BillingError) -> tuple[tuple[bytes, bytes], ...]:
    """When to come back, rounded up so that it is never too early; ``retry-after-ms`` is what official clients prefer."""
    if isinstance(fault, WrongMethod) and fault.allow:
        return ((b"allow", fault.allow.encode()),)
    if not isinstance(fault, LimitReached):
        return ()
    wait = (
        (b"retry-after", str(-(-fault.retry_after_us // 1_000_000)).encode()),
        (b"retry-after-ms", str(-(-fault.retry_after_us // 1_000)).encode()),
    )
    return *wait, *fault.headers


def event(fault: BillingError) -> bytes:
    """The same error inside a stream that has begun: official clients raise on an event with ``error``."""
    return b"data: " + problem(fault).body + b"\n\n"
