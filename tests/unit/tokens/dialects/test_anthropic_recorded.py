"""Recorded messages of real servers and of other people's fixtures yield the counts that were found for them by hand.

The corpus lies beside the project, not in it: where it is absent, there is nothing to go through.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from billing.gateway.relay import StreamRelay
from billing.tokens.call import Asked
from billing.tokens.dialects.anthropic_meter import (
    CountTokensReplyMeter,
    MessageReplyMeter,
    MessageStreamMeter,
)
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import ENGINES, GENERIC, LLAMA_CPP
from billing.tokens.usage import TokenUsage
from tests.gateway.recordings import recording

CORPUS = Path(__file__).parents[4] / "../shared/corpus"
DIALECTS = {"anthropic.messages": "/v1/messages", "anthropic.count_tokens": "/v1/messages/count_tokens"}


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    """Input, cached input, written cache, output and reasoning."""
    counts = (usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning)
    return tuple(count.value for count in counts)


@pytest.mark.parametrize("engine", ["llamacpp", "vllm"])
def test_recorded_replies(engine: str) -> None:
    meter = MessageReplyMeter(
        ENGINES[engine.replace("llamacpp", "llama.cpp")], recording(engine, "messages_nonstream").body
    )
    assert values(meter.usage())[::3] == (18, 53)
    assert (meter.reasoning_text() or "").split() == [f"r{number}" for number in range(1, 21)]
    assert CountTokensReplyMeter(recording(engine, "messages_count_tokens").body).counted == 18


def test_a_recorded_stream() -> None:
    relay = StreamRelay(MessageStreamMeter(LLAMA_CPP))
    body = recording("llamacpp", "messages_stream").body
    out = relay.feed(body, 0) + relay.finish(0)
    assert out + relay.terminal == body
    assert relay.terminal.startswith(b"event: message_stop\n")
    assert values(relay.meter.usage()) == (18, 17, None, 53, None)


def corpus() -> list[dict[str, Any]]:
    """The recorded cases of this dialect; none where the corpus is absent."""
    found = [msgspec.json.decode(path.read_bytes()) for path in sorted(CORPUS.glob("*.json"))]
    return [case for case in found if case["dialect"] in DIALECTS]


def counted(case: dict[str, Any]) -> dict[str, Any]:
    path, engine = DIALECTS[case["dialect"]], ENGINES.get(case["backend"], GENERIC)
    members = {"messages": []} | (case["request"] or {"model": "m"}) | {"stream": case["stream"]}
    call = PATHS[path].parse(Asked(PATHS[path].operation, path, msgspec.json.encode(members)))
    meter: Any
    if case["stream"]:
        relay = StreamRelay(call.stream_meter(engine))
        assert relay.feed(case["raw"].encode(), 0) + relay.finish(0) + relay.terminal == case["raw"].encode()
        meter = relay.meter
    else:
        meter = call.reply_meter(engine, case["raw"].encode())
    usage = meter.usage()
    parts = {part.value: known.value for part, known in usage.parts.items()}
    names = ("input", "cached_input", "cache_write", "output", "reasoning")
    others = meter.other_models() if hasattr(meter, "other_models") else {}
    return dict(zip(names, values(usage), strict=True)) | parts | {
        "counted": getattr(meter, "counted", None),
        "other_models": {name: {"input": tokens, "output": made} for name, (tokens, made) in others.items()},
    }  # fmt: skip


def test_the_corpus_yields_its_counts(subtests: pytest.Subtests) -> None:
    cases = corpus()
    assert len(cases) >= (19 if CORPUS.is_dir() else 0)
    for case in cases:
        with subtests.test(case["name"]):
            found, expected = counted(case), dict(case["expect"])
            requests = [expected.pop(name, None) for name in ("web_search_requests", "web_fetch_requests")]
            if any(requests):
                expected["search"] = sum(filter(None, requests))
            compared = expected.keys() & (found.keys() | {"search"})
            assert {name: found.get(name) for name in compared} == {name: expected[name] for name in compared}
