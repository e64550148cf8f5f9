"""A message is understood as far as metering must, refused by the name of what is wrong, and changed least."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.anthropic import AnthropicCall, parse
from billing.tokens.dialects.routes import PATHS, find
from billing.tokens.engines import ENGINES, LLAMA_CPP, VLLM
from billing.tokens.members import END_USER_LENGTH_MAX, MODEL_LENGTH_MAX
from billing.tokens.operation import Dialect, Framing, Operation

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
HELLO = [{"role": "user", "content": "Hello there"}]


def asked(body: bytes, path: str = MESSAGES) -> AnthropicCall:
    return parse(Asked(PATHS[path].operation, path, body))


def call(path: str = MESSAGES, **members: Any) -> AnthropicCall:
    return asked(msgspec.json.encode({"model": "tiny", "messages": HELLO} | members), path)


def test_the_paths_of_the_dialect() -> None:
    for path, operation in {MESSAGES: Operation.MESSAGES, COUNT_TOKENS: Operation.COUNT_TOKENS}.items():
        route = find(path)
        assert route is not None
        assert (route.operation, route.dialect) == (operation, Dialect.ANTHROPIC)


def test_a_plain_message() -> None:
    got = call(max_tokens=200)
    assert (got.operation, got.dialect, got.path) == (Operation.MESSAGES, Dialect.ANTHROPIC, MESSAGES)
    assert (got.model, got.stream, got.framing, got.output_max) == ("tiny", False, Framing.SSE, 200)
    assert (got.choices, got.prompts, got.end_user, got.units()) == (1, 1, None, {})


def test_what_a_client_asks_for() -> None:
    got = call(stream=True, metadata={"user_id": "ada", "other": [1]})
    assert (got.stream, got.end_user, got.output_max) == (True, "ada", None)


def test_null_members_are_absent_members() -> None:
    got = call(stream=None, metadata=None, max_tokens=None)
    assert (got.stream, got.end_user, got.output_max) == (False, None, None)
    assert call(metadata={"user_id": None}).end_user is None


def test_a_message_that_is_only_counted_is_no_stream_and_bounds_no_output() -> None:
    got = call(COUNT_TOKENS, stream=True, max_tokens=7)
    assert (got.operation, got.stream, got.output_bound(1000)) == (Operation.COUNT_TOKENS, False, 0)


@pytest.mark.parametrize(
    ("members", "bound"),
    [({}, 1000), ({"max_tokens": 7}, 7), ({"max_tokens": 0}, 0), ({"max_tokens": -1}, 1000), ({"max_tokens": "many"}, 1000)],
)  # fmt: skip
def test_the_output_that_a_message_may_use(members: dict[str, Any], bound: int) -> None:
    assert call(**members).output_bound(1000) == bound


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "model"),
    "a model that is a number": ({"model": 5}, "model"),
    "a model that is too long": ({"model": "m" * (MODEL_LENGTH_MAX + 1)}, "model"),
    "messages as text": ({"messages": "hi"}, "messages"),
    "messages that are null": ({"messages": None}, "messages"),
    "stream as text": ({"stream": "true"}, "stream"),
    "metadata as text": ({"metadata": "ada"}, "metadata"),
    "a user that is a number": ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    "a user that is an object": ({"metadata": {"user_id": {"device": "x"}}}, "metadata.user_id"),
    "a user that is too long": ({"metadata": {"user_id": "u" * (END_USER_LENGTH_MAX + 1)}}, "metadata.user_id"),
    "a user with a control character": ({"metadata": {"user_id": "a\0b"}}, "metadata.user_id"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "param"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_member_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call(**members)
    assert refusal.value.param == param
    assert param in str(refusal.value)


def test_a_message_must_have_its_subject() -> None:
    with pytest.raises(InvalidInput, match="you must provide messages"):
        asked(b'{"model":"tiny"}')


NOT_A_BODY = {
    "nothing": b"", "no JSON": b"hello", "a list": b"[]", "null": b"null", "half an object": b'{"model":"tiny"',
    "bytes": b"\xff\xfe\x00", "nesting without end": b'{"model":"tiny","messages":' + b"[" * 100_000,
    "a user that is no Unicode": b'{"model":"tiny","messages":[],"metadata":{"user_id":"\xff"}}',
    "a user that is a large number": b'{"model":"tiny","messages":[],"metadata":{"user_id":%d}}' % 10**400,
}  # fmt: skip


@pytest.mark.parametrize("raw", NOT_A_BODY.values(), ids=NOT_A_BODY)
def test_what_cannot_be_read_is_refused_and_not_a_crash(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        asked(raw)


def test_no_text_of_a_prompt_is_repeated_in_an_error() -> None:
    for members in ({"messages": "a very secret prompt"}, {"metadata": "a very secret prompt"}):
        with pytest.raises(InvalidInput) as refusal:
            call(**members)
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_a_body_in_which_nothing_must_change_reaches_the_engine_byte_by_byte(engine: Any) -> None:
    raw = b'{ "model":"tiny", "messages" :[],"stream":true,"max_tokens":5,"unknown":[1e400] }'
    assert asked(raw).upstream_body(engine, "tiny", stream=True) == raw


def test_the_model_is_named_as_the_backend_names_it_and_all_else_stays() -> None:
    sent = call(max_tokens=5, metadata={"user_id": "ada"}).upstream_body(VLLM, "weights", stream=False)
    assert msgspec.json.decode(sent) == {
        "model": "weights", "messages": HELLO, "max_tokens": 5, "metadata": {"user_id": "ada"},
    }  # fmt: skip


def test_what_takes_counts_out_of_replies_is_left_out() -> None:
    sent = call(response_fields=["content"]).upstream_body(LLAMA_CPP, "tiny", stream=False)
    assert msgspec.json.decode(sent) == {"model": "tiny", "messages": HELLO}


def test_an_engine_may_be_asked_for_a_stream_that_the_client_did_not_want() -> None:
    sent = call(stream=False).upstream_body(VLLM, "tiny", stream=True)
    assert msgspec.json.decode(sent)["stream"] is True
