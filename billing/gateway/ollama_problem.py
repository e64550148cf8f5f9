"""Errors as callers of Ollama's own API read them (pure): its clients look at the status and at ``error`` (``server/routes.go``).

Statuses, sentences and headers are those of :mod:`billing.gateway.problem`.
"""

import msgspec

from billing.errors import BillingError
from billing.gateway import problem as openai
from billing.gateway.problem import Problem


class _Error(msgspec.Struct, frozen=True):
    message: str


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error


_envelope = msgspec.json.Decoder(_Envelope).decode


def problem(fault: BillingError) -> Problem:
    """The status, the headers and ``{"error": "the sentence"}``."""
    told = openai.problem(fault)
    return Problem(told.status, msgspec.json.encode({"error": sentence(told)}), told.headers)


def event(fault: BillingError) -> bytes:
    """The same error as a line of a stream that has begun: official clients raise on a line with ``error``."""
    return problem(fault).body + b"\n"


def sentence(told: Problem) -> str:
    """What an error in OpenAI's envelope says."""
    return _envelope(told.body).error.message
