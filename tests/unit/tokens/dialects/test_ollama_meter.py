"""Ollama's counts stand on its last line, and one that is missing is only sometimes a 0."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateway.relay import LineRelay
from billing.tokens.call import Asked
from billing.tokens.dialects.ollama_meter import EmbeddedReplyMeter, OllamaReplyMeter, OllamaStreamMeter
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import OLLAMA
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage

CORPUS = Path(__file__).parents[4] / "../shared/corpus"
PATHS_OF = {
    "ollama.chat": "/api/chat", "ollama.generate": "/api/generate", "ollama.embed": "/api/embed",
    "ollama.embeddings": "/api/embeddings",
}  # fmt: skip
COUNTED = {"prompt_eval_count": 17, "eval_count": 5}


def line(**members: Any) -> bytes:
    return msgspec.json.encode(
        {"model": "weights", "created_at": "2026-01-01T00:00:00Z", "done": False} | members
    )


def said(text: str) -> bytes:
    return line(message={"role": "assistant", "content": text})


def last(**members: Any) -> bytes:
    return line(message={"role": "assistant", "content": ""}, done=True, **{"done_reason": "stop"} | members)


def metered(*lines: bytes) -> OllamaStreamMeter:
    meter = OllamaStreamMeter(TokenUsage())
    for number, data in enumerate(lines):
        meter.see(data, 1_000 * number)
    return meter


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    return (usage.input.value, usage.cached_input.value, usage.output.value, usage.reasoning.value)


def test_all_counts_come_with_the_last_line() -> None:
    meter = metered(said("a"), said("b"))
    assert meter.usage() == TokenUsage()
    assert (meter.done, meter.finished, meter.response_model) == (False, False, "weights")
    meter.see(last(**COUNTED), 9_000)
    assert meter.usage().input == Count(17, Provenance.REPORTED, "prompt_eval_count")
    assert meter.usage().output == Count(5, Provenance.REPORTED, "eval_count")
    assert meter.usage().cached_input == meter.usage().reasoning == UNKNOWN
    assert (meter.done, meter.finished, meter.failed) == (True, True, False)
    assert meter.itl_us() == 250


def test_a_newer_release_says_what_came_from_its_cache_and_never_more_than_all() -> None:
    assert values(metered(last(**COUNTED, prompt_eval_cached_count=9)).usage()) == (17, 9, 5, None)
    assert values(metered(last(**COUNTED, prompt_eval_cached_count=99)).usage()) == (17, 17, 5, None)


def test_a_missing_count_of_the_prompt_is_unknown() -> None:
    assert values(metered(said("a"), last(eval_count=5)).usage()) == (None, None, 5, None)


def test_a_missing_count_of_the_output_is_a_zero_only_where_no_text_was_seen() -> None:
    assert values(metered(last(prompt_eval_count=3)).usage())[2] == 0
    assert values(metered(said("a"), last(prompt_eval_count=3)).usage())[2] is None
    assert values(metered(last(prompt_eval_count=3, eval_count=None)).usage())[2] is None


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_to_load_a_model_uses_nothing(reason: str) -> None:
    body = last(done_reason=reason)
    assert values(metered(body).usage()) == (0, None, 0, None)
    assert values(OllamaReplyMeter(body, TokenUsage()).usage()) == (0, None, 0, None)


BROKEN: list[Any] = [True, "5", -1, 5.5, None, [], {}, COUNT_MAX + 1, 10**30]


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_count_is_unknown_and_costs_not_the_other(value: Any) -> None:
    body = last(prompt_eval_count=value, eval_count=5)
    assert values(metered(body).usage()) == (None, None, 5, None)
    assert values(metered(last(prompt_eval_count=17, eval_count=value)).usage()) == (17, None, None, None)


ODD = {
    "no UTF-8": b'{"done":true,"response":"\xc3","prompt_eval_count":17,"eval_count":5}',
    "half a surrogate": b'{"done":true,"model":"\\ud800","prompt_eval_count":17,"eval_count":5}',
    "wrong types": b'{"done":true,"message":[],"model":7,"done_reason":{},"prompt_eval_count":17,"eval_count":5}',
    "deep nesting": b'{"x":%b1%b,"done":true,"prompt_eval_count":17,"eval_count":5}'
    % (b"[" * 5_000, b"]" * 5_000),
    "a large number": b'{"done":true,"x":1e999,"y":%b,"prompt_eval_count":17,"eval_count":5}'
    % (b"9" * 5_000),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_odd_beside_the_counts_costs_none(data: bytes) -> None:
    assert values(metered(data).usage()) == (17, None, 5, None)
    assert values(OllamaReplyMeter(data, TokenUsage()).usage()) == (17, None, 5, None)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"hello", b'{"done":', b"\xff", b"{}"])
def test_what_is_no_line_changes_nothing(data: bytes) -> None:
    assert values(metered(data, said("a"), data, last(**COUNTED)).usage()) == (17, None, 5, None)
    assert OllamaReplyMeter(data, TokenUsage()).usage() == TokenUsage()


def test_an_error_in_a_stream_fails_it() -> None:
    meter = metered(said("a"), b'{"error":"an error was encountered while running the model"}')
    assert (meter.failed, meter.done) == (True, False)
    assert not metered(said("a"), line(error="")).failed


@pytest.mark.parametrize(
    ("thought", "answered"),
    [
        (line(message={"role": "assistant", "content": "", "thinking": "hm"}), said("a")),
        (line(response="", thinking="hm"), line(response="a")),
        (
            line(message={"thinking": "hm"}),
            line(message={"content": "", "tool_calls": [{"function": {"name": "f"}}]}),
        ),
    ],
    ids=["chat", "generate", "tool call"],
)
def test_thinking_is_text_but_no_answer(thought: bytes, answered: bytes) -> None:
    meter = metered(thought, answered)
    assert (meter.first_token_us, meter.first_answer_us) == (0, 1_000)


def test_an_empty_list_of_tool_calls_is_no_text() -> None:
    assert metered(line(message={"content": "", "tool_calls": []})).first_token_us is None


def test_reasoning_can_be_estimated_by_its_share_of_the_text() -> None:
    thinking = line(message={"role": "assistant", "content": "", "thinking": "x" * 30})
    meter = metered(thinking, said("y" * 10), last(prompt_eval_count=3, eval_count=20))
    assert meter.usage().reasoning == UNKNOWN
    assert meter.reasoning_estimate() == Count(
        15, Provenance.ESTIMATED, "share of eval_count by length of text"
    )
    assert metered(said("y"), last(**COUNTED)).reasoning_estimate() == UNKNOWN
    assert metered(thinking).reasoning_estimate() == UNKNOWN


def test_a_whole_reply_gives_its_reasoning_text_to_be_counted() -> None:
    body = msgspec.json.encode(
        {"model": "w", "message": {"content": "yes", "thinking": "hm."}, "done": True} | COUNTED
    )
    meter = OllamaReplyMeter(body, TokenUsage())
    assert (meter.reasoning_text(), meter.response_model, meter.response_id) == ("hm.", "w", None)
    assert meter.reasoning_estimate().value == 2
    assert OllamaReplyMeter(last(**COUNTED), TokenUsage()).reasoning_text() is None


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"model":"w","embeddings":[[0.5]],"prompt_eval_count":8}', 8), (b'{"embeddings":[[0.5]]}', None), (b'{"embedding":[0.5]}', None),
        (b'{"embeddings":[]}', 0), (b'{"embedding":[ ]}', 0), (b'{"embeddings":[[1]],"prompt_eval_count":true}', None), (b"hello", None),
    ],
)  # fmt: skip
def test_embeddings_generate_nothing_and_report_their_input_or_not(body: bytes, tokens: int | None) -> None:
    made = PATHS["/api/embed"].parse(Asked(PATHS["/api/embed"].operation, "/api/embed", b'{"model":"tiny"}'))
    meter = made.reply_meter(OLLAMA, body)
    assert isinstance(meter, EmbeddedReplyMeter)
    assert values(meter.usage()) == (tokens, None, 0, None)
    assert meter.response_id is None


STREAM = b"".join(
    data + b"\n" for data in (said("Gr\u00fc\u00dfe \U0001f680"), b"", line(message={"thinking": "hm"}), said("a"), last(**COUNTED))
)  # fmt: skip


@given(offsets=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_reads_cut_anywhere_give_the_same_and_the_last_line_is_held_back(offsets: list[int]) -> None:
    relay = LineRelay(OllamaStreamMeter(TokenUsage()))
    cuts = [0, *sorted(offsets), len(STREAM)]
    out = b"".join([relay.feed(STREAM[a:b], 0) for a, b in pairwise(cuts)])
    assert out + relay.finish(0) + relay.terminal == STREAM
    assert relay.terminal == last(**COUNTED) + b"\n"
    assert values(relay.meter.usage()) == (17, None, 5, None)


@given(
    lines=st.lists(st.binary(max_size=30) | st.sampled_from(STREAM.splitlines()), max_size=12),
    cut=st.integers(0, 400),
)
def test_no_damage_breaks_the_relay_or_changes_a_byte(lines: list[bytes], cut: int) -> None:
    body = b"\n".join(lines)
    relay = LineRelay(OllamaStreamMeter(TokenUsage()))
    out = relay.feed(body[:cut], 0) + relay.feed(body[cut:], 0) + relay.finish(0)
    assert out + relay.terminal == body
    usage = relay.meter.usage()
    assert usage.output.value in {None, 0, 5}
    repr(relay.meter)


def corpus() -> list[dict[str, Any]]:
    cases = [msgspec.json.decode(path.read_bytes()) for path in sorted(CORPUS.glob("*.json"))]
    return [case for case in cases if case["dialect"] in PATHS_OF and case["status"] == 200]


def test_recorded_replies_yield_their_counts(subtests: pytest.Subtests) -> None:
    cases = corpus()
    assert len(cases) >= (16 if CORPUS.is_dir() else 0)
    for case in cases:
        with subtests.test(case["name"]):
            path, raw = PATHS_OF[case["dialect"]], case["raw"].encode()
            body = msgspec.json.encode({"model": "tiny", "stream": case["stream"]})
            made = PATHS[path].parse(Asked(PATHS[path].operation, path, body))
            if case["stream"]:
                relay = LineRelay(made.stream_meter(OLLAMA))
                assert relay.feed(raw, 0) + relay.finish(0) + relay.terminal == raw
                assert relay.meter.failed is case["expect"].get("error", False)
                usage = relay.meter.usage()
            else:
                usage = made.reply_meter(OLLAMA, raw).usage()
            assert values(usage) == tuple(
                case["expect"][name] for name in ("input", "cached_input", "output", "reasoning")
            )
