"""Errors as callers of TGI's own API read them (pure): ``{"error", "error_type"}`` (``router/src/server.rs``, ``infer/mod.rs``).

Statuses, sentences and headers are those of :mod:`billing.gateway.problem`. Hugging Face's clients choose the exception
that they raise by ``error_type``: ``validation``, ``overloaded``, ``generation`` and ``incomplete_generation`` are TGI's own.
"""

import msgspec

from billing.errors import BillingError
from billing.gateway import problem as openai
from billing.gateway.ollama_problem import sentence
from billing.gateway.problem import Problem

_TYPES = {
    "unauthenticated": "authentication",
    "forbidden": "authentication",
    "limit_reached": "overloaded",
    "exhausted": "overloaded",
    "limits_unavailable": "overloaded",
    "unavailable": "overloaded",
    "spool_full": "overloaded",
    "upstream_overloaded": "overloaded",
    "upstream_broken": "incomplete_generation",
}
_SERVER_STATUS_MIN = 500


def problem(fault: BillingError) -> Problem:
    """The status, the headers and ``{"error": "the sentence", "error_type": …}``."""
    told = openai.problem(fault)
    envelope = {"error": sentence(told), "error_type": _type(fault.kind, told.status)}
    return Problem(told.status, msgspec.json.encode(envelope), told.headers)


def event(fault: BillingError) -> bytes:
    """The same error inside a stream that has begun: official clients raise on an event with ``error``."""
    return b"data: " + problem(fault).body + b"\n\n"


def _type(kind: str, status: int) -> str:
    return _TYPES.get(kind) or ("generation" if status >= _SERVER_STATUS_MIN else "validation")
