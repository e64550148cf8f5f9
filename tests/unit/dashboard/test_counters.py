import msgspec
import pytest

from billing.dashboard.counters import NAMES, SETTLE_US, WINDOW_US, Reading, Track, follow, read
from billing.fleet.backend import EngineKind

LLAMA_CPP = """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 536
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 1008
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 1507
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
"""
VLLM = """\
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="a"} 1000.0
vllm:prompt_tokens_total{model_name="b"} 24.0
# TYPE vllm:prompt_tokens_cached_total counter
vllm:prompt_tokens_cached_total{model_name="a"} 512.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{model_name="a"} 77.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="a"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="a"} 0.0
"""


def reading(seconds: int, input_tokens: int, output_tokens: int, running: int | None = 0) -> Reading:
    return Reading(seconds * 1_000_000, input_tokens, output_tokens, running)


def track(*readings: Reading) -> Track:
    found = None
    for each in readings:
        found = follow(found, each)
    assert found is not None
    return found


def test_only_engines_that_expose_counters_have_names_and_those_of_the_table() -> None:
    assert set(NAMES) == {kind.value for kind in EngineKind if kind.facts.counters is not None}
    assert {"ollama", "openai", "triton", "generic"} & set(NAMES) == set()
    assert NAMES["nim"].path == "/v1/metrics"


@pytest.mark.parametrize(
    ("engine", "page", "expected"),
    [
        (
            "sglang",
            (
                'sglang:prompt_tokens_total{model_name="q"} 7.0\nsglang:generation_tokens_total{model_name="q"} 5.0\n'
                'sglang:num_running_reqs{model_name="q"} 2.0\nsglang:num_queue_reqs{model_name="q"} 1.0\n'
            ),
            (7, 5, 3),
        ),
        (
            "tgi",
            (
                "tgi_request_input_length_sum 7\ntgi_request_generated_tokens_sum 5\ntgi_batch_current_size 2\n"
                "tgi_queue_size 0\n"
            ),
            (7, 5, 2),
        ),
        (
            "nim-1",
            (
                'prompt_tokens_total{model_name="l"} 7.0\ngeneration_tokens_total{model_name="l"} 5.0\n'
                'num_requests_running{model_name="l"} 1.0\nnum_requests_waiting{model_name="l"} 0.0\n'
            ),
            (7, 5, 1),
        ),
        (
            "tensorrt-llm",
            "trtllm_prompt_tokens_total 7.0\ntrtllm_generation_tokens_total 5.0\n",
            (7, 5, None),
        ),
    ],
)
def test_each_engine_s_page_is_read_by_its_own_names(
    engine: str, page: str, expected: tuple[int, int, int | None]
) -> None:
    assert read(page, NAMES[engine], 5) == Reading(5, *expected)


def test_llama_cpp_s_input_is_what_it_worked_through_and_what_it_had_cached() -> None:
    assert read(LLAMA_CPP, NAMES["llama.cpp"], 5) == Reading(5, 1_544, 1_507, 3)


def test_vllm_s_input_has_the_cached_tokens_in_it_and_models_are_summed() -> None:
    assert read(VLLM, NAMES["vllm"], 5) == Reading(5, 1_024, 77, 3)


def test_a_page_without_the_counters_is_none() -> None:
    assert read("<html>not found</html>", NAMES["vllm"], 5) is None
    assert read(VLLM, NAMES["llama.cpp"], 5) is None


def test_an_engine_that_does_not_say_what_is_running_is_read_all_the_same() -> None:
    page = "llamacpp:prompt_tokens_total 1\nllamacpp:tokens_predicted_total 2\n"
    assert read(page, NAMES["llama.cpp"], 5) == Reading(5, 1, 2, None)


def test_what_was_counted_before_is_left_out() -> None:
    found = track(reading(0, 100, 50), reading(3, 118, 103), reading(6, 136, 156))
    assert (found.input, found.output, found.restarts) == (36, 106, 0)


def test_an_engine_that_began_again_at_zero_goes_on_counting() -> None:
    found = track(reading(0, 100, 50), reading(3, 118, 103), reading(6, 10, 5), reading(9, 20, 15))
    assert (found.input, found.output, found.restarts) == (38, 68, 1)


def test_a_comparison_begins_again_when_what_ran_at_its_beginning_has_ended() -> None:
    busy = track(reading(0, 100, 50, running=2), reading(3, 150, 60, running=1))
    assert (busy.began.at_us, busy.input) == (0, 50)
    quiet = follow(busy, reading(6, 180, 90))
    assert (quiet.began.at_us, quiet.input) == (6_000_000, 0)


def test_one_that_never_got_quiet_keeps_its_beginning_and_says_so() -> None:
    late = reading(SETTLE_US // 1_000_000 + 1, 180, 90)
    found = track(reading(0, 100, 50, running=2), late)
    assert (found.began.running, found.input) == (2, 80)


def test_an_old_comparison_begins_again_at_a_quiet_moment() -> None:
    day = WINDOW_US // 1_000_000
    busy = track(reading(0, 100, 50), reading(day, 200, 90, running=1))
    assert busy.input == 100
    assert follow(busy, reading(day + 3, 250, 95)).input == 0


def test_one_that_never_says_what_is_running_begins_again_when_it_is_old() -> None:
    day = WINDOW_US // 1_000_000
    busy = track(reading(0, 100, 50, running=None), reading(day - 3, 200, 90, running=None))
    assert busy.input == 100
    assert follow(busy, reading(day, 250, 95, running=None)).input == 0


@pytest.mark.parametrize("name", ["input", "output"])
def test_either_counter_going_down_is_a_restart(name: str) -> None:
    before = reading(0, 100, 50)
    after = msgspec.structs.replace(before, **{name: 1})
    assert track(before, after).restarts == 1
