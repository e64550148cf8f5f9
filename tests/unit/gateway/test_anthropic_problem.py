"""Every error has Anthropic's envelope, in a reply and inside a stream, and limits are told in Anthropic's words."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import errors
from billing.clock import from_datetime, to_datetime
from billing.errors import BillingError, InvalidInput, LimitReached, NotFound
from billing.gateway import problem as openai
from billing.gateway.anthropic_problem import event, problem, rate_headers
from billing.limits.headers import duration

REQUEST = UUID("01936000-0000-7000-8000-000000000001")
NOW_US = 1_795_514_400_000_000  # 2026-11-24T10:00:00Z
SECOND_US = 1_000_000


def every(kind: type[BillingError] = BillingError) -> list[type[BillingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


OURS = [kind for kind in every() if kind.__module__ == errors.__name__]
SHAPES = {
    "invalid_input": (400, "invalid_request_error"),
    "wrong_method": (405, "invalid_request_error"),
    "too_large": (413, "request_too_large"),
    "headers_too_large": (431, "invalid_request_error"),
    "unauthenticated": (401, "authentication_error"),
    "forbidden": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "conflict": (409, "invalid_request_error"),
    "limit_reached": (429, "rate_limit_error"),
    "exhausted": (429, "rate_limit_error"),
    "limits_unavailable": (503, "api_error"),
    "unavailable": (503, "api_error"),
    "spool_full": (503, "api_error"),
    "upstream_unreachable": (502, "api_error"),
    "upstream_timeout": (504, "timeout_error"),
    "upstream_broken": (502, "api_error"),
    "upstream_refused": (502, "api_error"),
    "upstream_overloaded": (529, "overloaded_error"),
    "misconfigured": (500, "api_error"),
    "internal": (500, "api_error"),
}


def envelope(fault: BillingError) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(problem(fault, REQUEST, NOW_US).body)
    return told


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_the_envelope_and_the_sentence_that_it_has_elsewhere(
    kind: type[BillingError],
) -> None:
    told = envelope(kind("the sentence"))
    assert set(told) == {"type", "error", "request_id"}
    assert set(told["error"]) == {"type", "message"}
    assert (told["type"], told["request_id"]) == ("error", str(REQUEST))
    elsewhere = msgspec.json.decode(openai.problem(kind("the sentence")).body)["error"]
    assert told["error"]["message"] == elsewhere["message"]


@pytest.mark.parametrize(("kind", "shape"), SHAPES.items())
def test_statuses_and_types(kind: str, shape: tuple[int, str]) -> None:
    made = next(error for error in OURS if error.kind == kind)("x")
    assert (problem(made, REQUEST, NOW_US).status, envelope(made)["error"]["type"]) == shape


def test_an_unknown_model_and_a_wrong_member_read_alike_in_the_envelope() -> None:
    assert envelope(NotFound("no model", "model"))["error"] == {
        "type": "not_found_error",
        "message": "no model",
    }
    assert envelope(InvalidInput("messages must be an array", "messages"))["error"] == {
        "type": "invalid_request_error", "message": "messages must be an array",
    }  # fmt: skip


def test_the_request_is_named_where_clients_look() -> None:
    assert dict(problem(BillingError("x"), REQUEST, NOW_US).headers) == {b"request-id": str(REQUEST).encode()}


def test_inside_a_stream_it_is_one_event_named_error() -> None:
    name, data, *rest = event(InvalidInput('a line\n\nend and "é"'), REQUEST).split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    assert msgspec.json.decode(data.removeprefix(b"data: "))["error"]["message"] == 'a line\n\nend and "é"'


@pytest.mark.parametrize(
    ("wait_us", "seconds", "retries"),
    [(1, b"1", True), (60 * SECOND_US, b"60", True), (60 * SECOND_US + 1, b"61", False), (3600 * SECOND_US, b"3600", False)],
)  # fmt: skip
def test_a_wait_that_clients_would_not_keep_is_told_as_not_to_be_retried(
    wait_us: int, seconds: bytes, retries: bool
) -> None:
    fault = LimitReached("x", retry_after_us=wait_us, headers=[(b"x-ratelimit-remaining-requests", b"0")])
    headers = dict(problem(fault, REQUEST, NOW_US).headers)
    assert headers[b"retry-after"] == seconds
    assert headers.get(b"x-should-retry", b"true") == (b"true" if retries else b"false")
    assert headers[b"anthropic-ratelimit-requests-remaining"] == b"0"
    assert not any(name.startswith(b"x-ratelimit") for name in headers)


def test_limits_are_told_in_the_words_of_the_dialect() -> None:
    told = rate_headers(
        [
            (b"x-ratelimit-limit-tokens", b"9000"),
            (b"x-ratelimit-remaining-tokens", b"41"),
            (b"x-ratelimit-reset-tokens", b"1m30.5s"),
            (b"x-ratelimit-reset-requests", b"120ms"),
            (b"x-something-else", b"1"),
        ],
        NOW_US,
    )
    assert told == [
        (b"anthropic-ratelimit-tokens-limit", b"9000"),
        (b"anthropic-ratelimit-tokens-remaining", b"41"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-11-24T10:01:31Z"),
        (b"anthropic-ratelimit-requests-reset", b"2026-11-24T10:00:01Z"),
        (b"x-something-else", b"1"),
    ]


@pytest.mark.parametrize("value", [b"", b"soon", b"-1s", b"1.2345s", b"\xff", b"5"])
def test_a_duration_that_cannot_be_read_is_left_out(value: bytes) -> None:
    assert rate_headers([(b"x-ratelimit-reset-tokens", value)], NOW_US) == []


def test_a_reset_without_end_is_the_last_instant_that_can_be_written() -> None:
    told = rate_headers([(b"x-ratelimit-reset-tokens", b"999999999999h0m0s")], NOW_US)
    assert told == [(b"anthropic-ratelimit-tokens-reset", b"9999-12-31T23:59:59Z")]


@given(st.integers(0, 400 * 24 * 3600 * SECOND_US), st.integers(0, 2**50))
def test_a_reset_is_never_too_early_and_less_than_two_seconds_late(wait_us: int, now_us: int) -> None:
    ((_, told),) = rate_headers([(b"x-ratelimit-reset-tokens", duration(wait_us))], now_us)
    reset_us = from_datetime(to_datetime(0).fromisoformat(told.decode()))
    assert 0 <= reset_us - (now_us + wait_us) < 2 * SECOND_US


def test_each_side_of_tokens_is_told_in_anthropics_words() -> None:
    told = rate_headers(
        [(b"x-ratelimit-remaining-output-tokens", b"5"), (b"ratelimit", b'"requests";r=1;t=1')], 0
    )
    assert told == [
        (b"anthropic-ratelimit-output-tokens-remaining", b"5"),
        (b"ratelimit", b'"requests";r=1;t=1'),
    ]
