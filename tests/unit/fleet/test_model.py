from uuid import UUID

import pytest

from billing.errors import Conflict, InvalidInput
from billing.fleet.model import Model, check_name, check_names, check_unique

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
