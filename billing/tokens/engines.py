"""What each engine does, as data: what to ask it for, what it sends back unasked, what it cannot count.

One table; nowhere else is an engine asked for by name. Sources: protocols.md §1–§3 (vLLM 0.33.0, llama.cpp 0c1e57098)
and our recordings of both.
"""

from typing import Any

import msgspec

from billing.errors import Misconfigured


class Engine(msgspec.Struct, frozen=True):
    """How one kind of model server is asked and read."""

    name: str
    stream_fields: dict[str, Any]
    """Top-level request fields that make a stream carry running counts."""
    stream_options: dict[str, bool]
    """Members of ``stream_options`` that make a stream carry its usage."""
    continuous_usage: bool
    """Whether ``usage`` stands on every chunk of a stream once ``stream_options`` asked for it."""
    timings: bool
    """Whether replies carry llama.cpp's ``timings``, a cumulative counter of tokens."""
    reasoning_reported: bool
    """Whether usage says how many output tokens were reasoning."""
    tokenize_path: str | None
    """Where text can be counted, for counts that no reply holds."""
    several_choices_counted: bool
    """Whether ``n > 1`` and arrays of prompts are counted whole in the reply."""


LLAMA_CPP = Engine(
    name="llama.cpp",
    stream_fields={"timings_per_token": True},
    stream_options={"include_usage": True},
    continuous_usage=False,
    timings=True,
    reasoning_reported=False,
    tokenize_path="/tokenize",
    several_choices_counted=False,
)

VLLM = Engine(
    name="vllm",
    stream_fields={},
    stream_options={"include_usage": True, "continuous_usage_stats": True},
    continuous_usage=True,
    timings=False,
    reasoning_reported=True,
    tokenize_path=None,
    several_choices_counted=True,
)

NIM = msgspec.structs.replace(VLLM, name="nim")
"""NVIDIA NIM 2.x serves with vLLM and reports as it does."""

ENGINES = {engine.name: engine for engine in (LLAMA_CPP, VLLM, NIM)}


def engine(name: str) -> Engine:
    """The engine of a name; raises ``Misconfigured`` listing the names there are."""
    try:
        return ENGINES[name]
    except KeyError:
        raise Misconfigured(f"there is no engine {name!r}; known are {', '.join(sorted(ENGINES))}") from None
