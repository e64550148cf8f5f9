"""An error is told in the dialect of the path it was made on, whole and inside a stream."""

from uuid import UUID

import msgspec
import pytest

from billing.errors import InvalidInput, LimitReached, UpstreamBroken, WrongMethod
from billing.gateway.problems import answer, in_stream, reply_headers
from billing.tokens.operation import Dialect

ID, NOW_US = UUID(int=7), 1_795_000_000_000_000
FAULT = InvalidInput("messages must be an array of objects, got a string", "messages")


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_says_what_is_wrong_with_the_same_status(dialect: Dialect) -> None:
    told = answer(dialect, FAULT, ID, NOW_US)
    assert told.status == 400
    assert b"messages must be an array of objects" in told.body
    msgspec.json.decode(told.body)


@pytest.mark.parametrize(
    ("dialect", "shape"),
    [
        (Dialect.OPENAI, {"error"}),
        (Dialect.LLAMA_CPP, {"error"}),
        (Dialect.ANTHROPIC, {"type", "error", "request_id"}),
        (Dialect.OLLAMA, {"error"}),
        (Dialect.TGI, {"error", "error_type"}),
        (Dialect.TRITON, {"error"}),
    ],
)
def test_the_envelope_is_the_dialects_own(dialect: Dialect, shape: set[str]) -> None:
    told = msgspec.json.decode(answer(dialect, FAULT, ID, NOW_US).body)
    assert told.keys() == shape
    is_text = isinstance(told["error"], str)
    assert is_text == (dialect in {Dialect.OLLAMA, Dialect.TGI, Dialect.TRITON})


@pytest.mark.parametrize("dialect", Dialect)
def test_inside_a_stream_it_is_one_event_that_clients_raise_on(dialect: Dialect) -> None:
    event = in_stream(dialect, UpstreamBroken("the reply broke off"), ID)
    lines = event.strip().split(b"\n")
    data = lines[-1] if dialect is Dialect.OLLAMA else lines[-1].removeprefix(b"data:")
    assert "error" in msgspec.json.decode(data)
    assert event.endswith(b"\n" if dialect is Dialect.OLLAMA else b"\n\n")
    assert event.startswith(b"event: error\n") == (dialect is Dialect.ANTHROPIC)


@pytest.mark.parametrize("dialect", Dialect)
def test_who_must_wait_is_told_how_long_in_every_dialect(dialect: Dialect) -> None:
    limits = ((b"x-ratelimit-limit-requests", b"50"), (b"x-ratelimit-remaining-requests", b"0"))
    fault = LimitReached("too many requests", retry_after_us=7_200_000, meter="requests", headers=limits)
    told = answer(dialect, fault, ID, NOW_US)
    assert told.status == 429
    assert dict(told.headers)[b"retry-after"] == b"8"


def test_the_method_that_a_path_takes_is_told() -> None:
    told = answer(Dialect.OLLAMA, WrongMethod("/api/chat takes POST, not GET", allow="POST"), ID, NOW_US)
    assert (told.status, dict(told.headers)[b"allow"]) == (405, b"POST")


def test_what_is_left_of_the_limits_is_said_in_the_dialects_words() -> None:
    limits = [(b"x-ratelimit-remaining-tokens", b"70")]
    assert reply_headers(Dialect.OPENAI, limits, ID, NOW_US) == limits
    said = dict(reply_headers(Dialect.ANTHROPIC, limits, ID, NOW_US))
    assert said[b"anthropic-ratelimit-tokens-remaining"] == b"70"
    assert said[b"request-id"] == str(ID).encode()
