"""Events of chat completions and completions, and calls that they answer, as short as tests want them."""

from typing import Any

import msgspec

from billing.tokens.dialects.openai_text import TextCall
from billing.tokens.dialects.openai_text_meter import TextStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.operation import Operation
from billing.tokens.usage import TokenUsage
from tests.call_kit import text_call

NOTHING: dict[str, Any] = {}
USAGE = {"stream_options": {"include_usage": True}}
CONTINUOUS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
TIMINGS = {"timings_per_token": True}


def call(operation: Operation = Operation.CHAT, **members: Any) -> TextCall:
    subject = (
        {"prompt": members.pop("prompt", "x")} if operation is Operation.COMPLETIONS else {"messages": []}
    )
    return text_call(operation, msgspec.json.encode({"model": "tiny", "stream": True, **subject, **members}))


def event(*choices: dict[str, Any], **members: Any) -> bytes:
    return msgspec.json.encode({"id": "c-1", "choices": list(choices), "model": "weights", **members})


def says(text: str, index: int = 0, **members: Any) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": None, **members}


def thinks(text: str) -> dict[str, Any]:
    return {"index": 0, "delta": {"reasoning_content": text}}


def timed(predicted: int, prompt: int = 1, cached: int = 31) -> dict[str, int]:
    return {"cache_n": cached, "prompt_n": prompt, "predicted_n": predicted}


def used(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **details,
    }


def metered(engine: Engine, asked: TextCall, *events: bytes) -> TextStreamMeter:
    meter = asked.stream_meter(engine)
    for number, data in enumerate(events):
        meter.see(data, 1_000 + 100 * number)
    return meter


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    return tuple(part.value for part in (usage.input, usage.cached_input, usage.output, usage.reasoning))
