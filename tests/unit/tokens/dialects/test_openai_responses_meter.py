"""Responses are counted by their last event, by llama.cpp's running counts before it, and lose no byte."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.tokens.call import Call
from billing.tokens.dialects.openai_responses_meter import ResponsesReplyMeter, ResponsesStreamMeter
from billing.tokens.engines import ENGINES, LLAMA_CPP, OLLAMA, OPENAI, VLLM, Engine
from billing.tokens.meter import Edit
from billing.tokens.usage import Part, Provenance, TokenUsage
from tests.gateway.recordings import recording
from tests.openai_kit import call_of, cases, events, fed, mismatches

PATH = "/v1/responses"
USAGE = {"input_tokens": 9, "output_tokens": 8, "total_tokens": 17, "input_tokens_details": {"cached_tokens": 4},
         "output_tokens_details": {"reasoning_tokens": 5}}  # fmt: skip


def call(**members: Any) -> Call:
    return call_of(PATH, model="tiny", input="hi", **({"stream": True} | members))


def counts(usage: TokenUsage) -> tuple[int | None, int | None, int | None, int | None]:
    return (usage.input.value, usage.cached_input.value, usage.output.value, usage.reasoning.value)


def completed(kind: str = "response.completed", **members: Any) -> dict[str, Any]:
    return {"type": kind, "response": {"id": "r1", "model": "m", "output": [], "usage": USAGE} | members}


def streamed(*payloads: dict[str, Any], engine: Engine = OPENAI) -> ResponsesStreamMeter:
    relay, out = fed(call(), engine, [events(*payloads)])
    assert isinstance(relay.meter, ResponsesStreamMeter)
    assert len(out + relay.terminal) <= len(events(*payloads))
    return relay.meter


def test_the_corpus() -> None:
    for case in cases("openai.responses") + cases("openai.responses.compact"):
        if case.stream:
            relay, out = fed(call(), case.engine, [case.raw])
            usage = relay.meter.usage()
            assert (out + relay.terminal, relay.meter.done, relay.meter.failed) == (case.raw, True, False)
        else:
            usage = ResponsesReplyMeter(case.engine, case.raw).usage()
        assert mismatches(usage, case.expect) == {}, case.name


def test_the_recorded_stream_of_llama_cpp() -> None:
    body = recording("llamacpp", "responses_stream").body + b"\n\n"
    relay, out = fed(call(), LLAMA_CPP, [body])
    assert out + relay.terminal == body
    assert relay.terminal.startswith(b"event: response.completed")
    assert counts(relay.meter.usage()) == (18, 17, 53, None)
    assert relay.meter.usage().output.provenance is Provenance.REPORTED
    assert (relay.meter.response_model, relay.meter.first_answer_us) == ("tiny", 0)


def test_the_recorded_reply_of_vllm() -> None:
    got = ResponsesReplyMeter(VLLM, recording("vllm", "responses_nonstream").body)
    assert counts(got.usage()) == (18, 0, 53, 20)
    assert (got.response_id, got.response_model, got.reasoning_text()) == (
        "resp_a1fe673f8248ee31",
        "tiny",
        None,
    )


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_the_last_event_ends_the_stream_and_waits_for_the_record(kind: str) -> None:
    body = events({"type": "response.created", "response": {"id": "r1", "usage": None}}, completed(kind))
    relay, out = fed(call(), OPENAI, [body + b"data: [DONE]\n\n"])
    assert out == body[: body.index(b"event: " + kind.encode())]
    assert relay.terminal == body[len(out) :] + b"data: [DONE]\n\n"
    assert (relay.meter.done, relay.meter.failed) == (True, kind == "response.failed")
    assert counts(relay.meter.usage()) == (9, 4, 8, 5)
    assert relay.meter.response_id == "r1"


def test_a_failed_response_may_say_that_it_used_nothing() -> None:
    zeros = {"input_tokens": 0, "output_tokens": 0}
    assert counts(streamed(completed("response.failed", usage=zeros)).usage())[::2] == (0, 0)
    assert counts(streamed(completed(usage=zeros)).usage())[::2] == (None, None)


def test_done_alone_ends_a_stream_too() -> None:
    relay, _ = fed(call(), VLLM, [b'data: {"error":{"message":"no","code":500}}\n\ndata: [DONE]\n\n'])
    assert (relay.meter.done, relay.meter.failed, relay.terminal) == (True, True, b"data: [DONE]\n\n")


def test_an_error_event_fails_the_stream_and_costs_no_count() -> None:
    got = streamed({"type": "error", "code": "server_error", "message": "no"}, completed("response.failed"))
    assert (got.failed, got.done, counts(got.usage())) == (True, True, (9, 4, 8, 5))
    assert not streamed({"type": "response.output_text.delta", "delta": "a", "error": None}).failed


@pytest.mark.parametrize(
    ("kind", "delta", "spoken", "answered"),
    [
        ("response.output_text.delta", "a", True, True),
        ("response.refusal.delta", "a", True, True),
        ("response.function_call_arguments.delta", "{", True, True),
        ("response.mcp_call_arguments.delta", "{", True, True),
        ("response.reasoning_text.delta", "a", True, False),
        ("response.reasoning_summary_text.delta", "a", True, False),
        ("response.output_text.delta", "", False, False),
        ("response.output_text.delta", None, False, False),
        ("response.shell_call_output_content.delta", "a", False, False),
        ("response.output_text.done", "a", False, False),
    ],
)
def test_what_counts_as_spoken(kind: str, delta: str | None, *, spoken: bool, answered: bool) -> None:
    got = streamed({"type": kind, "delta": delta})
    assert (got.first_token_us is not None, got.first_answer_us is not None) == (spoken, answered)


def test_a_tool_call_speaks_when_it_is_named() -> None:
    item = {"type": "function_call", "name": "f"}
    assert streamed({"type": "response.output_item.added", "item": item}).first_answer_us == 0
    assert (
        streamed({"type": "response.output_item.added", "item": {"type": "message"}}).first_answer_us is None
    )


def test_after_a_message_its_usage_is_on_its_way() -> None:
    done = {"type": "response.output_item.done", "item": {"type": "message"}}
    assert streamed(done).finished
    assert not streamed(done, {"type": "response.output_text.delta", "delta": "more"}).finished
    assert not streamed({"type": "response.output_item.done", "item": {"type": "reasoning"}}).finished


def test_searches_count_while_they_are_made_and_at_the_end() -> None:
    search = {"type": "response.output_item.done", "item": {"type": "web_search_call"}}
    running = streamed(search, search).usage().parts[Part.SEARCH]
    assert (running.value, running.provenance) == (2, Provenance.RUNNING)
    final = streamed(search, completed(output=[{"type": "web_search_call"}])).usage().parts[Part.SEARCH]
    assert (final.value, final.provenance) == (1, Provenance.REPORTED)
    billed = completed(output=[{"type": "web_search_call"}], tool_usage={"web_search": {"num_requests": 0}})
    assert streamed(search, billed).usage().parts[Part.SEARCH].value == 0


def timed(kind: str, predicted: int, **members: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "delta": "x",
        "timings": {"cache_n": 3, "prompt_n": 4, "predicted_n": predicted},
    } | members


INJECTED = (
    {"type": "response.created", "response": {"id": "r1"}},
    timed("response.in_progress", 1, delta=None),
    timed("response.reasoning_text.delta", 2),
    timed("response.reasoning_text.delta", 3),
    timed("response.output_text.delta", 5),
)


def test_running_counts_of_llama_cpp_stand_where_a_stream_breaks_off() -> None:
    relay, out = fed(call(), LLAMA_CPP, [events(*INJECTED)])
    usage = relay.meter.usage()
    assert counts(usage) == (7, 3, 5, 2)
    assert usage.output.provenance is Provenance.RUNNING
    plain = [{name: value for name, value in event.items() if name != "timings"} for event in INJECTED]
    assert out == events(*plain)


def test_running_counts_stay_for_a_client_that_asked_and_on_the_last_event() -> None:
    body = events(*INJECTED, completed() | {"timings": {"cache_n": 3, "prompt_n": 4, "predicted_n": 6}})
    relay, out = fed(call(timings_per_token=True), LLAMA_CPP, [body])
    assert out + relay.terminal == body
    relay, _ = fed(call(), LLAMA_CPP, [body])
    assert b"timings" in relay.terminal
    assert counts(relay.meter.usage()) == (9, 4, 8, 5)


def test_running_counts_never_go_down() -> None:
    got = streamed(*INJECTED, timed("response.output_text.delta", 2), engine=LLAMA_CPP)
    assert got.usage().output.value == 5


def test_a_zero_of_an_engine_that_does_not_count_reasoning_is_replaced_or_unknown() -> None:
    nothing = completed(
        usage=USAGE
        | {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    )
    thought = {"type": "response.reasoning_text.delta", "delta": "hm"}
    assert counts(streamed(thought, nothing, engine=OLLAMA).usage()) == (9, None, 8, None)
    assert counts(streamed(thought, nothing, engine=VLLM).usage()) == (9, 0, 8, None)
    assert counts(streamed(nothing, engine=VLLM).usage()) == (9, 0, 8, 0)
    assert counts(streamed(*INJECTED, nothing, engine=LLAMA_CPP).usage()) == (9, 0, 8, 2)


def test_strip_takes_out_only_the_running_counts() -> None:
    meter = ResponsesStreamMeter(LLAMA_CPP)
    assert meter.strip(b'{"a": 1.50,"timings":{},"b":"\\u00e9"}') == b'{"a":1.50,"b":"\\u00e9"}'
    assert meter.strip(b"[1") == b"[1"
    assert meter.see(b"hello", 0) is Edit.KEEP


def test_a_part_larger_than_its_whole_is_cut_to_it() -> None:
    broken = USAGE | {"output_tokens_details": {"reasoning_tokens": 99}}
    assert streamed(completed(usage=broken)).usage().reasoning.value == 8


def reply(engine: Engine = VLLM, **members: Any) -> ResponsesReplyMeter:
    return ResponsesReplyMeter(engine, msgspec.json.encode(members))


def test_reasoning_text_of_a_whole_reply_is_to_be_counted_where_the_engine_did_not() -> None:
    output = [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}]
    doubtful = USAGE | {"output_tokens_details": {"reasoning_tokens": 0}}
    assert reply(output=output, usage=doubtful).reasoning_text() == "hm"
    assert (
        reply(LLAMA_CPP, output=output, usage={"input_tokens": 1, "output_tokens": 2}).reasoning_text()
        == "hm"
    )
    assert reply(output=output, usage=USAGE).reasoning_text() is None
    assert reply(output=[], usage=doubtful).reasoning_text() is None


def test_a_reply_that_is_none_says_nothing() -> None:
    got = ResponsesReplyMeter(VLLM, b"<html>")
    assert (got.usage(), got.response_id, got.response_model, got.reasoning_text()) == (
        TokenUsage(),
        None,
        None,
        None,
    )


RECORDED = recording("llamacpp", "responses_stream").body + b"\n\n"
SHORT = b"".join(part + b"\n\n" for part in [*RECORDED.split(b"\n\n")[:7], *RECORDED.split(b"\n\n")[-5:-1]])


@given(
    st.lists(st.integers(0, len(SHORT)), max_size=5),
    st.sampled_from([b"", b": ping\n\n", b"data: null\n\n", b"data: \xff\n\n"]),
)
def test_reads_cut_anywhere_and_noise_change_nothing(offsets: list[int], noise: bytes) -> None:
    body = b"".join(noise + part + b"\n\n" for part in SHORT.split(b"\n\n")[:-1])
    edges = [0, *sorted(offsets), len(body)]
    relay, out = fed(call(), LLAMA_CPP, [body[a:b] for a, b in pairwise(edges)])
    assert out + relay.terminal == body
    assert counts(relay.meter.usage()) == (18, 17, 53, None)


DAMAGE = [
    b"\n", b"\r\n", b"\n\n", b'"', b"{", b"}", b"[", b"null", b"true", b"-1", b"1e999", b"9" * 20, b"\xff", b"\\ud800", b"data: ",
    b'"usage":5,', b'"response":[],', b'"item":7,', b'"timings":{"predicted_n":-5},', b'"type":"response.completed",', b'"error":{},',
]  # fmt: skip


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(ENGINES)),
    st.lists(st.tuples(st.integers(0, len(SHORT)), st.integers(0, 9), st.sampled_from(DAMAGE)), max_size=6),
    st.integers(0, 11),
)
def test_no_damage_breaks_the_relay_or_its_counts(
    engine: str, damage: list[tuple[int, int, bytes]], dropped: int
) -> None:
    body = bytearray(b"".join(part + b"\n\n" for part in SHORT.split(b"\n\n")[: 11 - dropped]))
    for place, length, put in damage:
        body[place : place + length] = put
    relay, out = fed(call(timings_per_token=True), ENGINES[engine], [bytes(body)])
    usage = relay.meter.usage()
    assert out + relay.terminal == bytes(body)
    assert repr(relay)
    for part, whole in ((usage.cached_input, usage.input), (usage.reasoning, usage.output)):
        assert part.value is None or whole.value is None or 0 <= part.value <= whole.value
