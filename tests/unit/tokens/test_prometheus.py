"""Counters are read exactly, from what engines really write and from what they should never write."""

from decimal import Decimal

import pytest

from billing.tokens.prometheus import DIGITS_MAX, parse_counters

LLAMACPP = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 536
# HELP llamacpp:prompt_tokens_cached_total Number of prompt tokens reused from the cache
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 673
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 0.076482
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 1507
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
"""

VLLM = """\
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 1.234567e+06
vllm:generation_tokens_total{engine="1",model_name="m"} 53.0
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7623e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.5"} 3.0
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 4.0
vllm:time_to_first_token_seconds_count 4.0
vllm:time_to_first_token_seconds_sum 1.5
"""


def test_llamacpp_counts_are_integers_and_its_gauges_are_left_out() -> None:
    assert parse_counters(LLAMACPP) == {
        "llamacpp:prompt_tokens_total": 536,
        "llamacpp:prompt_tokens_cached_total": 673,
        "llamacpp:prompt_seconds_total": Decimal("0.076482"),
        "llamacpp:tokens_predicted_total": 1507,
    }
    assert type(parse_counters(LLAMACPP)["llamacpp:tokens_predicted_total"]) is int


def test_vllm_counts_of_several_engines_are_summed() -> None:
    assert parse_counters(VLLM) == {
        "vllm:generation_tokens_total": 1_234_620,
        "vllm:time_to_first_token_seconds_count": 4,
        "vllm:time_to_first_token_seconds_sum": Decimal("1.5"),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 1", {"a": 1}),
        ("a 1 1395066363000", {"a": 1}),
        ("  a\t7  ", {"a": 7}),
        ("a{} 5", {"a": 5}),
        ('a{path="/v1/{x}",quote="say \\"hi\\" }"} 6', {"a": 6}),
        ('a{text="a quantile=1"} 8', {"a": 8}),
        ("a 9007199254740993", {"a": 9007199254740993}),
        ("a 1e3", {"a": 1000}),
        ("a -2", {"a": -2}),
        ('a 4 # {trace_id="x"} 1', {"a": 4}),
        ("a 1\r\nb 2", {"a": 1, "b": 2}),
    ],
)
def test_a_sample_is_read(line: str, expected: dict[str, int]) -> None:
    assert parse_counters(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# a comment",
        "# EOF",
        "<html>502 Bad Gateway</html>",
        "a",
        "a many",
        "a NaN",
        "a +Inf",
        "a -Inf",
        'a{quantile="0.99"} 1',
        'a_bucket{le="1"} 1',
        "a_created 1.7e9",
        'a{b="never closed 1',
        "# TYPE a gauge\na 1",
        f"a 1e{DIGITS_MAX}",
        f"a 1e-{DIGITS_MAX + 1}",
        "a 1e999999999",
        "a " + "1" * 5000,
        "a 0." + "1" * 5000,
    ],
)
def test_what_is_no_cumulative_number_is_passed_over(line: str) -> None:
    assert parse_counters(line) == {}


def test_sums_are_exact_where_floats_are_not() -> None:
    lines = ['a{i="1"} 0.1', 'a{i="2"} 0.2', 'a{i="3"} 0.7', "b 9007199254740993", 'b{i="2"} 0.5']
    sums = parse_counters("\n".join(lines))
    assert sums == {"a": 1, "b": Decimal("9007199254740993.5")}
    assert type(sums["a"]) is int


def test_sums_of_the_largest_and_the_smallest_numbers_are_not_rounded() -> None:
    largest, smallest = "9" * DIGITS_MAX, f"1e-{DIGITS_MAX}"
    assert parse_counters(f"a {largest}\na {smallest}")["a"] == Decimal(
        "9" * DIGITS_MAX + "." + "0" * (DIGITS_MAX - 1) + "1"
    )


def test_a_hostile_label_set_costs_linear_time() -> None:
    assert parse_counters("a{" + 'b="' * 200_000) == {}
