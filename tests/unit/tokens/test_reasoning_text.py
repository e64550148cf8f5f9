"""The reasoning of a stream's choices: told apart, kept where it is to be counted, within a bound."""

from billing.tokens.reasoning_text import CHARACTERS_MAX, CHOICES_MAX, Heard, ReasoningText
from billing.tokens.tags import Tags

THINK = Tags("<think>", "</think>")


def test_what_the_engine_tells_apart_is_kept() -> None:
    text = ReasoningText(keeps=True)
    assert text.see(0, "be", "") == Heard(reasons=True, answers=False)
    assert text.see(0, "cause", "so") == Heard(reasons=True, answers=True)
    assert text.see(0, "", "") == Heard(reasons=False, answers=False)
    assert text.text() == "because"


def test_choices_that_alternate_are_not_mixed() -> None:
    text = ReasoningText(keeps=True, tags=THINK)
    for index, reasoning, content in ((1, "b", ""), (0, "", "<think>a"), (1, "B", ""), (0, "", "A</th")):
        text.see(index, reasoning, content)
    assert text.text() == "aA</thbB", "the end of a text that was cut off in a tag is text"
    text.see(0, "", "ink>yes")
    assert text.text() == "aAbB"


def test_what_began_inside_is_taken_back() -> None:
    text = ReasoningText(keeps=True, tags=THINK)
    assert text.see(0, "", "h") == Heard(reasons=False, answers=True)
    assert text.text() is None
    assert text.see(0, "", "m</think>") == Heard(reasons=True, answers=False, reclaims=True)
    assert text.see(0, "", "yes") == Heard(reasons=False, answers=True)
    assert text.text() == "hm"


def test_nothing_is_kept_where_nobody_counts_it() -> None:
    text = ReasoningText(keeps=False, tags=THINK)
    assert text.see(0, "", "<think>a").reasons
    text.see(0, "b", "c</th")
    assert (text.text(), repr(text)) == (None, "<ReasoningText keeps=False 0 characters>")


def test_of_a_text_that_is_too_long_none_is_kept() -> None:
    half = "r" * (CHARACTERS_MAX // 2)
    for tags in (None, THINK):
        text = ReasoningText(keeps=True, tags=tags)
        for _ in range(2):
            text.see(0, half, "")
        assert text.text() == half + half
        for _ in range(2):
            text.see(0, "r", "")
            assert text.text() is None


def test_answers_that_might_be_reasoning_are_bounded_too() -> None:
    text = ReasoningText(keeps=True, tags=THINK)
    half = "a" * (CHARACTERS_MAX // 2 + 1)
    for content in (half, half, "</think>yes"):
        text.see(0, "", content)
    assert text.text() is None


def test_choices_are_bounded() -> None:
    text = ReasoningText(keeps=True, tags=THINK)
    for index in range(CHOICES_MAX):
        text.see(index, "", "<think>r")
    assert text.text() == "r" * CHOICES_MAX
    assert text.see(CHOICES_MAX, "", "<think>r") == Heard(reasons=False, answers=True)
    text.see(CHOICES_MAX, "r", "")
    assert text.text() is None


def test_what_is_forgotten_is_gone_and_no_more_is_kept() -> None:
    text = ReasoningText(keeps=True, tags=THINK)
    text.see(0, "r", "<think>r")
    text.forget()
    text.see(0, "r", "r</th")
    assert text.text() is None
