"""A request for a response is understood as far as metering must, refused by the name of what is wrong, and changed least."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.dialects.openai_responses import CountCall, ResponsesCall
from billing.tokens.engines import ENGINES, LLAMA_CPP, OPENAI
from billing.tokens.fixed import NOTHING_GENERATED
from billing.tokens.operation import Dialect, Framing, Operation
from billing.tokens.usage import TokenUsage
from tests.openai_kit import call_of, cases, mismatches

PATH, COMPACT = "/v1/responses", "/v1/responses/compact"
COUNTS = ["/v1/responses/input_tokens", "/v1/chat/completions/input_tokens"]


def call(path: str = PATH, **members: Any) -> ResponsesCall:
    got = call_of(path, **({"model": "tiny", "input": "hi"} | members))
    assert isinstance(got, ResponsesCall)
    return got


@pytest.mark.parametrize("path", [PATH, COMPACT])
def test_a_plain_request(path: str) -> None:
    got = call(path)
    assert (got.operation, got.dialect, got.framing) == (Operation.RESPONSES, Dialect.OPENAI, Framing.SSE)
    assert (got.path, got.model, got.stream, got.output_max, got.end_user) == (
        path,
        "tiny",
        False,
        None,
        None,
    )
    assert got.output_bound(1000) == 1000


def test_what_a_client_asks_for() -> None:
    got = call(
        stream=True, max_output_tokens=7, user="ada", timings_per_token=True, store=False, background=False
    )
    assert (got.stream, got.output_bound(1000), got.end_user, got.timings_asked) == (True, 7, "ada", True)
    assert call(user="ada", safety_identifier="bob").end_user == "bob"


@pytest.mark.parametrize(
    "subject",
    [
        {"previous_response_id": "r1"},
        {"conversation": "c1"},
        {"prompt": {"id": "p1"}},
        {"input": [{"role": "user"}]},
    ],
)
def test_what_a_response_may_go_on_from(subject: dict[str, Any]) -> None:
    assert call_of(PATH, model="tiny", **subject).model == "tiny"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "in the background": ({"background": True}, "background", "told later"),
    "without a model": ({"model": None}, "model", "a string"),
    "without input": ({"input": None}, "input", "you must provide input"),
    "with an object as input": ({"input": {"a": 1}}, "input", "a string or an array, got an object"),
    "with a number as input": ({"input": 5}, "input", "a string or an array, got 5"),
    "with stream as text": ({"stream": "yes"}, "stream", "true or false"),
    "for a user that is a number": ({"user": 5}, "user", "a string"),
    "for a user with a control character": (
        {"safety_identifier": "a\n"},
        "safety_identifier",
        "control character",
    ),
}


@pytest.mark.parametrize(("members", "param", "message"), REFUSED.values(), ids=REFUSED)
def test_a_request_is_refused(members: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        call(**members)
    assert refused.value.param == param


def test_what_is_not_streamed_may_not_be_asked_as_a_stream() -> None:
    for path in [COMPACT, *COUNTS]:
        with pytest.raises(InvalidInput, match="cannot be streamed") as refused:
            call_of(path, model="tiny", input="hi", stream=True)
        assert refused.value.param == "stream"


def sent(got: ResponsesCall | CountCall, *, engine: str = "openai", model: str = "tiny") -> dict[str, Any]:
    body = got.upstream_body(ENGINES[engine], model, stream=got.stream)
    decoded: dict[str, Any] = msgspec.json.decode(body)
    return decoded


@pytest.mark.parametrize("engine", ["openai", "vllm", "ollama", "sglang"])
def test_the_body_goes_as_it_came_where_nothing_must_change(engine: str) -> None:
    for got in (call(), call(stream=True, stream_options={"include_obfuscation": False})):
        assert got.upstream_body(ENGINES[engine], "tiny", stream=got.stream) is got.body


def test_the_body_takes_the_backends_name_and_the_counts() -> None:
    assert sent(call(), model="org/tiny") == {"model": "org/tiny", "input": "hi"}
    asked = sent(call(stream=True, response_fields=["id"]), engine="llama.cpp")
    assert asked == {"model": "tiny", "input": "hi", "stream": True, "timings_per_token": True}


def test_a_stream_may_be_asked_for_a_client_that_wants_it_whole() -> None:
    body = call(response_fields=[]).upstream_body(LLAMA_CPP, "tiny", stream=True)
    assert msgspec.json.decode(body) == {
        "model": "tiny",
        "input": "hi",
        "stream": True,
        "timings_per_token": True,
    }
    assert call().assembler(LLAMA_CPP, always=True) is not None
    assert call(COMPACT).assembler(OPENAI, always=True) is None


@pytest.mark.parametrize("name", ["n", "n_cmpl", "best_of"])
@pytest.mark.parametrize("number", [0, 2, 2 - 2**32, "2"])
def test_a_response_has_one_answer(name: str, number: object) -> None:
    one: dict[str, Any] = {name: 1}
    several: dict[str, Any] = {name: number}
    assert call(**one).choices == 1
    with pytest.raises(InvalidInput, match=f"{name} must be") as refused:
        call(**several)
    assert refused.value.param == name


@pytest.mark.parametrize("path", COUNTS)
def test_a_prompt_that_is_only_counted(path: str) -> None:
    got = call_of(path, messages=[], input="hi")
    assert isinstance(got, CountCall)
    assert (got.operation, got.dialect, got.model) == (Operation.COUNT_TOKENS, Dialect.OPENAI, "")
    assert (got.stream, got.output_bound(1000)) == (False, 0)
    assert sent(got, model="org/tiny")["model"] == "org/tiny"
    assert got.upstream_body(OPENAI, "", stream=False) is got.body
    assert got.reply_meter(OPENAI, b'{"input_tokens":24}').usage() == TokenUsage(output=NOTHING_GENERATED)
    assert got.stream_meter(OPENAI).usage() == TokenUsage()


def test_the_corpus_of_counts() -> None:
    for case in cases("openai.responses.input_tokens"):
        usage = call_of(COUNTS[0], model="tiny").reply_meter(case.engine, case.raw).usage()
        assert mismatches(usage, case.expect) == {}, case.name
