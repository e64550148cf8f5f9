"""A request to Ollama's own API is read as Ollama reads it, and changed only where it must be."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.ollama import OllamaCall
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import OLLAMA
from billing.tokens.operation import Dialect, Framing, Operation
from billing.tokens.usage import Count, Provenance

CHAT, GENERATE, EMBED, EMBEDDINGS, SHOW = (
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show",
)  # fmt: skip


def call(path: str = CHAT, **members: Any) -> OllamaCall:
    return parsed(path, msgspec.json.encode({"model": "tiny"} | members))


def parsed(path: str, body: bytes) -> OllamaCall:
    made = PATHS[path].parse(Asked(PATHS[path].operation, path, body))
    assert isinstance(made, OllamaCall)
    return made


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize(("members", "stream"), [({}, True), ({"stream": None}, True), ({"stream": True}, True), ({"stream": False}, False)])  # fmt: skip
def test_text_streams_unless_it_is_told_not_to(path: str, members: dict[str, Any], *, stream: bool) -> None:
    made = call(path, **members)
    assert (made.stream, made.framing, made.dialect) == (stream, Framing.NDJSON, Dialect.OLLAMA)


@pytest.mark.parametrize("path", [EMBED, EMBEDDINGS, SHOW])
def test_what_holds_no_text_never_streams_and_has_no_output(path: str) -> None:
    made = call(path, stream=True)
    assert not made.stream
    assert made.output_bound(500) == 0
    assert made.stream_meter(OLLAMA).usage().output.value == 0


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (None, 500), ({}, 500), ({"num_predict": 7}, 7), ({"num_predict": 7.9}, 7), ({"num_predict": 0}, 500), ({"num_predict": -1}, 500),
        ({"num_predict": -2}, 500), ({"num_predict": True}, 500), ({"num_predict": "7"}, 500), ({"num_predict": None}, 500),
        ({"num_predict": 10**30}, 500), ({"num_ctx": 9}, 500),
    ],
)  # fmt: skip
def test_the_output_is_bounded_where_a_limit_is_set(options: dict[str, Any] | None, bound: int) -> None:
    assert call(options=options).output_bound(500) == bound


@pytest.mark.parametrize("name", ["Model", "MODEL", "Stream", "\u017ftream", "Options", "Name"])
def test_a_name_in_another_case_is_refused_because_ollama_would_read_it_too(name: str) -> None:
    with pytest.raises(InvalidInput, match="in lower case") as fault:
        call(CHAT, **{name: "large"})
    assert fault.value.param == name.casefold()


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, b"{}", "model"), (CHAT, b'{"model":""}', "model"), (CHAT, b'{"model":5}', "model"), (CHAT, b"[]", None),
        (CHAT, b'{"model":"a","stream":"no"}', "stream"), (CHAT, b'{"model":"a","options":[]}', "options"),
        (SHOW, b"{}", "model"), (SHOW, b'{"name":""}', "model"), (EMBED, b'{"name":"a"}', "model"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_name(path: str, body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidInput) as fault:
        parsed(path, body)
    assert fault.value.param == param


@pytest.mark.parametrize(
    "body",
    [b'{"model":"tiny"}', b'{"name":"tiny"}', b'{"model":"","name":"tiny"}', b'{"model":"tiny","name":"x"}'],
)
def test_show_names_its_model_in_an_older_word_too(body: bytes) -> None:
    made = parsed(SHOW, body)
    assert (made.model, made.operation) == ("tiny", Operation.SHOW)
    assert made.upstream_body(OLLAMA, "tiny", stream=False) == body
    assert msgspec.json.decode(made.upstream_body(OLLAMA, "weights", stream=False)) == {"model": "weights"}


def test_nothing_is_asked_for_and_other_members_pass_byte_for_byte() -> None:
    body = b'{ "model":"tiny", "messages":[{"role":"user","content":"x","images":["aGk="]}], "think":true, "options":{"temperature":1e-1} }'
    made = parsed(CHAT, body)
    assert made.upstream_body(OLLAMA, "tiny", stream=True) == body
    assert made.upstream_body(OLLAMA, "weights:7b", stream=True) == (
        b'{"model":"weights:7b","messages":[{"role":"user","content":"x","images":["aGk="]}],"think":true,"options":{"temperature":1e-1}}'
    )
    assert made.upstream_path("weights:7b") == CHAT


def test_no_caller_decides_for_all_what_stays_loaded() -> None:
    sent = call(keep_alive=0).upstream_body(OLLAMA, "tiny", stream=True)
    assert "keep_alive" not in msgspec.json.decode(sent)


def test_a_stream_can_be_asked_for_where_the_client_wants_a_whole_reply() -> None:
    made = call(stream=False)
    assert msgspec.json.decode(made.upstream_body(OLLAMA, "tiny", stream=True))["stream"] is True


def test_a_description_uses_nothing() -> None:
    meter = call(SHOW).reply_meter(OLLAMA, b'{"license":"MIT","model_info":{}}')
    zero = Count(0, Provenance.REPORTED, "a model is described, not asked")
    assert (meter.usage().input, meter.usage().output) == (zero, zero)
    assert (meter.response_id, meter.response_model) == (None, None)


def test_a_call_shows_no_prompt() -> None:
    assert "secret" not in repr(call(messages=[{"role": "user", "content": "secret"}]))
