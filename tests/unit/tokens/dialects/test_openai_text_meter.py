"""A meter counts a stream event by event, and says what of each event the client may see."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.openai_text_meter import TextStreamMeter
from billing.tokens.engines import LLAMA_CPP, VLLM, Engine
from billing.tokens.merging import CHOICES_TRACKED_MAX
from billing.tokens.meter import Edit
from billing.tokens.operation import Operation
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage
from tests.text_events_kit import (
    CONTINUOUS,
    NOTHING,
    TIMINGS,
    USAGE,
    call,
    event,
    metered,
    says,
    thinks,
    timed,
    used,
    values,
)


def test_nothing_seen_is_nothing_known() -> None:
    meter = call().stream_meter(LLAMA_CPP)
    assert meter.usage() == TokenUsage()
    assert (meter.first_token_us, meter.last_token_us, meter.itl_us(), meter.response_id) == (None,) * 4
    assert (meter.done, meter.finished, meter.failed) == (False, False, False)
    assert repr(meter) == "<TextStreamMeter running output=unknown>"


def test_the_engines_final_usage_goes_before_its_running_counts() -> None:
    meter = metered(
        LLAMA_CPP, call(), event(says("a"), timings=timed(1)), event(says("b"), timings=timed(2)),
        event(usage=used(32, 3, prompt_tokens_details={"cached_tokens": 31}), timings=timed(3)),
    )  # fmt: skip
    assert meter.usage().output == Count(3, Provenance.REPORTED, "usage.completion_tokens")
    assert values(meter.usage()) == (32, 31, 3, 0)


def test_without_a_final_usage_the_last_running_counts_stand() -> None:
    meter = metered(LLAMA_CPP, call(), event(says("a"), timings=timed(1)), event(says("b"), timings=timed(2)))
    assert meter.usage().output == Count(2, Provenance.RUNNING, "timings.predicted_n")
    assert meter.usage().input == Count(32, Provenance.RUNNING, "timings.cache_n + timings.prompt_n")


@pytest.mark.parametrize("placeholder", [None, {}, used(0, 0)], ids=["null", "empty", "zeros"])
@pytest.mark.parametrize("engine", [LLAMA_CPP, VLLM], ids=lambda engine: engine.name)
def test_a_placeholder_usage_erases_nothing(placeholder: dict[str, int] | None, engine: Engine) -> None:
    meter = metered(
        engine,
        call(),
        event(usage=used(32, 53)),
        event(says("b"), usage=placeholder),
        event(usage=placeholder),
    )
    assert values(meter.usage())[0::2] == (32, 53)


def test_counts_never_go_down_and_a_missing_one_erases_nothing() -> None:
    meter = metered(
        VLLM, call(), event(says("a"), usage=used(32, 5)), event(says("b"), usage={"prompt_tokens": 7}),
        event(says("c"), usage=used(32, 4)),
    )  # fmt: skip
    assert values(meter.usage())[0::2] == (32, 5)


def test_a_count_that_the_final_usage_lacks_is_taken_from_the_running_ones() -> None:
    old_build = metered(
        LLAMA_CPP, call(), event(says("a"), timings=timed(1)), event(usage=used(32, 2), timings=timed(2))
    )
    assert values(old_build.usage())[:3] == (32, 31, 2)
    broken = metered(
        VLLM,
        call(),
        event(says("a"), usage=used(32, 5)),
        event(usage={"prompt_tokens": 32, "completion_tokens": True}),
    )
    assert values(broken.usage())[0::2] == (32, 5)


def test_timings_of_an_engine_that_has_none_are_not_believed() -> None:
    assert metered(VLLM, call(), event(says("a"), timings=timed(7))).usage() == TokenUsage()


def test_reasoning_is_counted_by_the_engines_counter() -> None:
    golden = [
        event({"index": 0, "delta": {"role": "assistant", "content": None}}, timings=timed(1)),
        *(event(thinks(f" r{n}"), timings=timed(1 + n)) for n in range(1, 21)),
        *(event(says(f" a{n}"), timings=timed(22 + n)) for n in range(1, 31)),
        event({"index": 0, "delta": {}, "finish_reason": "stop"}),
        event(usage=used(32, 53, prompt_tokens_details={"cached_tokens": 31}), timings=timed(53)),
    ]
    assert values(metered(LLAMA_CPP, call(), *golden).usage()) == (32, 31, 53, 20)


def test_a_reported_reasoning_count_goes_before_the_counter_and_a_doubtful_zero_does_not() -> None:
    def reasoned(tokens: int) -> TextStreamMeter:
        running = [
            event(thinks("r"), usage=used(32, 2, completion_tokens_details={"reasoning_tokens": tokens})),
            event(says("a"), usage=used(32, 4, completion_tokens_details={"reasoning_tokens": tokens})),
        ]
        return metered(VLLM, call(), *running)

    assert reasoned(1).usage().reasoning.value == 1
    assert reasoned(0).usage().reasoning == Count(
        2, Provenance.RUNNING, "output counter over the reasoning deltas"
    )


def test_a_zero_is_believed_when_no_reasoning_text_came() -> None:
    last = event(says("a"), usage=used(32, 4, completion_tokens_details={"reasoning_tokens": 0}))
    assert metered(VLLM, call(), last).usage().reasoning.value == 0


def test_reasoning_of_several_choices_or_completions_is_not_guessed() -> None:
    events = [event(thinks("r"), usage=used(32, 2)), event(usage=used(32, 9))]
    assert metered(VLLM, call(n=2), *events).usage().reasoning == UNKNOWN
    assert metered(VLLM, call(Operation.COMPLETIONS), *events).usage().reasoning == UNKNOWN


def test_parts_larger_than_their_whole_are_cut_to_it() -> None:
    lying = used(
        10, 5, prompt_tokens_details={"cached_tokens": 99}, completion_tokens_details={"reasoning_tokens": 50}
    )
    usage = metered(VLLM, call(), event(usage=lying)).usage()
    assert values(usage) == (10, 10, 5, 5)
    assert "clamped from 99" in usage.cached_input.method


def test_running_counts_of_several_choices_count_the_prompt_once_and_add_the_choices() -> None:
    events = [
        event(says("a", index), usage=used(32, tokens)) for index, tokens in ((0, 1), (1, 1), (0, 2), (1, 5))
    ]
    meter = metered(VLLM, call(n=2), *events)
    assert values(meter.usage())[0::2] == (32, 7)
    meter.see(event(usage=used(32, 9)), 0)
    assert meter.usage().output == Count(9, Provenance.REPORTED, "usage.completion_tokens")


@pytest.mark.parametrize("choices", [1, 2])
def test_running_counts_of_several_prompts_add_up_what_has_begun(choices: int) -> None:
    """vLLM writes the prompt and the output of its own choice on each event (``completion/serving.py``)."""
    asked = call(Operation.COMPLETIONS, prompt=["a", "b", "c"], n=choices)
    events = [
        event({"index": index, "text": "x"}, usage=used(4 + index // choices, 3))
        for index in range(2 * choices)
    ]
    usage = metered(VLLM, asked, *events).usage()
    assert values(usage)[0::2] == (4 + 5, 3 * 2 * choices)
    assert "of 2 of 3 prompts" in usage.input.method
    assert usage.cached_input == UNKNOWN


@pytest.mark.parametrize("absurd", [-5, COUNT_MAX + 1, 10**30])
def test_an_absurd_count_of_one_of_several_choices_never_reaches_a_record(absurd: int) -> None:
    events = [event(says("a", 0), usage=used(32, absurd)), event(says("b", 1), usage=used(32, 4))]
    output = metered(VLLM, call(n=2), *events).usage().output.value
    assert output is None or 0 <= output <= COUNT_MAX


def test_choices_up_to_what_is_tracked_are_all_counted() -> None:
    prompts = [str(number) for number in range(CHOICES_TRACKED_MAX)]
    events = [event({"index": index, "text": "x"}, usage=used(4, 3)) for index in range(len(prompts))]
    usage = metered(VLLM, call(Operation.COMPLETIONS, prompt=prompts), *events).usage()
    assert values(usage)[0::2] == (4 * len(prompts), 3 * len(prompts))


def test_cached_tokens_of_several_prompts_are_the_last_prompts_only_and_not_taken() -> None:
    final = event(usage=used(9, 6, prompt_tokens_details={"cached_tokens": 3}))
    several = call(Operation.COMPLETIONS, prompt=["a", "b"])
    assert metered(VLLM, several, final).usage().cached_input == UNKNOWN


def test_the_time_of_the_first_and_the_last_token() -> None:
    meter = call().stream_meter(LLAMA_CPP)
    meter.see(event({"index": 0, "delta": {"role": "assistant", "content": ""}}, timings=timed(0)), 1_000)
    assert meter.first_token_us is None
    meter.see(event(thinks("r"), timings=timed(1)), 5_000)
    meter.see(event(says("a"), timings=timed(2)), 5_500)
    meter.see(event(says("b"), timings=timed(3)), 8_000)
    meter.see(event({"index": 0, "delta": {}, "finish_reason": "stop"}), 9_000)
    meter.see(event(usage=used(32, 4)), 9_500)
    assert (meter.first_token_us, meter.last_token_us) == (5_000, 8_000)
    assert meter.itl_us() == 1_000  # (8,000 − 5,000) / (4 − 1)


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_below_two_tokens_there_is_no_time_between_them(tokens: int | None) -> None:
    meter = metered(
        VLLM, call(), event(says("a")), *([event(usage=used(32, tokens))] if tokens is not None else [])
    )
    assert meter.itl_us() is None


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "text": "x"},
        {"index": 0, "delta": {"reasoning": "x"}},
        {"index": 0, "delta": {"tool_calls": [{"index": 0}]}},
    ],
    ids=["text of a completion", "vLLM's word for reasoning", "a tool call"],
)
def test_each_kind_of_output_is_a_first_token(choice: dict[str, Any]) -> None:
    assert metered(VLLM, call(), event(choice)).first_token_us == 1_000


@pytest.mark.parametrize(
    "delta",
    [{}, {"content": ""}, {"content": None}, {"tool_calls": []}, {"tool_calls": None}, {"reasoning": ""}],
)
def test_an_empty_delta_is_no_token(delta: dict[str, Any]) -> None:
    assert metered(VLLM, call(), event({"index": 0, "delta": delta})).first_token_us is None


def test_ends() -> None:
    meter = call().stream_meter(VLLM)
    meter.see(event({"index": 0, "delta": {}, "finish_reason": "stop"}), 1)
    assert (meter.finished, meter.done, meter.failed) == (True, False, False)
    assert (meter.see(b"[DONE]", 2), meter.done) == (Edit.KEEP, True)
    assert meter.done
    assert repr(meter) == "<TextStreamMeter done output=unknown>"


def test_a_stream_of_several_choices_is_finished_when_all_of_them_are() -> None:
    meter = call(n=2).stream_meter(VLLM)
    meter.see(event({"index": 1, "delta": {}, "finish_reason": "stop"}), 1)
    assert not meter.finished
    meter.see(event({"index": 0, "delta": {}, "finish_reason": "length"}), 2)
    assert meter.finished


@pytest.mark.parametrize("error", [{"message": "no"}, "no", 500, True, [1]])
def test_an_error_in_the_stream_is_a_failure_and_reaches_the_client(error: object) -> None:
    meter = call().stream_meter(VLLM)
    assert meter.see(msgspec.json.encode({"error": error}), 1) is Edit.KEEP
    assert meter.failed
    assert "failed" in repr(meter)


def test_an_error_that_is_the_whole_event_is_a_failure_too() -> None:
    flat = {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400}
    assert metered(VLLM, call(), event(says("a")), msgspec.json.encode(flat)).failed
    begun = event(object="chat.completion.chunk")
    assert not metered(VLLM, call(), begun, event(object="error", usage=used(1, 1))).failed


@pytest.mark.parametrize("error", [None, False, "", {}, [], 0])
def test_no_error_is_no_failure(error: object) -> None:
    assert not metered(VLLM, call(), event(says("a"), error=error)).failed


def test_the_first_id_and_model_stand() -> None:
    meter = metered(VLLM, call(), event(says("a")), event(says("b"), id="c-2", model="other"))
    assert (meter.response_id, meter.response_model) == ("c-1", "weights")


LAST_USAGE = event(usage=used(32, 53))
EDITS = {
    "vllm, final usage, nothing asked": (VLLM, NOTHING, LAST_USAGE, Edit.DROP),
    "vllm, final usage, asked": (VLLM, USAGE, LAST_USAGE, Edit.KEEP),
    "vllm, running usage, nothing asked": (VLLM, NOTHING, event(says("a"), usage=used(1, 1)), Edit.STRIP),
    "vllm, running usage, only the final one asked": (VLLM, USAGE, event(says("a"), usage=used(1, 1)), Edit.STRIP),
    "vllm, running usage, asked": (VLLM, CONTINUOUS, event(says("a"), usage=used(1, 1)), Edit.KEEP),
    "vllm, no usage": (VLLM, NOTHING, event(says("a")), Edit.KEEP),
    "llama.cpp, timings, nothing asked": (LLAMA_CPP, NOTHING, event(says("a"), timings=timed(1)), Edit.STRIP),
    "llama.cpp, timings, usage asked": (LLAMA_CPP, USAGE, event(says("a"), timings=timed(1)), Edit.STRIP),
    "llama.cpp, timings, asked": (LLAMA_CPP, TIMINGS, event(says("a"), timings=timed(1)), Edit.KEEP),
    "llama.cpp, no timings": (LLAMA_CPP, NOTHING, event(says("a")), Edit.KEEP),
    "llama.cpp, final usage and timings, nothing asked": (
        LLAMA_CPP, NOTHING, event(usage=used(1, 1), timings=timed(1)), Edit.DROP,
    ),
    "llama.cpp, final usage and timings, usage asked": (
        LLAMA_CPP, USAGE, event(usage=used(1, 1), timings=timed(1)), Edit.STRIP,
    ),
    "llama.cpp, usage on a completion's last text, not asked": (
        LLAMA_CPP, NOTHING, event({"index": 0, "text": "", "finish_reason": "stop"}, usage=used(1, 1)), Edit.STRIP,
    ),
    "Azure's filter results beside a usage": (VLLM, NOTHING, event(usage=used(1, 1), prompt_filter_results=[]), Edit.STRIP),
    "an error beside a usage": (VLLM, NOTHING, event(usage=used(1, 1), error={"message": "no"}), Edit.STRIP),
    "no object": (VLLM, NOTHING, b"null", Edit.KEEP),
    "no JSON": (VLLM, NOTHING, b"hello", Edit.KEEP),
    "a member name that is no UTF-8 beside a usage": (
        VLLM, NOTHING, b'{"\xff":1,"choices":[],"usage":{"prompt_tokens":1}}', Edit.STRIP,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("engine", "asked", "data", "edit"), EDITS.values(), ids=EDITS)
def test_what_the_client_may_see(engine: Engine, asked: dict[str, Any], data: bytes, edit: Edit) -> None:
    assert call(**asked).stream_meter(engine).see(data, 0) is edit


STRIPPED = {
    "members keep their bytes and their order": (
        VLLM, NOTHING, b'{"id":"\\u00e9","x":1.50,"usage":{"a":1},"choices":[{"index":0 , "t":1e3}],"z":null}',
        b'{"id":"\\u00e9","x":1.50,"choices":[{"index":0 , "t":1e3}],"z":null}',
    ),
    "timings go, usage was asked": (
        LLAMA_CPP, USAGE, b'{"choices":[],"usage":{"p":1},"timings":{}}', b'{"choices":[],"usage":{"p":1}}',
    ),
    "the final usage stays, the running one goes": (
        VLLM, USAGE, b'{"choices":[{}],"usage":{"p":1}}', b'{"choices":[{}]}',
    ),
    "the final usage stays where timings go": (
        VLLM, USAGE, b'{"choices":[],"usage":{"p":1},"timings":{}}', b'{"choices":[],"usage":{"p":1}}',
    ),
    "timings were asked, usage goes": (
        LLAMA_CPP, TIMINGS, b'{"choices":[{}],"usage":{"p":1},"timings":{"n":1}}', b'{"choices":[{}],"timings":{"n":1}}',
    ),
    "a member of that name further down stays": (
        VLLM, NOTHING, b'{"choices":[{"usage":1}],"usage":{"p":1}}', b'{"choices":[{"usage":1}]}',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("engine", "asked", "data", "seen"), STRIPPED.values(), ids=STRIPPED)
def test_only_what_was_injected_is_taken_out(
    engine: Engine, asked: dict[str, Any], data: bytes, seen: bytes
) -> None:
    assert call(**asked).stream_meter(engine).strip(data) == seen
