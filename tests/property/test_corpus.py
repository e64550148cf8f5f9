"""Recorded and published replies of other people's engines yield the counts that were found for them by hand.

The corpus lies beside the project, not in it: where it is absent, these tests have nothing to go through, and one test
says so. A dialect that nobody reads fails here.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from billing.gateway.relay import StreamRelay
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import (
    GENERIC,
    LLAMA_CPP,
    NIM_1,
    OLLAMA,
    OPENAI,
    SGLANG,
    TENSORRT_LLM,
    TGI,
    TRITON,
    VLLM,
    Engine,
)
from billing.tokens.usage import Part, TokenUsage
from tests.gateway.fakes import World, json_reply

CORPUS = Path(__file__).parents[2] / "../shared/corpus"
ENGINES = {
    "llama.cpp": LLAMA_CPP,
    "vllm": VLLM,
    "nim": NIM_1,
    "sglang": SGLANG,
    "tgi": TGI,
    "tensorrt-llm": TENSORRT_LLM,
    "ollama": OLLAMA,
    "triton": TRITON,
    "openai": OPENAI,
}
SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "openai.chat": ("/v1/chat/completions", {"messages": []}),
    "openai.completions": ("/v1/completions", {"prompt": [1]}),
    "openai.embeddings": ("/v1/embeddings", {"input": [1]}),
}
"""The path of a dialect, and what a request must hold where none was recorded."""


class Case(NamedTuple):
    """One case of the corpus, as far as it is read here."""

    name: str
    engine: Engine
    call: Call
    status: int
    is_stream: bool
    raw: bytes
    expect: dict[str, Any]


def engine_of(backend: str) -> Engine:
    """The engine of a backend's name; what is none of ours is read as an unknown one."""
    if backend.startswith("openai-compatible"):
        return GENERIC
    return next((engine for name, engine in ENGINES.items() if backend.startswith(name)), GENERIC)


def read(path: Path) -> Case | None:
    """The case of a file; None for a dialect that is not served."""
    case = msgspec.json.decode(path.read_bytes())
    if case["dialect"] not in SENT:
        return None
    where, least = SENT[case["dialect"]]
    recorded = (case["request"] or {}) | {"model": "tiny", "stream": case["stream"]}
    if "usage_objects" in case["expect"] and "prompt" in least:
        least = {"prompt": ["x"] * case["expect"]["usage_objects"]}
    asked = least | recorded
    if not isinstance(asked.get("tools"), list):
        asked.pop("tools", None)
    route = PATHS[where]
    call = route.parse(Asked(route.operation, where, msgspec.json.encode(asked)))
    return Case(
        case["name"], engine_of(case["backend"]), call, case["status"], case["stream"], case["raw"].encode(), case["expect"]
    )  # fmt: skip


def cases() -> list[Case]:
    """Every case that is served; none where the corpus is absent."""
    return [case for path in sorted(CORPUS.glob("*.json")) if (case := read(path))]


CASES = cases()
UNDERCOUNTED = [
    case
    for case in CASES
    if case.call.choices * case.call.prompts > 1
    and not case.is_stream
    and not case.engine.several_counted_whole
]
COUNTED = [case for case in CASES if case not in UNDERCOUNTED and case.status == 200]
PARTS = {
    "audio_input": Part.AUDIO_INPUT,
    "audio_output": Part.AUDIO_OUTPUT,
    "image_input": Part.IMAGE_INPUT,
    "hidden": Part.HIDDEN,
}


def usage_of(case: Case) -> TokenUsage:
    if not case.is_stream:
        return case.call.reply_meter(case.engine, case.raw).usage()
    relay = StreamRelay(case.call.stream_meter(case.engine))
    relay.feed(case.raw, 0)
    relay.finish(0)
    return relay.meter.usage()


def test_the_corpus_is_whole_or_absent() -> None:
    assert len(CASES) >= (70 if CORPUS.is_dir() else 0)
    assert bool(COUNTED) == CORPUS.is_dir()


def test_counts(subtests: pytest.Subtests) -> None:
    for case in COUNTED:
        with subtests.test(case.name):
            usage = usage_of(case)
            assert usage.input.value == case.expect["input"]
            assert usage.output.value == case.expect["output"]
            assert usage.cached_input.value == case.expect["cached_input"]
            if "cache_write" in case.expect:
                assert usage.cache_write.value == case.expect["cache_write"]
            if case.expect["reasoning"] is not None:
                assert usage.reasoning.value == case.expect["reasoning"]
            for name in PARTS.keys() & case.expect.keys():
                counted = usage.parts.get(PARTS[name])
                assert (counted.value if counted else 0) == case.expect[name]


async def test_a_refusal_of_the_engine_counts_nothing_and_passes(subtests: pytest.Subtests) -> None:
    for case in [case for case in CASES if case.status not in {200, 404}]:
        with subtests.test(case.name):
            world = World(json_reply(case.raw, status=case.status), engine=case.engine.name)
            await world.serve(case.call.body)
            assert (world.client.status, world.client.body) == (case.status, case.raw)
            assert world.record.usage.input.value == case.expect["input"] == 0
            assert world.record.usage.output.value == case.expect["output"] == 0


def relayed(case: Case, *pieces: bytes) -> tuple[bytes, bytes, TokenUsage]:
    relay = StreamRelay(case.call.stream_meter(case.engine))
    out = b"".join([relay.feed(piece, 0) for piece in pieces])
    return out + relay.finish(0), relay.terminal, relay.meter.usage()


def test_two_reads_cut_anywhere_give_the_same(subtests: pytest.Subtests) -> None:
    for case in [case for case in COUNTED if case.is_stream]:
        with subtests.test(case.name):
            whole = relayed(case, case.raw)
            for offset in range(len(case.raw)):
                assert relayed(case, case.raw[:offset], case.raw[offset:]) == whole, offset
