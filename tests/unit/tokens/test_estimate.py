"""Guesses are whole, at least one token, and never shrink as the text grows."""

import pytest

from billing.tokens.estimate import BYTES_PER_TOKEN, input_tokens, of_what_was_seen
from billing.tokens.usage import Count, Provenance, TokenUsage, weakest


@pytest.mark.parametrize(
    ("size", "tokens"),
    [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (4_000, 1_000), (10 << 20, 2_621_440)],
)
def test_four_bytes_a_token_rounded_down_but_at_least_one(size: int, tokens: int) -> None:
    assert BYTES_PER_TOKEN == 4
    assert input_tokens(size) == tokens


def test_a_stream_that_told_nothing_is_guessed_from_what_passed_and_says_so() -> None:
    usage = of_what_was_seen(TokenUsage(), prompt_bytes=400, events=7)
    assert (usage.input.value, usage.output.value) == (100, 7)
    assert weakest(usage) is Provenance.ESTIMATED
    assert "passed" in usage.output.method


def test_what_the_engine_told_stays() -> None:
    told = Count(9, Provenance.RUNNING, "usage")
    assert of_what_was_seen(TokenUsage(input=told), 400, 7).input == told
    assert of_what_was_seen(TokenUsage(output=told), 400, 7).output == told
    assert of_what_was_seen(TokenUsage(input=told, output=told), 400, 7) == TokenUsage(
        input=told, output=told
    )


def test_of_an_answer_that_had_not_begun_nothing_is_guessed() -> None:
    assert of_what_was_seen(TokenUsage(), 400, 0) == TokenUsage()


def test_a_guess_is_no_less_than_the_parts_that_are_known() -> None:
    four, five = (Count(value, Provenance.REPORTED, "usage") for value in (4, 5))
    usage = of_what_was_seen(TokenUsage(reasoning=four, cached_input=five), prompt_bytes=4, events=1)
    assert (usage.output.value, usage.input.value) == (4, 5)
