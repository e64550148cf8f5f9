"""Reasoning between tags, whatever the pieces in which the text comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.tags import Tags, TagSplitter, split

THINK = Tags("<think>", "</think>")

TEXTS = {
    "no tags": ("just an answer", "", "just an answer"),
    "nothing": ("", "", ""),
    "one block": ("<think>\nhm\n</think>\n\nyes", "\nhm\n", "\n\nyes"),
    "two blocks": ("<think>a</think>b<think>c</think>d", "ac", "bd"),
    "begun inside, by the template": ("hm\n</think>yes", "hm\n", "yes"),
    "cut off inside": ("<think>hm", "hm", ""),
    "cut off in the end tag": ("<think>hm</thi", "hm</thi", ""),
    "cut off in the start tag": ("yes<thin", "", "yes<thin"),
    "a tag's beginning that is none": ("<think>a</thing></think>b<thinker>", "a</thing>", "b<thinker>"),
    "an end after its own": ("<think>a</think>b</think>c", "a", "b</think>c"),
    "a start inside": ("<think>a<think>b</think>c", "a<think>b", "c"),
    "empty": ("<think></think>yes", "", "yes"),
    "only tags": ("<think></think>", "", ""),
    "half a tag before a tag": ("<<think>a<</think>b", "a<", "<b"),
}


@pytest.mark.parametrize(("text", "reasoning", "answer"), TEXTS.values(), ids=TEXTS)
def test_a_whole_text_is_told_apart(text: str, reasoning: str, answer: str) -> None:
    parts = split(text, THINK)
    assert (parts.reasoning, parts.answer) == (reasoning, answer)


@pytest.mark.parametrize(("text", "reasoning", "answer"), TEXTS.values(), ids=TEXTS)
@given(cuts=st.lists(st.integers(0, 40), max_size=12))
def test_any_cut_gives_the_same(text: str, reasoning: str, answer: str, cuts: list[int]) -> None:
    splitter, begin = TagSplitter(THINK), 0
    reasons, answers = "", ""
    for end in [*sorted(cuts), len(text)]:
        part = splitter.feed(text[begin:end])
        if part.reclaims:
            reasons, answers = reasons + answers, ""
        reasons, answers, begin = reasons + part.reasoning, answers + part.answer, max(begin, end)
    assert (reasons + splitter.waiting.reasoning, answers + splitter.waiting.answer) == (reasoning, answer)


def test_an_end_without_its_start_takes_back_what_was_taken_for_answer_once() -> None:
    splitter = TagSplitter(THINK)
    assert [splitter.feed(piece).reclaims for piece in ("a", "b</", "think>c", "</think>")] == [
        False, False, True, False,
    ]  # fmt: skip
    assert (splitter.tagged, repr(splitter)) == (True, "<TagSplitter outside held=0>")


def test_tags_of_any_text() -> None:
    tags = Tags("[THINK]", "[/THINK]")
    assert split("[THINK]x[/THINK]y", tags)[:2] == ("x", "y")
    assert repr(TagSplitter(tags)) == "<TagSplitter no tag yet held=0>"
