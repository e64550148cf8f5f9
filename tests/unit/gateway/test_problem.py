"""Every error has a status and OpenAI's envelope, in a reply and inside a stream."""

import msgspec
import pytest

from billing import errors
from billing.errors import BillingError, InvalidInput, LimitReached, NotFound
from billing.gateway.problem import KINDS, event, problem


def every(kind: type[BillingError] = BillingError) -> list[type[BillingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


OURS = [kind for kind in every() if kind.__module__ == errors.__name__]
STATUSES = {
    "invalid_input": 400, "too_large": 413, "headers_too_large": 431, "unauthenticated": 401, "forbidden": 403,
    "not_found": 404, "conflict": 409, "exhausted": 429, "unavailable": 503, "spool_full": 503,
    "upstream_unreachable": 502, "upstream_timeout": 504, "upstream_broken": 502, "misconfigured": 500, "internal": 500,
    "upstream_refused": 502, "upstream_overloaded": 503, "limit_reached": 429, "limits_unavailable": 503,
}  # fmt: skip


TOLD_AS_THEY_ARE = {
    "invalid_input", "wrong_method", "too_large", "headers_too_large", "unauthenticated", "forbidden", "not_found",
    "conflict", "exhausted", "unavailable", "limit_reached", "limits_unavailable",
}  # fmt: skip


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_is_mapped(kind: type[BillingError]) -> None:
    assert kind.kind in KINDS
    answer = problem(kind("the sentence"))
    envelope = msgspec.json.decode(answer.body)["error"]
    assert set(envelope) == {"message", "type", "param", "code"}
    assert (envelope["message"] == "the sentence") is (kind.kind in TOLD_AS_THEY_ARE)
    assert envelope["message"]
    assert 400 <= answer.status <= 599


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_statuses(kind: str, status: int) -> None:
    made = next(error for error in OURS if error.kind == kind)
    assert problem(made("x")).status == status


def test_a_parameter_is_named() -> None:
    envelope = msgspec.json.decode(problem(InvalidInput("n must be 1", "n")).body)
    assert envelope == {
        "error": {"message": "n must be 1", "type": "invalid_request_error", "param": "n", "code": None}
    }


def test_an_unknown_model_has_the_code_that_clients_look_for() -> None:
    assert (
        msgspec.json.decode(problem(NotFound("no model", "model")).body)["error"]["code"] == "model_not_found"
    )
    assert msgspec.json.decode(problem(NotFound("no page")).body)["error"]["code"] == "unknown_url"


def test_a_sentence_may_hold_anything() -> None:
    text = 'a "quote", a line\n\nend, \r\n\r\n and é🚀'
    assert msgspec.json.decode(problem(InvalidInput(text)).body)["error"]["message"] == text


def test_inside_a_stream_it_is_one_event_on_one_line() -> None:
    data = event(BillingError('a line\n\nend and "é"'))
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert msgspec.json.decode(data[6:-2])["error"]["type"] == "server_error"


@pytest.mark.parametrize(("wait_us", "seconds", "milliseconds"), [(1, b"1", b"1"), (1_000_000, b"1", b"1000"), (1_200_001, b"2", b"1201")])  # fmt: skip
def test_a_limit_says_when_to_come_back_and_never_too_early(
    wait_us: int, seconds: bytes, milliseconds: bytes
) -> None:
    fault = LimitReached(
        "x", meter="tokens", retry_after_us=wait_us, headers=[(b"x-ratelimit-limit-tokens", b"9")]
    )
    answer = problem(fault)
    assert dict(answer.headers) == {
        b"retry-after": seconds, b"retry-after-ms": milliseconds, b"x-ratelimit-limit-tokens": b"9",
    }  # fmt: skip
    envelope = msgspec.json.decode(answer.body)["error"]
    assert (envelope["type"], envelope["code"]) == ("tokens", "rate_limit_exceeded")
