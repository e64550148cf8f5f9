"""Recorded and published replies of other people's engines yield the counts that were found for them by hand.

The corpus lies beside the project, not in it: where it is absent, these tests have nothing to go through, and one test says so.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.gateway.relay import StreamRelay
from billing.tokens.dialects.openai import Call, Operation, check_countable, parse
from billing.tokens.engines import LLAMA_CPP, VLLM, Engine
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.usage import TokenUsage
from tests.gateway.fakes import World, json_reply

CORPUS = Path(__file__).parents[2] / "../shared/corpus"
OPERATIONS = {
    "openai.chat": Operation.CHAT,
    "openai.completions": Operation.COMPLETIONS,
    "openai.embeddings": Operation.EMBEDDINGS,
}
SUBJECTS = {Operation.CHAT: "messages", Operation.COMPLETIONS: "prompt", Operation.EMBEDDINGS: "input"}


class Case(NamedTuple):
    """One case of the corpus, as far as it is read here."""

    name: str
    engine: Engine
    call: Call
    status: int
    is_stream: bool
    raw: bytes
    expect: dict[str, Any]


def read(path: Path) -> Case | None:
    """The case of a file; None for an engine or a dialect that is not served."""
    case = msgspec.json.decode(path.read_bytes())
    operation = OPERATIONS.get(case["dialect"])
    backend = case["backend"]
    engine = LLAMA_CPP if backend.startswith("llama.cpp") else VLLM if backend.startswith("vllm") else None
    if operation is None or engine is None:
        return None
    asked = {"model": "tiny", SUBJECTS[operation]: [1]} | (case["request"] or {})
    asked["stream"] = case["stream"]
    if not isinstance(asked.get("tools"), list):
        asked.pop("tools", None)
    call = parse(operation, msgspec.json.encode(asked))
    return Case(
        case["name"], engine, call, case["status"], case["stream"], case["raw"].encode(), case["expect"]
    )


def cases() -> list[Case]:
    """Every case that is served; none where the corpus is absent."""
    return [case for path in sorted(CORPUS.glob("*.json")) if (case := read(path))]


CASES = cases()
SEVERAL = [case for case in CASES if case.call.choices > 1 or case.call.prompts > 1]
REFUSED = [case for case in SEVERAL if not case.engine.several_choices_counted]
COUNTED = [case for case in CASES if case not in REFUSED and case.status == 200]


def usage_of(case: Case) -> TokenUsage:
    if not case.is_stream:
        return ReplyMeter(case.engine, case.raw).usage()
    relay = StreamRelay(StreamMeter(case.engine, case.call))
    relay.feed(case.raw, 0)
    relay.finish(0)
    return relay.meter.usage()


def test_the_corpus_is_whole_or_absent() -> None:
    assert len(CASES) >= (26 if CORPUS.is_dir() else 0)
    assert bool(COUNTED) == bool(REFUSED) == CORPUS.is_dir()


def test_counts(subtests: pytest.Subtests) -> None:
    for case in COUNTED:
        with subtests.test(case.name):
            usage = usage_of(case)
            assert usage.input.value == case.expect["input"]
            assert usage.output.value == case.expect["output"]
            assert usage.cached_input.value == case.expect["cached_input"]
            if case.expect["reasoning"] is not None:
                assert usage.reasoning.value == case.expect["reasoning"]


def test_what_the_engine_would_undercount_is_refused(subtests: pytest.Subtests) -> None:
    for case in REFUSED:
        with subtests.test(case.name), pytest.raises(InvalidInput, match="does not count"):
            check_countable(case.call, case.engine)


async def test_a_refusal_of_the_engine_counts_nothing_and_passes(subtests: pytest.Subtests) -> None:
    for case in [case for case in CASES if case.status != 200]:
        with subtests.test(case.name):
            world = World(json_reply(case.raw, status=case.status), engine=case.engine.name)
            await world.serve(case.call.body)
            assert (world.client.status, world.client.body) == (case.status, case.raw)
            assert world.record.usage.input.value == case.expect["input"] == 0
            assert world.record.usage.output.value == case.expect["output"] == 0


def relayed(case: Case, *pieces: bytes) -> tuple[bytes, bytes, TokenUsage]:
    relay = StreamRelay(StreamMeter(case.engine, case.call))
    out = b"".join([relay.feed(piece, 0) for piece in pieces])
    return out + relay.finish(0), relay.terminal, relay.meter.usage()


def test_two_reads_cut_anywhere_give_the_same(subtests: pytest.Subtests) -> None:
    for case in [case for case in COUNTED if case.is_stream]:
        with subtests.test(case.name):
            whole = relayed(case, case.raw)
            for offset in range(len(case.raw)):
                assert relayed(case, case.raw[:offset], case.raw[offset:]) == whole, offset
