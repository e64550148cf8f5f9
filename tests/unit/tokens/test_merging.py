"""Several statements about one reply become one, as protocols.md §1 says for each kind of engine."""

import pytest

from billing.tokens.engines import Merge
from billing.tokens.merging import CHOICES_TRACKED_MAX, Several, added, filled, later, without_cached
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Part, Provenance, TokenUsage


def reported(value: int | None, provenance: Provenance = Provenance.REPORTED) -> Count:
    return UNKNOWN if value is None else Count(value, provenance, "usage")


def used(prompt: int | None, output: int | None, cached: int | None = None) -> TokenUsage:
    return TokenUsage(reported(prompt), reported(cached), output=reported(output))


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    return (usage.input.value, usage.cached_input.value, usage.output.value)


def test_what_one_does_not_know_is_taken_from_the_other() -> None:
    mine = TokenUsage(output=reported(5), parts={Part.AUDIO_INPUT: reported(1)})
    theirs = TokenUsage(
        reported(3), output=reported(9), parts={Part.AUDIO_INPUT: reported(7), Part.SEARCH: reported(2)}
    )
    both = filled(mine, theirs)
    assert values(both) == (3, None, 5)
    assert {part.value: count.value for part, count in both.parts.items()} == {"audio_input": 1, "search": 2}
    assert filled(mine, None) is mine


def test_counts_never_go_down_and_a_missing_one_erases_nothing() -> None:
    assert values(later(used(5, 9, 2), used(None, 3, 4))) == (5, 4, 9)
    assert later(None, used(1, 2)) == used(1, 2)
    parts = later(
        TokenUsage(parts={Part.IMAGE: reported(2)}),
        TokenUsage(parts={Part.IMAGE: reported(1), Part.SECOND: reported(4)}),
    ).parts
    assert {part.value: count.value for part, count in parts.items()} == {"image": 2, "second": 4}


def test_choices_share_their_prompt() -> None:
    """llama.cpp's n = 2 on the golden model: two answers of 53 tokens are 106, the prompt once."""
    several = Several(Merge.PER_CHOICE, choices=2, prompts=1)
    several.add(used(24, 53, 23))
    assert not several.whole
    several.add(used(24, 53, 23))
    assert several.whole
    assert values(several.usage()) == (24, 23, 106)


def test_prompts_are_added_up_once_all_have_said_theirs() -> None:
    several = Several(Merge.PER_PROMPT, choices=1, prompts=2)
    several.add(used(3, 5, 2))
    assert values(several.usage()) == (None, None, 5)
    several.add(used(5, 5, 4))
    assert values(several.usage()) == (8, 6, 10)


def test_choices_of_several_prompts_repeat_them() -> None:
    several = Several(Merge.PER_PROMPT, choices=2, prompts=2)
    for prompt in (3, 3, 5, 5):
        several.add(used(prompt, 7, 1))
    assert values(several.usage()) == (8, None, 28)


def test_running_counts_stand_under_their_index_and_only_grow() -> None:
    several = Several(Merge.LAST, choices=2, prompts=1)
    for index, tokens in ((0, 1), (1, 1), (0, 4), (0, 3)):
        several.see(index, used(9, tokens))
    assert values(several.usage()) == (9, None, 5)


def test_more_choices_than_are_tracked_have_no_sum() -> None:
    several = Several(Merge.LAST, choices=CHOICES_TRACKED_MAX + 1, prompts=1)
    for index in range(CHOICES_TRACKED_MAX + 1):
        several.see(index, used(9, 1))
    assert values(several.usage()) == (9, None, None)


def test_nothing_said_is_nothing_known() -> None:
    several = Several(Merge.LAST, 2, 1)
    assert several.empty
    assert several.usage() == TokenUsage()


@pytest.mark.parametrize(
    ("counts", "expected", "value"),
    [([1, 2], 2, 3), ([1, None], 2, None), ([], 1, None), ([COUNT_MAX, 1], 2, None)],
)
def test_a_sum_is_known_when_every_part_is(
    counts: list[int | None], expected: int, value: int | None
) -> None:
    known = [reported(count) for count in counts if count is not None]
    assert added(known, expected).value == value


def test_a_sum_is_as_weak_as_its_weakest_part() -> None:
    total = added([reported(1), reported(2, Provenance.RUNNING)], 2)
    assert total == Count(3, Provenance.RUNNING, "usage, 2 added up")


def test_without_what_a_cache_gave() -> None:
    assert values(without_cached(used(5, 3, 4))) == (5, None, 3)
