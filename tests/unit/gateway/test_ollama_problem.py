"""Every error has a status and the envelope of Ollama and of Triton, in a reply and inside a stream."""

import msgspec
import pytest

from billing import errors
from billing.errors import BillingError, InvalidInput, LimitReached, NotFound
from billing.gateway import ollama_problem
from billing.gateway import problem as openai


def every(kind: type[BillingError] = BillingError) -> list[type[BillingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


OURS = [kind for kind in every() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_keeps_its_status_and_says_one_sentence(kind: type[BillingError]) -> None:
    answer, told = ollama_problem.problem(kind("the sentence")), openai.problem(kind("the sentence"))
    assert (answer.status, answer.headers) == (told.status, told.headers)
    assert msgspec.json.decode(answer.body) == {"error": msgspec.json.decode(told.body)["error"]["message"]}


def test_a_model_that_is_not_there_is_a_404() -> None:
    answer = ollama_problem.problem(NotFound("The model `x` does not exist.", "model"))
    assert (answer.status, answer.body) == (404, b'{"error":"The model `x` does not exist."}')


def test_a_limit_says_when_to_come_back() -> None:
    answer = ollama_problem.problem(LimitReached("slower", retry_after_us=2_500_000))
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (429, b"3")


def test_inside_a_stream_it_is_one_line() -> None:
    line = ollama_problem.event(InvalidInput('a "quote", a line\n\nend, \r\n and é🚀'))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert msgspec.json.decode(line) == {"error": 'a "quote", a line\n\nend, \r\n and é🚀'}
