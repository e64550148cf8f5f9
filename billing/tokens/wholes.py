"""What a whole reply of an engine looks like, as data, for replies that are assembled from a stream.

A shape is the reply itself: its members in the engine's order, each with what it holds when the stream said nothing of
it. A list of one shape is the shape of every element. Measured on llama.cpp's server, vLLM 0.32 and transformers serve
(``tests/captures``); what other engines add is taken from their streams as it comes.
"""

from enum import Enum, auto
from typing import Any

import msgspec


class Unsaid(Enum):
    """What becomes of a member where its value is no constant."""

    ABSENT = auto()
    """It is left out when the stream does not have it."""
    LEFT_OUT = auto()
    """Only streams have it."""
    NULL_IF_EMPTY = auto()
    """It is null without text."""
    TRIMMED = auto()
    """White space around its text is taken away."""


Shape = dict[str, Any]
"""Members by name: an :class:`Unsaid`, a constant, a shape one level deeper, or a list of one shape."""


class Whole(msgspec.Struct, frozen=True):
    """The shapes of one engine's whole replies."""

    chat: Shape
    completions: Shape


_ABSENT, _LEFT_OUT, _NULL_IF_EMPTY, _TRIMMED = Unsaid
_HEAD: Shape = {"id": _ABSENT, "object": "chat.completion", "created": _ABSENT, "model": _ABSENT}
_TEXT_HEAD: Shape = _HEAD | {"object": "text_completion"}
_FUNCTION: Shape = {"name": _ABSENT, "arguments": ""}
_CALL: Shape = {"id": _ABSENT, "type": "function", "function": _FUNCTION}

PLAIN = Whole(
    chat=_HEAD
    | {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "refusal": _ABSENT, "tool_calls": [_CALL]},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        "usage": _ABSENT,
    },
    completions=_TEXT_HEAD
    | {
        "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": None}],
        "usage": _ABSENT,
    },
)
"""What OpenAI's description of its API requires (openai-openapi ``openapi.yaml``)."""

_LLAMA_CPP_TAIL: Shape = {
    "created": _ABSENT, "model": _ABSENT, "system_fingerprint": _ABSENT, "object": "chat.completion",
    "usage": _ABSENT, "id": _ABSENT, "timings": _ABSENT, "prompt_progress": _LEFT_OUT,
}  # fmt: skip
LLAMA_CPP = Whole(
    chat={
        "choices": [
            {
                "finish_reason": None,
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "",
                    "reasoning_content": _ABSENT,
                    "tool_calls": [{"type": "function", "function": _FUNCTION, "id": ""}],
                },
                "logprobs": _ABSENT,
            }
        ],
    }
    | _LLAMA_CPP_TAIL,
    completions={"choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": None}]}
    | _LLAMA_CPP_TAIL
    | {"object": "text_completion"},
)

_VLLM_USAGE: Shape = {
    "prompt_tokens": _ABSENT,
    "total_tokens": _ABSENT,
    "completion_tokens": _ABSENT,
    "prompt_tokens_details": {"cached_tokens": None, "created_cache_tokens": None, "multimodal_tokens": None},
    "completion_tokens_details": None,
}
_VLLM_MESSAGE: Shape = {
    "role": "assistant", "content": _NULL_IF_EMPTY, "refusal": None, "annotations": None, "audio": None,
    "function_call": None, "tool_calls": [_CALL], "reasoning": _NULL_IF_EMPTY,
}  # fmt: skip
_VLLM_TAIL: Shape = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
VLLM = Whole(
    chat=_HEAD
    | {
        "choices": [
            {
                "index": 0, "message": _VLLM_MESSAGE, "logprobs": None, "finish_reason": None, "stop_reason": None,
                "token_ids": None, "routed_experts": None,
            }
        ],
        "service_tier": None, "system_fingerprint": None, "usage": _VLLM_USAGE,
        "prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None,
    }
    | _VLLM_TAIL,
    completions=_TEXT_HEAD
    | {
        "choices": [
            {
                "index": 0, "text": "", "logprobs": None, "finish_reason": None, "stop_reason": None,
                "token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None, "routed_experts": None,
            }
        ],
        "service_tier": None, "system_fingerprint": None, "usage": _VLLM_USAGE,
    }
    | _VLLM_TAIL,
)  # fmt: skip

TRANSFORMERS = Whole(
    chat={
        "id": _ABSENT,
        "choices": [
            {
                "finish_reason": None,
                "index": 0,
                "message": {
                    "content": _TRIMMED,
                    "role": "assistant",
                    "tool_calls": [_CALL],
                    "reasoning_content": _TRIMMED,
                },
            }
        ],
        "created": _ABSENT,
        "model": _ABSENT,
        "object": "chat.completion",
        "system_fingerprint": _LEFT_OUT,
        "usage": _ABSENT,
    },
    completions={
        "id": _ABSENT,
        "choices": [{"finish_reason": None, "index": 0, "text": ""}],
        "created": _ABSENT,
        "model": _ABSENT,
        "object": "text_completion",
        "system_fingerprint": _LEFT_OUT,
        "usage": _ABSENT,
    },
)
