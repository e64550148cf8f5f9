"""The answers of one reply add up, and a prompt counts once."""

import pytest

from billing.tokens.tally import ANSWERS_MAX, Names, Tally
from billing.tokens.usage import COUNT_MAX, Count, Provenance, TokenUsage
from tests.native_kit import counts

NAMES = Names(input="i", cached="c", output="o", reasoning="r")


def tally(choices: int, prompts: int, *answers: tuple[int | None, ...]) -> Tally:
    """A tally whose answers, from number 0 on, have said their input, cache, output and reasoning."""
    made = Tally(NAMES, choices, prompts)
    for number, said in enumerate(answers):
        made.answer(number).advance(*said)
    return made


def test_nothing_said_is_nothing_known() -> None:
    assert Tally(NAMES, 1, 1).usage(Provenance.RUNNING) == TokenUsage()


def test_one_answer_is_named_as_the_reply_names_it() -> None:
    usage = tally(1, 1, (4, 3, 5, 2)).usage(Provenance.REPORTED)
    assert usage == TokenUsage(
        input=Count(4, Provenance.REPORTED, "i"), cached_input=Count(3, Provenance.REPORTED, "c"),
        output=Count(5, Provenance.REPORTED, "o"), reasoning=Count(2, Provenance.REPORTED, "r"),
    )  # fmt: skip


CASES = {
    "two choices of one prompt": (2, 1, [(4, 3, 5), (4, 3, 6)], (4, 3, 11)),
    "two prompts": (1, 2, [(4, 3, 5), (2, 0, 6)], (6, 3, 11)),
    "two choices of two prompts": (2, 2, [(4, 3, 1), (4, 3, 1), (2, 0, 1), (2, 0, 1)], (6, 3, 4)),
    "a prompt that was not heard of": (1, 2, [(4, 3, 5)], (None, None, 5)),
    "a choice that was not heard of": (2, 1, [(4, 3, 5)], (4, 3, 5)),
    "one that does not say its input": (1, 2, [(4, 3, 5), (None, 1, 6)], (None, 4, 11)),
    "one that does not say its output": (2, 1, [(4, 3, 5), (4, 3, None)], (4, 3, None)),
    "more prompts than were asked for": (1, 1, [(4, 3, 5), (2, 1, 6)], (6, 4, 11)),
}


@pytest.mark.parametrize(("choices", "prompts", "said", "expected"), CASES.values(), ids=CASES)
def test_answers_add_up(
    choices: int, prompts: int, said: list[tuple[int | None, ...]], expected: tuple[int | None, ...]
) -> None:
    assert counts(tally(choices, prompts, *said).usage(Provenance.REPORTED))[:3] == expected


def test_counts_never_go_down_and_a_missing_or_absurd_one_changes_nothing() -> None:
    made = tally(1, 1, (4, 3, 5))
    for said in ((3, 2, 4), (None, None, None), (-1, -1, -1), (COUNT_MAX + 1, 10**30, COUNT_MAX + 1)):
        made.answer(0).advance(*said)
    assert counts(made.usage(Provenance.RUNNING))[:3] == (4, 3, 5)


def test_answers_are_bounded_and_one_without_a_number_counts_for_nothing() -> None:
    made = Tally(NAMES, 1, 1)
    for number in range(-5, ANSWERS_MAX + 10):
        made.answer(number).advance(None, None, 1)
    assert made.usage(Provenance.RUNNING).output.value == ANSWERS_MAX
    assert repr(made) == f"<Tally {ANSWERS_MAX} of 1>"
    assert repr(made.answer(0)) == "<Answer input=None cached=None output=1 reasoning=None>"
