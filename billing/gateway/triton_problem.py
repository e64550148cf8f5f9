"""Errors as callers of Triton's generate extension read them (pure): ``{"error": "the sentence"}``, in a stream as one event."""

from billing.errors import BillingError
from billing.gateway import ollama_problem
from billing.gateway.problem import Problem


def problem(fault: BillingError) -> Problem:
    """The status, the headers and ``{"error": "the sentence"}``: Triton and Ollama write it alike."""
    return ollama_problem.problem(fault)


def event(fault: BillingError) -> bytes:
    """The same error inside a stream that has begun (Triton's ``AddErrorJson``)."""
    return b"data: " + problem(fault).body + b"\n\n"
