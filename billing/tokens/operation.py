"""What a proxied path does, in whose dialect, and how its reply is framed: the words of routes, records and plans."""

from enum import StrEnum


class Operation(StrEnum):
    """What a request asks an engine to do; the word in records, rollups and plans."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GENERATE = "generate"
    """Text after a prompt in an engine's own dialect (Ollama, llama.cpp, TGI, Triton)."""
    INFILL = "infill"
    RERANK = "rerank"
    SCORE = "score"
    CLASSIFY = "classify"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"
    SPEECH = "speech"
    IMAGES = "images"
    IMAGE_EDITS = "image_edits"
    COUNT_TOKENS = "count_tokens"
    """Counts a prompt and generates nothing."""
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"
    SHOW = "show"
    """Describes a model."""
    TRAINING = "training"
    """Work that did not pass the gateway, told by an event."""


class Dialect(StrEnum):
    """Whose shapes a request, its reply and its errors have."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    LLAMA_CPP = "llama.cpp"
    COHERE = "cohere"
    TGI = "tgi"
    TRITON = "triton"
    SGLANG = "sglang"


class Framing(StrEnum):
    """How the events of a streamed reply are told apart."""

    SSE = "sse"
    """Server-sent events."""
    NDJSON = "ndjson"
    """One JSON text a line."""
    BINARY = "binary"
    """No events: audio, say. It passes as it is, and what it used is known from the request or not at all."""
