"""An operator's cap stands in a request in place of a longer answer, in every dialect's own words, and nowhere else."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.routes import find
from billing.tokens.engines import GENERIC, LLAMA_CPP, OLLAMA, TGI, Engine
from tests.openai_kit import call_of

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CASES: list[tuple[str, Engine, dict[str, Any], dict[str, Any]]] = [
    ("/v1/chat/completions", GENERIC, CHAT, CHAT | {"max_tokens": 100}),
    ("/v1/chat/completions", GENERIC, CHAT | {"max_tokens": 500}, CHAT | {"max_tokens": 100}),
    (
        "/v1/chat/completions",
        GENERIC,
        CHAT | {"max_tokens": 50, "max_completion_tokens": 500},
        CHAT | {"max_tokens": 50, "max_completion_tokens": 100},
    ),
    ("/v1/chat/completions", LLAMA_CPP, CHAT | {"n_predict": -1}, CHAT | {"n_predict": 100}),
    (
        "/v1/completions",
        GENERIC,
        {"model": "m", "prompt": "a"},
        {"model": "m", "prompt": "a", "max_tokens": 100},
    ),
    (
        "/v1/responses",
        GENERIC,
        {"model": "m", "input": "a"},
        {"model": "m", "input": "a", "max_output_tokens": 100},
    ),
    ("/v1/messages", GENERIC, CHAT | {"max_tokens": 4_096}, CHAT | {"max_tokens": 100}),
    (
        "/api/chat",
        OLLAMA,
        CHAT | {"options": {"seed": 1}},
        CHAT | {"options": {"seed": 1, "num_predict": 100}},
    ),
    ("/completion", LLAMA_CPP, {"prompt": "a"}, {"prompt": "a", "n_predict": 100}),
    (
        "/generate",
        TGI,
        {"inputs": "a", "parameters": {"seed": 1}},
        {"inputs": "a", "parameters": {"seed": 1, "max_new_tokens": 100, "details": True}},
    ),
]


@pytest.mark.parametrize(("path", "engine", "sent", "asked"), CASES)
def test_a_longer_answer_is_asked_for_with_the_cap(
    path: str, engine: Engine, sent: dict[str, Any], asked: dict[str, Any]
) -> None:
    call = call_of(path, **sent).capped(100)
    assert call.output_max == 100
    body = call.upstream_body(engine, sent.get("model", ""), stream=False)
    assert msgspec.json.decode(body) == asked


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/chat/completions", CHAT | {"max_tokens": 100}),
        ("/v1/messages", CHAT | {"max_tokens": 7}),
        ("/v1/messages/count_tokens", CHAT),
        ("/v1/embeddings", {"model": "m", "input": "a"}),
        ("/api/embed", {"model": "m", "input": "a"}),
        ("/api/chat", CHAT | {"options": {"num_predict": 99}}),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": ["a"]}),
        ("/v1/audio/speech", {"model": "m", "input": "a", "voice": "b"}),
    ],
)
def test_what_asks_for_no_more_is_left_as_it_is(path: str, sent: dict[str, Any]) -> None:
    call = call_of(path, **sent)
    assert call.capped(100) is call


def test_where_only_the_client_can_say_it_it_is_told() -> None:
    path, body = "/v2/models/m/generate", b'{"text_input":"a","max_tokens":500}'
    route = find(path)
    assert route is not None
    call = route.parse(Asked(route.operation, path, body, b"application/json"))
    with pytest.raises(InvalidInput, match="set `max_tokens` to at most 100"):
        call.capped(100)
    assert call.capped(500) is call
