import pytest

from billing.errors import InvalidInput
from billing.pricing.pattern import can_match_the_same, check_pattern, matches, specificity


@pytest.mark.parametrize(
    ("pattern", "model", "expected"),
    [
        ("golden", "golden", True),
        ("golden", "golden2", False),
        ("golden", "Golden", False),
        ("*", "", True),
        ("*", "anything/at-all", True),
        ("llama-*", "llama-3.1-8b", True),
        ("llama-*", "llama-", True),
        ("llama-*", "my-llama-3", False),
        ("*-70b", "llama-70b", True),
        ("*-70b", "llama-70b-instruct", False),
        ("llama-*-70b", "llama-3-70b", True),
        ("llama-*-70b", "llama-70b", False),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("*embed*large*", "text-embedding-3-large", True),
        ("*large*embed*", "text-embedding-3-large", False),
        ("a*b*c", "abc", True),
        ("a*b*b", "ab", False),
        ("llama.3", "llama-3", False),
    ],
)
def test_a_star_stands_for_any_text_and_everything_else_for_itself(
    pattern: str, model: str, expected: bool
) -> None:
    assert matches(pattern, model) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("golden", "golden-and-much-*"), ("llama-3-*", "llama-*"), ("llama-*", "*"), ("*-instruct", "llama-*")],
)
def test_an_exact_name_and_then_more_fixed_characters_are_more_specific(one: str, other: str) -> None:
    assert specificity(one) > specificity(other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("ab*", "a*", True),
        ("ab*", "ac*", False),
        ("*b", "a*", True),
        ("*ab", "*b", True),
        ("*ab", "*cb", False),
        ("a*x*b", "a*y*b", True),
        ("golden", "gold*", True),
        ("gold*", "golden", True),
        ("golden", "silver", False),
        ("*", "anything", True),
    ],
)
def test_two_patterns_can_match_the_same_name(one: str, other: str, expected: bool) -> None:
    assert can_match_the_same(one, other) is expected


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("a?c", "model: 'a?c' is not a model name or pattern; write for example llama-3.1-8b or \"llama-*\""),
        (
            "[ab]",
            "model: '[ab]' is not a model name or pattern; write for example llama-3.1-8b or \"llama-*\"",
        ),
        ("a b", "model: 'a b' is not a model name or pattern; write for example llama-3.1-8b or \"llama-*\""),
        ("a**b", "model: 'a**b': one * stands for any text already"),
        ("*a" * 9, "model: a pattern has at most 8 times *, got 9"),
        ("a" * 129, "model: a model pattern has at most 128 characters, got 129"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_pattern(pattern, "model")
    assert str(refused.value) == fault


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 8 + "*b", "a" * 100_000)
