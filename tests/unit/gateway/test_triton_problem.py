"""Errors in Triton's envelope, in a reply and inside a stream."""

import msgspec

from billing.errors import InvalidInput, UpstreamBroken
from billing.gateway import triton_problem


def test_the_envelope_holds_one_sentence() -> None:
    answer = triton_problem.problem(InvalidInput("text_input must be a string", "text_input"))
    assert (answer.status, answer.body) == (400, b'{"error":"text_input must be a string"}')


def test_what_the_operator_must_know_is_not_told_to_callers() -> None:
    assert b"10.0.0.1" not in triton_problem.problem(UpstreamBroken("10.0.0.1 broke off")).body


def test_inside_a_stream_it_is_one_event_on_one_line() -> None:
    data = triton_problem.event(InvalidInput("a line\n\nend"))
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert msgspec.json.decode(data[6:]) == {"error": "a line\n\nend"}
