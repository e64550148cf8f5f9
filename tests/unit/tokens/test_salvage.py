"""A reply that breaks its types still says what holds."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from billing.tokens.salvage import (
    DEPTH_MAX,
    is_array,
    is_said,
    members_as_written,
    read,
    read_each,
    shallow,
    without,
)


class Inner(msgspec.Struct, frozen=True):
    tokens: int | None = None
    part: float | None = None


class Outer(msgspec.Struct, frozen=True):
    name: str | None = None
    count: int | None = None
    inner: Inner | None = None
    several: list[Inner] = []
    renamed: int | None = msgspec.field(default=None, name="a/b")
    anything: Any = None


DECODER = msgspec.json.Decoder(Outer)
DEEP = b"[" * 100_000 + b"]" * 100_000
WHOLE = Outer(name="n", count=5, inner=Inner(7), several=[Inner(1), Inner(2)], renamed=3)
TEXT = b'{"name":"n","count":5,"inner":{"tokens":7},"several":[{"tokens":1},{"tokens":2}],"a/b":3}'


def broken(member: bytes) -> bytes:
    """The whole reply with one more member, or one that stands again."""
    return TEXT[:-1] + b"," + member + b"}"


def test_what_keeps_its_types_is_decoded_as_it_stands() -> None:
    assert read(DECODER, TEXT) == WHOLE


BREAKS = {
    "an unknown member, too deep": (b'"x":' + DEEP, {}),
    "a text where a number was": (b'"count":"5"', {"count": None}),
    "true for a number": (b'"count":true', {"count": None}),
    "a fraction for a number": (b'"count":1.5', {"count": None}),
    "no number": (b'"count":NaN', {"count": None}),
    "a number of 5000 digits": (b'"count":' + b"9" * 5000, {"count": None}),
    "half a surrogate": (b'"name":"\\ud800"', {"name": "?"}),
    "bytes that are no UTF-8": (b'"name":"\xff"', {"name": "\ufffd"}),
    "a nested text": (b'"inner":{"tokens":"7","part":0.5}', {"inner": Inner(None, 0.5)}),
    "a list for an object": (b'"inner":[{"tokens":7}]', {"inner": None}),
    "an object for a list": (b'"several":{"tokens":7}', {"several": []}),
    "null for a list": (b'"several":null', {"several": []}),
    "elements of another kind": (b'"several":[5,{"tokens":true},{"tokens":2}]', {"several": [Inner(), Inner(), Inner(2)]}),
    "a renamed member": (b'"a/b":[]', {"renamed": None}),
    "a member so deep that it is emptied": (b'"anything":' + DEEP, {"anything": ...}),
}  # fmt: skip


@pytest.mark.parametrize(("member", "changes"), BREAKS.values(), ids=BREAKS)
def test_a_broken_member_costs_none_of_the_others(member: bytes, changes: dict[str, Any]) -> None:
    got = read(DECODER, broken(member))
    assert got is not None
    if changes.get("anything") is ...:
        got, changes = msgspec.structs.replace(got, anything=None), {}
    assert got == msgspec.structs.replace(WHOLE, **changes)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"5", b"[]", b"{", b"\xff", b'"x"', b"[" * 100_000, b"{" + DEEP]
)
def test_what_is_no_object_is_nothing(data: bytes) -> None:
    assert read(DECODER, data) is None


def test_each_element_of_an_array_is_read_for_itself() -> None:
    decoder = msgspec.json.Decoder(list[Outer])
    assert read_each(decoder, Outer, b'[{"count":1},{"count":2}]') == [Outer(count=1), Outer(count=2)]
    assert read_each(decoder, Outer, b'[{"count":"1","name":"a"},5,null,{"count":2}]') == [
        Outer(name="a"), Outer(), Outer(), Outer(count=2),
    ]  # fmt: skip
    assert read_each(decoder, Outer, b'{"count":1}') is None


def test_deep_nesting_is_emptied_and_text_that_looks_like_it_is_not() -> None:
    kept = b"[" * DEPTH_MAX + b"[]" + b"]" * DEPTH_MAX
    assert shallow(b"[" * DEPTH_MAX + b'[{"a":[1]},2]' + b"]" * DEPTH_MAX) == kept
    brackets = b'{"x":"' + b"[" * 100 + b'\\"]"}'
    assert shallow(brackets) == brackets


def test_a_large_text_needs_memory_by_its_size_and_not_by_a_hundred_times_that() -> None:
    text = b'"' + b'x\\"' * 1_000_000 + b'"'
    tracemalloc.start()
    try:
        assert shallow(b"[" + text + b"]") == b"[" + text + b"]"
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


def test_an_array_is_told_by_its_start() -> None:
    assert is_array(b' \n[{"a":1}]')
    assert not is_array(b'{"a":[1]}')
    assert not is_array(b"")


@pytest.mark.parametrize(
    ("data", "names", "rest"),
    [
        (b'{"a": 1, "b": {"a": 2}, "c": [1, {"b": 3}]}', {"a"}, b'{ "b": {"a": 2}, "c": [1, {"b": 3}]}'),
        (b'{"a":1,"b":"x,\\"}{","c":null}', {"b"}, b'{"a":1,"c":null}'),
        (b'{"a":1,"b":2}', {"a", "b"}, b"{}"),
        (b'{"a":1}\n', {"b"}, b'{"a":1}\n'),
        (b'{"\\u0061":1,"b":2}', {"a"}, b'{"b":2}'),
        (b'[{"a":1}]', {"a"}, b'[{"a":1}]'),
        (b"{}", {"a"}, b"{}"),
        (b'{"a":1', {"a"}, b'{"a":1'),
        (b"hello", {"a"}, b"hello"),
        (b'{"a":"\\ud83d","b":"\xff"}', {"b"}, b'{"a":"\\ud83d"}'),
    ],
)
def test_members_are_left_out_of_what_no_reader_takes(data: bytes, names: set[str], rest: bytes) -> None:
    assert without(data, names) == rest


@pytest.mark.parametrize("nothing", [b"", b"null", b"false", b'""', b"{}", b"{ }", b"[]", b"0"])
def test_a_member_that_says_nothing(nothing: bytes) -> None:
    assert not is_said(msgspec.Raw(nothing))


@pytest.mark.parametrize("something", [b"1", b"true", b'"no"', b'{"a":1}', b'{"message":"no"}'])
def test_a_member_that_says_something(something: bytes) -> None:
    assert is_said(msgspec.Raw(something))


def test_members_stand_as_they_are_written() -> None:
    assert members_as_written(b'{"a": 1 ,"b":[ 2]}') == {"a": msgspec.Raw(b"1"), "b": msgspec.Raw(b"[ 2]")}
    assert members_as_written(b"[1]") is members_as_written(b"{") is None


def test_however_much_space_comes_first_an_array_is_one() -> None:
    assert is_array(b" \n" * 500 + b"[1]")
