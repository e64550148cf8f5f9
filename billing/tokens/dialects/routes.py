"""Which path is which operation in which dialect: the allow-list of what is proxied (pure)."""

from collections.abc import Callable

import msgspec

from billing.tokens.call import Asked, Call
from billing.tokens.dialects import (
    anthropic,
    llama_cpp,
    ollama,
    openai_audio,
    openai_images,
    openai_responses,
    openai_text,
    ranking,
    tgi,
    triton,
)
from billing.tokens.operation import Dialect, Operation


class Route(msgspec.Struct, frozen=True):
    """A proxied path: what it does, and how its request is read."""

    operation: Operation
    dialect: Dialect
    parse: Callable[[Asked], Call]


PATHS: dict[str, Route] = {
    "/v1/chat/completions": Route(Operation.CHAT, Dialect.OPENAI, openai_text.parse),
    "/v1/completions": Route(Operation.COMPLETIONS, Dialect.OPENAI, openai_text.parse),
    "/v1/embeddings": Route(Operation.EMBEDDINGS, Dialect.OPENAI, openai_text.parse),
    "/v1/chat/completions/input_tokens": Route(
        Operation.COUNT_TOKENS, Dialect.OPENAI, openai_responses.parse_count
    ),
    "/v1/responses": Route(Operation.RESPONSES, Dialect.OPENAI, openai_responses.parse),
    "/v1/responses/compact": Route(Operation.RESPONSES, Dialect.OPENAI, openai_responses.parse_compact),
    "/v1/responses/input_tokens": Route(Operation.COUNT_TOKENS, Dialect.OPENAI, openai_responses.parse_count),
    "/v1/audio/transcriptions": Route(Operation.TRANSCRIPTIONS, Dialect.OPENAI, openai_audio.parse),
    "/v1/audio/translations": Route(Operation.TRANSLATIONS, Dialect.OPENAI, openai_audio.parse),
    "/v1/audio/speech": Route(Operation.SPEECH, Dialect.OPENAI, openai_audio.parse_speech),
    "/v1/images/generations": Route(Operation.IMAGES, Dialect.OPENAI, openai_images.parse),
    "/v1/images/edits": Route(Operation.IMAGE_EDITS, Dialect.OPENAI, openai_images.parse_edit),
    "/v1/messages": Route(Operation.MESSAGES, Dialect.ANTHROPIC, anthropic.parse),
    "/v1/messages/count_tokens": Route(Operation.COUNT_TOKENS, Dialect.ANTHROPIC, anthropic.parse),
    "/api/chat": Route(Operation.CHAT, Dialect.OLLAMA, ollama.parse),
    "/api/generate": Route(Operation.GENERATE, Dialect.OLLAMA, ollama.parse),
    "/api/embed": Route(Operation.EMBEDDINGS, Dialect.OLLAMA, ollama.parse),
    "/api/embeddings": Route(Operation.EMBEDDINGS, Dialect.OLLAMA, ollama.parse),
    "/api/show": Route(Operation.SHOW, Dialect.OLLAMA, ollama.parse),
    "/": Route(Operation.GENERATE, Dialect.TGI, tgi.parse),
    "/generate": Route(Operation.GENERATE, Dialect.TGI, tgi.parse),
    "/generate_stream": Route(Operation.GENERATE, Dialect.TGI, tgi.parse),
    "/completion": Route(Operation.GENERATE, Dialect.LLAMA_CPP, llama_cpp.parse),
    "/completions": Route(Operation.GENERATE, Dialect.LLAMA_CPP, llama_cpp.parse),
    "/infill": Route(Operation.INFILL, Dialect.LLAMA_CPP, llama_cpp.parse),
    "/tokenize": Route(Operation.TOKENIZE, Dialect.LLAMA_CPP, llama_cpp.parse),
    "/detokenize": Route(Operation.DETOKENIZE, Dialect.LLAMA_CPP, llama_cpp.parse),
    "/v1/rerank": Route(Operation.RERANK, Dialect.COHERE, ranking.parse),
    "/v2/rerank": Route(Operation.RERANK, Dialect.COHERE, ranking.parse),
    "/rerank": Route(Operation.RERANK, Dialect.COHERE, ranking.parse),
    "/v1/ranking": Route(Operation.RERANK, Dialect.COHERE, ranking.parse),
    "/v1/score": Route(Operation.SCORE, Dialect.OPENAI, ranking.parse),
    "/score": Route(Operation.SCORE, Dialect.OPENAI, ranking.parse),
    "/classify": Route(Operation.CLASSIFY, Dialect.OPENAI, ranking.parse),
}

_TRITON = Route(Operation.GENERATE, Dialect.TRITON, triton.parse)
"""A path of this dialect names its model, so it stands in no table."""


def find(path: str) -> Route | None:
    """The route of a path; None when it is not proxied."""
    found = PATHS.get(path)
    if found is None and path.startswith(triton.PATH_PREFIX) and triton.PATH.fullmatch(path):
        return _TRITON
    return found
