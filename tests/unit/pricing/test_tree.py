from collections.abc import Callable

import pytest

from billing.errors import InvalidInput
from billing.pricing import tree


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda: tree.keys("x", "a", ("one", "two")), "a: expected keys (one, two, …), got 'x'"),
        (lambda: tree.keys([], "", ("one",)), "the file: expected keys (one, …), got a list"),
        (lambda: tree.keys({"oen": "1"}, "", ("one",)), "oen: unknown key; did you mean one?"),
        (lambda: tree.keys({"zzz": "1"}, "a[0]", ("one", "two")), "a[0].zzz: unknown key; known keys are one, two"),
        (lambda: tree.needed({}, "one", "a"), "a.one: missing"),
        (lambda: tree.items({}, "a", 2), "a: expected a list (lines that begin with -), got keys"),
        (lambda: tree.items(["1", "2", "3"], "a", 2), "a: expected 1 to 2 entries, got 3"),
        (lambda: tree.line(["1"], "a"), "a: expected one value, got a list"),
        (lambda: tree.line("  ", "a"), "a: empty"),
        (lambda: tree.line("x" * 201, "a"), "a: expected at most 200 printable characters on one line"),
        (lambda: tree.line("x\ny", "a"), "a: expected at most 200 printable characters on one line"),
        (lambda: tree.whole("1e6", "a", "tokens"), "a: '1e6' is not a number of tokens; write for example 1000000"),
        (lambda: tree.whole("-1", "a", "tokens"), "a: '-1' is not a number of tokens; write for example 1000000"),
        (lambda: tree.whole("٣", "a", "tokens"), "a: '٣' is not a number of tokens; write for example 1000000"),
        (lambda: tree.whole("9" * 16, "a", "tokens"), "a: '9999999999999999' is not a number of tokens; write for example 1000000"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_must_be_is_said_with_its_path(read: Callable[[], object], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read()
    assert str(refused.value) == fault


def test_what_is_as_it_must_be_is_read() -> None:
    assert tree.keys({"one": "1"}, "", ("one",)) == {"one": "1"}
    assert tree.needed({"one": "1"}, "one", "") == "1"
    assert tree.items(["1"], "a", 1) == ["1"]
    assert tree.line(" x ", "a") == "x"
    assert tree.whole("0012", "a", "tokens") == 12
    assert tree.whole("1000000000000000", "a", "tokens") == tree.WHOLE_MAX
    assert tree.choices((1, 2, 3)) == "1, 2 or 3"
    assert tree.below("", "a") == "a"
