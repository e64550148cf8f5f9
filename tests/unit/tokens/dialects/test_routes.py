"""The paths that are proxied: each to its dialect and operation, and each served by some engine."""

import pytest

from billing.tokens.dialects.routes import PATHS, find
from billing.tokens.engines import ENGINES
from billing.tokens.operation import Dialect, Operation

SERVED = {
    "/v1/chat/completions": (Dialect.OPENAI, Operation.CHAT),
    "/v1/completions": (Dialect.OPENAI, Operation.COMPLETIONS),
    "/v1/embeddings": (Dialect.OPENAI, Operation.EMBEDDINGS),
    "/v1/responses": (Dialect.OPENAI, Operation.RESPONSES),
    "/v1/responses/input_tokens": (Dialect.OPENAI, Operation.COUNT_TOKENS),
    "/v1/audio/transcriptions": (Dialect.OPENAI, Operation.TRANSCRIPTIONS),
    "/v1/audio/translations": (Dialect.OPENAI, Operation.TRANSLATIONS),
    "/v1/audio/speech": (Dialect.OPENAI, Operation.SPEECH),
    "/v1/images/generations": (Dialect.OPENAI, Operation.IMAGES),
    "/v1/images/edits": (Dialect.OPENAI, Operation.IMAGE_EDITS),
    "/v1/messages": (Dialect.ANTHROPIC, Operation.MESSAGES),
    "/v1/messages/count_tokens": (Dialect.ANTHROPIC, Operation.COUNT_TOKENS),
    "/api/chat": (Dialect.OLLAMA, Operation.CHAT),
    "/api/generate": (Dialect.OLLAMA, Operation.GENERATE),
    "/api/embed": (Dialect.OLLAMA, Operation.EMBEDDINGS),
    "/api/embeddings": (Dialect.OLLAMA, Operation.EMBEDDINGS),
    "/api/show": (Dialect.OLLAMA, Operation.SHOW),
    "/completion": (Dialect.LLAMA_CPP, Operation.GENERATE),
    "/infill": (Dialect.LLAMA_CPP, Operation.INFILL),
    "/tokenize": (Dialect.LLAMA_CPP, Operation.TOKENIZE),
    "/detokenize": (Dialect.LLAMA_CPP, Operation.DETOKENIZE),
    "/v1/rerank": (Dialect.COHERE, Operation.RERANK),
    "/v1/ranking": (Dialect.COHERE, Operation.RERANK),
    "/v1/score": (Dialect.OPENAI, Operation.SCORE),
    "/classify": (Dialect.OPENAI, Operation.CLASSIFY),
    "/generate": (Dialect.TGI, Operation.GENERATE),
    "/generate_stream": (Dialect.TGI, Operation.GENERATE),
    "/v2/models/m/generate": (Dialect.TRITON, Operation.GENERATE),
    "/v2/models/m/generate_stream": (Dialect.TRITON, Operation.GENERATE),
}


@pytest.mark.parametrize("path", SERVED)
def test_a_path_is_found(path: str) -> None:
    route = find(path)
    assert route is not None
    assert (route.dialect, route.operation) == SERVED[path]


def test_every_path_is_served_by_some_engine() -> None:
    served = {asked for engine in ENGINES.values() for asked in engine.serves}
    unserved = {path for path, route in PATHS.items() if (route.dialect, route.operation) not in served}
    assert unserved == set()


@pytest.mark.parametrize(
    "path", ["", "/v1", "/v2/models/m", "/v2/models/m/load", "/api/pull", "/v1/stream", "/slots"]
)
def test_nothing_else_is_found(path: str) -> None:
    assert find(path) is None
