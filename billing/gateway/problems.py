"""Errors in the dialect of the path they were made on, whole and inside a stream (pure)."""

from collections.abc import Callable
from uuid import UUID

from billing.errors import BillingError
from billing.gateway import anthropic_problem, ollama_problem, tgi_problem, triton_problem
from billing.gateway.ports import Headers
from billing.gateway.problem import Problem, event, problem
from billing.tokens.operation import Dialect

_PROBLEMS: dict[Dialect, Callable[[BillingError], Problem]] = {
    Dialect.OLLAMA: ollama_problem.problem,
    Dialect.TGI: tgi_problem.problem,
    Dialect.TRITON: triton_problem.problem,
}
"""Dialects whose errors need nothing but the error; every other one but Anthropic's speaks as OpenAI does."""
_EVENTS: dict[Dialect, Callable[[BillingError], bytes]] = {
    Dialect.OLLAMA: ollama_problem.event,
    Dialect.TGI: tgi_problem.event,
    Dialect.TRITON: triton_problem.event,
}


def answer(dialect: Dialect, fault: BillingError, request_id: UUID, now_us: int) -> Problem:
    """Status, body and headers of an error."""
    if dialect is Dialect.ANTHROPIC:
        return anthropic_problem.problem(fault, request_id, now_us)
    return _PROBLEMS.get(dialect, problem)(fault)


def in_stream(dialect: Dialect, fault: BillingError, request_id: UUID) -> bytes:
    """The same error inside a stream that has begun."""
    if dialect is Dialect.ANTHROPIC:
        return anthropic_problem.event(fault, request_id)
    return _EVENTS.get(dialect, event)(fault)


def reply_headers(dialect: Dialect, limits: Headers, request_id: UUID, now_us: int) -> Headers:
    """What a dialect's clients read beside the engine's own headers: what is left of their limits, the request's id."""
    if dialect is Dialect.ANTHROPIC:
        return [*anthropic_problem.rate_headers(limits, now_us), (b"request-id", str(request_id).encode())]
    return limits
