"""Usage objects of the newer endpoints become counts, and what they do not say stays unknown."""

import pytest

from billing.tokens.dialects.openai_usage import (
    InputDetails,
    OutputDetails,
    Usage,
    known,
    seconds_count,
    summed,
    usage_of,
)
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage


def values(usage: TokenUsage) -> dict[Part, int | None]:
    return {part: count.value for part, count in usage.parts.items()}


def test_every_count_and_part() -> None:
    got = usage_of(
        Usage(
            input_tokens=50,
            output_tokens=40,
            total_tokens=90,
            input_tokens_details=InputDetails(
                cached_tokens=5, cache_write_tokens=6, audio_tokens=7, image_tokens=8
            ),
            output_tokens_details=OutputDetails(reasoning_tokens=9, audio_tokens=10, image_tokens=11),
        )
    )
    assert got.input == Count(50, Provenance.REPORTED, "usage.input_tokens")
    assert (got.cached_input.value, got.cache_write.value, got.output.value, got.reasoning.value) == (
        5,
        6,
        40,
        9,
    )
    assert values(got) == {
        Part.AUDIO_INPUT: 7, Part.IMAGE_INPUT: 8, Part.AUDIO_OUTPUT: 10, Part.IMAGE_OUTPUT: 11,
    }  # fmt: skip


def test_the_other_names_of_the_details() -> None:
    got = usage_of(
        Usage(
            input_token_details=InputDetails(cached_tokens=1),
            output_token_details=OutputDetails(audio_tokens=2),
        )
    )
    assert got.cached_input == Count(1, Provenance.REPORTED, "usage.input_token_details.cached_tokens")
    assert values(got) == {Part.AUDIO_OUTPUT: 2}


def test_what_is_not_said_or_no_count_is_unknown() -> None:
    assert usage_of(None) == TokenUsage()
    assert usage_of(Usage(input_tokens=-1, output_tokens=2**60)) == TokenUsage()


def test_tokens_beyond_input_and_output_are_shown_as_hidden() -> None:
    assert values(usage_of(Usage(input_tokens=3, output_tokens=4, total_tokens=12))) == {Part.HIDDEN: 5}
    assert values(usage_of(Usage(input_tokens=3, output_tokens=4, total_tokens=5))) == {}


def test_seconds_count_only_where_there_are_no_tokens() -> None:
    assert values(usage_of(Usage(seconds=6.2))) == {Part.SECOND: 7}
    assert values(usage_of(Usage(seconds=6.2, input_tokens=1))) == {}


@pytest.mark.parametrize(
    ("said", "counted"), [(7.0, 7), (6.0001, 7), (0.0, 0), ("12.34", 13), ("12", 12), ("1e2", 100)]
)
def test_a_fraction_of_a_second_counts_whole(said: float | str, counted: int) -> None:
    assert seconds_count(said, "duration") == Count(counted, Provenance.REPORTED, "duration, rounded up")


@pytest.mark.parametrize(
    "said", [None, -1.0, float("nan"), float("inf"), "", "soon", "nan", "1e99", "9" * 99]
)
def test_a_duration_that_is_none_is_unknown(said: float | str | None) -> None:
    assert seconds_count(said, "duration") == UNKNOWN


def test_zeros_and_nothing_are_placeholders() -> None:
    assert Usage().empty
    assert Usage(input_tokens=0, output_tokens=0, total_tokens=0, seconds=0.0).empty
    assert not Usage(output_tokens=1).empty


def test_only_known_parts_are_kept() -> None:
    assert known({Part.IMAGE: UNKNOWN, Part.SEARCH: Count(0, Provenance.REPORTED, "x")}).keys() == {
        Part.SEARCH
    }


def test_a_sum_knows_what_each_of_its_terms_knows() -> None:
    one = usage_of(
        Usage(
            input_tokens=3, output_tokens=4, input_tokens_details=InputDetails(audio_tokens=1, image_tokens=2)
        )
    )
    two = usage_of(Usage(input_tokens=5, input_tokens_details=InputDetails(audio_tokens=2)))
    total = summed([one, two])
    assert (total.input.value, total.output.value, values(total)) == (8, None, {Part.AUDIO_INPUT: 3})
    assert summed([one]) == one
    assert summed([]) == TokenUsage()
