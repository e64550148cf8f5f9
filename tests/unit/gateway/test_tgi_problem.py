"""Errors in TGI's envelope, whose type makes clients raise the exception that fits."""

import msgspec
import pytest

from billing import errors
from billing.errors import BillingError, InvalidInput, LimitReached
from billing.gateway import problem as openai
from billing.gateway import tgi_problem


def every(kind: type[BillingError] = BillingError) -> list[type[BillingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


OURS = [kind for kind in every() if kind.__module__ == errors.__name__]
TYPES = {
    "invalid_input": "validation", "too_large": "validation", "not_found": "validation", "unauthenticated": "authentication",
    "forbidden": "authentication", "limit_reached": "overloaded", "upstream_overloaded": "overloaded", "spool_full": "overloaded",
    "upstream_timeout": "generation", "upstream_unreachable": "generation", "upstream_broken": "incomplete_generation",
    "internal": "generation",
}  # fmt: skip


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_keeps_its_status_and_sentence_and_has_a_type(kind: type[BillingError]) -> None:
    answer, told = tgi_problem.problem(kind("the sentence")), openai.problem(kind("the sentence"))
    envelope = msgspec.json.decode(answer.body)
    assert (answer.status, answer.headers) == (told.status, told.headers)
    assert envelope["error"] == msgspec.json.decode(told.body)["error"]["message"]
    assert envelope["error_type"] in set(TYPES.values())


@pytest.mark.parametrize(("kind", "error_type"), TYPES.items())
def test_types(kind: str, error_type: str) -> None:
    made = next(error for error in OURS if error.kind == kind)
    assert msgspec.json.decode(tgi_problem.problem(made("x")).body)["error_type"] == error_type


def test_a_limit_says_when_to_come_back() -> None:
    assert dict(tgi_problem.problem(LimitReached("x")).headers)[b"retry-after"] == b"1"


def test_inside_a_stream_it_is_one_event_on_one_line() -> None:
    data = tgi_problem.event(InvalidInput("a line\n\nend"))
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert msgspec.json.decode(data[6:]) == {"error": "a line\n\nend", "error_type": "validation"}
