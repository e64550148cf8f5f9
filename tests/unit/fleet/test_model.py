from uuid import UUID

import pytest

from billing.errors import Conflict, InvalidInput
from billing.fleet.model import (
    Model,
    ReasoningTags,
    check_name,
    check_names,
    check_tags,
    check_tokenizer,
    check_unique,
)

LLAMA = Model(UUID(int=1), "llama", ("llama-latest", "gpt-4"), 0)


@pytest.mark.parametrize("name", ["golden", "meta-llama/Llama-3.1-8B", "gpt-4o:latest", "a@b+c_d", "9"])
def test_a_model_name_is_what_callers_write(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "llama-*", "a b", "-a", "a\n", "модель", "a" * 129])
def test_a_name_that_a_plan_or_a_terminal_would_misread_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a model name"):
        check_name(name)


def test_names_are_said_once() -> None:
    assert check_names("a", ("b", "c")) == ("a", "b", "c")
    with pytest.raises(InvalidInput, match=r"aliases\[1\]: b is said twice"):
        check_names("a", ("b", "b"))
    with pytest.raises(InvalidInput, match=r"aliases\[0\]: a is said twice"):
        check_names("a", ("a",))
    with pytest.raises(InvalidInput, match="aliases: at most 32, got 33"):
        check_names("a", tuple(f"b{number}" for number in range(33)))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("llama",), "llama belongs to model llama already (its name)"),
        (("new", "gpt-4"), "gpt-4 belongs to model llama already (an alias of it)"),
    ],
)
def test_a_name_or_alias_answers_to_one_model(names: tuple[str, ...], sentence: str) -> None:
    check_unique(("other", "more"), [LLAMA])
    with pytest.raises(Conflict) as refused:
        check_unique(names, [LLAMA])
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("start", "end"), [("<think>", "</think>"), ("◁think▷", "◁/think▷"), ("[THINK]", "x" * 64)]
)
def test_tags_are_two_texts_that_differ(start: str, end: str) -> None:
    tags = ReasoningTags(start, end)
    assert check_tags(tags) is tags
    assert str(tags) == f"{start} {end}"


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [
        ("", "</think>", "reasoning_tags.start: 1 to 64 printable characters, for example <think>"),
        ("<think>", "  ", "reasoning_tags.end: 1 to 64 printable characters, for example <think>"),
        ("<think>\n", "</think>", "reasoning_tags.start: 1 to 64 printable characters, for example <think>"),
        ("<think>", "\x1b[2J", "reasoning_tags.end: 1 to 64 printable characters, for example <think>"),
        ("<think>", "x" * 65, "reasoning_tags.end: 1 to 64 printable characters, for example <think>"),
        ("<think>", "<think>", "reasoning_tags: start and end must differ, got '<think>' twice"),
    ],
)
def test_tags_at_which_no_text_can_be_split_are_refused(start: str, end: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_tags(ReasoningTags(start, end))
    assert str(refused.value) == fault


@pytest.mark.parametrize(
    "text", ["/models/qwen 3/tokenizer.json", "llama3", "cl100k_base", "qwen2.5", "gpt-oss"]
)
def test_a_tokenizer_is_a_file_or_a_vocabulary(text: str) -> None:
    assert check_tokenizer(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tokenizer.json",
        "./tokenizer.json",
        "/models/qwen3",
        "/a\n.json",
        "meta/llama",
        "lla ma",
        f"/{'a' * 500}.json",
    ],
)
def test_another_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is neither the absolute path of a tokenizer\.json"):
        check_tokenizer(text)
