"""Streams of odd engines: usage that is said again or in half, counters out of all measure, text that no reader takes."""

import pytest

from billing.tokens.engines import GENERIC, LLAMA_CPP, NIM_1, TENSORRT_LLM, TGI, VLLM, Engine
from billing.tokens.meter import Edit
from billing.tokens.sse import DONE
from billing.tokens.usage import Count, Provenance
from tests.text_events_kit import call, event, metered, says, thinks, used


@pytest.mark.parametrize("engine", [NIM_1, TENSORRT_LLM, LLAMA_CPP, TGI, GENERIC], ids=lambda each: each.name)
def test_reasoning_that_is_reported_is_believed_of_an_engine_that_mostly_reports_none(engine: Engine) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 40}}
    meter = metered(
        engine, call(), event(thinks("hm")), event(says("a")), event(usage=used(30, 60) | details), DONE
    )
    assert meter.usage().reasoning == Count(
        40, Provenance.REPORTED, "usage.completion_tokens_details.reasoning_tokens"
    )


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (
            {"prompt_tokens": 30, "completion_tokens": 7},
            {"prompt_tokens": 30, "completion_tokens": 0},
            (30, 7),
        ),
        ({"prompt_tokens": 30}, {"completion_tokens": 2}, (30, 2)),
        (
            {"prompt_tokens": 3, "completion_tokens": 1},
            {"prompt_tokens": -1, "completion_tokens": -1},
            (3, 1),
        ),
        ({"prompt_tokens": 3, "completion_tokens": 1}, {"prompt_tokens": 3, "completion_tokens": 9}, (3, 9)),
    ],
)
def test_usage_that_is_said_again_takes_nothing_back(
    first: dict[str, int], second: dict[str, int], counts: tuple[int, int]
) -> None:
    usage = metered(GENERIC, call(), event(says("a"), usage=first), event(usage=second), DONE).usage()
    assert (usage.input.value, usage.output.value) == counts


def test_details_that_were_said_once_stay() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 16}}
    usage = metered(
        GENERIC, call(), event(usage=used(30, 9) | details), event(usage=used(30, 9)), DONE
    ).usage()
    assert usage.cached_input.value == 16


@pytest.mark.parametrize("odd", [rb'"\ud83d"', b"[" * 3_000 + b"]" * 3_000], ids=["half a surrogate", "deep"])
def test_what_no_reader_takes_is_hidden_all_the_same(odd: bytes) -> None:
    shown = b'{"choices":[{"index":0,"delta":{"content":"a"}}],"x":' + odd + b"}"
    data = shown[:-1] + b',"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    meter = call().stream_meter(VLLM)
    edit = meter.see(data, 1)
    assert edit is Edit.STRIP
    assert (data[: -meter.cut] + b"}" if meter.cut else meter.strip(data)) == shown
    assert meter.usage().output.value == 1


def test_an_absurd_counter_says_nothing_of_reasoning() -> None:
    steps = [(1, thinks("a")), (2, thinks("b")), (2**60, says("c")), (4, thinks("d")), (8, says("e"))]
    meter = metered(VLLM, call(), *(event(said, usage=used(5, count)) for count, said in steps))
    assert meter.usage().reasoning.value == 4


def test_an_empty_id_is_none() -> None:
    meter = metered(VLLM, call(), event(id="", model=""), event(says("a")))
    assert (meter.response_id, meter.response_model) == ("c-1", "weights")
