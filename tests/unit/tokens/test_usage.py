import pytest

from billing.tokens.usage import (
    NOTHING_USED,
    UNKNOWN,
    Count,
    Provenance,
    TokenUsage,
    clamp,
    weakest,
)

REPORTED, RUNNING, COUNTED, ESTIMATED = Provenance


def reported(value: int) -> Count:
    return Count(value, REPORTED, "usage")


def test_provenance_is_listed_strongest_first() -> None:
    assert [REPORTED, RUNNING, COUNTED, ESTIMATED] == ["reported", "running", "counted", "estimated"]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (TokenUsage(reported(1), output=reported(2)), REPORTED),
        (TokenUsage(reported(1), output=Count(2, RUNNING, "timings")), RUNNING),
        (TokenUsage(Count(1, ESTIMATED, "bytes / 4"), output=Count(2, COUNTED, "tokenizer")), ESTIMATED),
        (TokenUsage(reported(9), reported(3), output=reported(2), reasoning=Count(1, COUNTED, "x")), COUNTED),
        (TokenUsage(reported(1)), None),
        (TokenUsage(output=reported(1)), None),
        (TokenUsage(), None),
        (NOTHING_USED, REPORTED),
    ],
)
def test_the_weakest_count_that_is_known_speaks_for_all(
    usage: TokenUsage, expected: Provenance | None
) -> None:
    assert weakest(usage) == expected


def test_zero_is_a_count_and_unknown_is_none() -> None:
    assert NOTHING_USED.input.value == 0
    assert UNKNOWN.value is None
    assert NOTHING_USED.input != UNKNOWN


def test_a_part_larger_than_its_whole_is_cut_to_it_and_says_so() -> None:
    used = clamp(TokenUsage(reported(10), reported(12), reported(3), reported(5), reported(9)))
    assert used.cached_input == Count(10, REPORTED, "usage, clamped from 12")
    assert used.reasoning == Count(5, REPORTED, "usage, clamped from 9")
    assert used.cache_write == reported(3)


@pytest.mark.parametrize(
    "used",
    [
        TokenUsage(reported(10), reported(10), UNKNOWN, reported(5), reported(5)),
        TokenUsage(UNKNOWN, reported(7), UNKNOWN, UNKNOWN, reported(9)),
        TokenUsage(),
    ],
)
def test_counts_that_contain_one_another_stay_as_they_are(used: TokenUsage) -> None:
    assert clamp(used) == used


def test_a_count_tells_how_it_is_known() -> None:
    assert str(reported(53)) == "53 reported (usage)"
    assert str(UNKNOWN) == "unknown"
