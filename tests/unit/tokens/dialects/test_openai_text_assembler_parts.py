"""Objects grow out of their pieces as their engine wrote them, and say how much they hold."""

import pytest
from msgspec import Raw

from billing.tokens.dialects.openai_text_assembler_parts import CHOICE, PLAIN, Parts, index_of, members_of
from billing.tokens.wholes import Unsaid


def grown(*pieces: bytes) -> Parts:
    parts = Parts(CHOICE)
    for piece in pieces:
        parts.add(piece)
    return parts


def test_members_keep_the_order_of_the_shape_and_unknown_ones_follow_in_their_own() -> None:
    parts = grown(b'{"z":1,"b":2}', b'{"a":3}')
    assert parts.whole({"a": None, "b": None, "c": 4}) == b'{"a":3,"b":2,"c":4,"z":1}'


SAID = {
    "nothing, and absent": (b"{}", Unsaid.ABSENT, b"{}"),
    "null, though absent": (b'{"text":null}', Unsaid.ABSENT, b'{"text":null}'),
    "null, for which the whole reply has a constant": (b'{"text":null}', "", b'{"text":""}'),
    "only streams have it": (b'{"text":"x"}', Unsaid.LEFT_OUT, b"{}"),
    "an empty text that is null": (b'{"text":""}', Unsaid.NULL_IF_EMPTY, b'{"text":null}'),
    "an empty text that stays": (b'{"text":""}', None, b'{"text":""}'),
    "a trimmed text": (b'{"text":" \\n a b "}', Unsaid.TRIMMED, b'{"text":"a b"}'),
    "a text that is no Unicode is not trimmed": (b'{"text":" \\ud800"}', Unsaid.TRIMMED, b'{"text":" \\ud800"}'),
    "an object one level deeper": (b'{"text":{"y":1}}', {"x": None, "y": 0}, b'{"text":{"x":null,"y":1}}'),
    "no object where one was expected": (b'{"text":5}', {"x": None}, b'{"text":5}'),
}  # fmt: skip


@pytest.mark.parametrize(("said", "unsaid", "whole"), SAID.values(), ids=SAID)
def test_what_a_shape_says_of_a_member(said: bytes, unsaid: object, whole: bytes) -> None:
    assert grown(said).whole({"text": unsaid}) == whole


def test_pieces_of_another_kind_are_passed_over() -> None:
    parts = grown(
        b'{"text":"a","token_ids":[1]}', b'{"text":5,"token_ids":"x"}', b'{"text":"b","token_ids":[ 2 ]}'
    )
    assert parts.whole({}) == b'{"text":"ab","token_ids":[1,2]}'


def test_a_text_that_begins_as_something_else_is_joined_from_where_it_is_a_text() -> None:
    assert (
        grown(b'{"text":null}', b'{"text":"a"}', b'{"text":null}', b'{"text":"b"}').whole({})
        == b'{"text":"ab"}'
    )


def test_it_says_by_how_much_it_grew() -> None:
    parts = Parts(PLAIN)
    first = parts.add(b'{"id":"abc"}')
    assert first > len(b'"abc"')
    assert (parts.add(b'{"id":"abcdef"}'), parts.add(b'{"id":"a"}'), parts.add(b"[]")) == (3, -5, 0)


@pytest.mark.parametrize("raw", [b"-1", b"true", b'"1"', b"1.5", b"null", b"9" * 400])
def test_what_is_no_index(raw: bytes) -> None:
    assert index_of({"index": Raw(raw)}) is None


def test_what_is_no_object_has_no_members() -> None:
    assert [members_of(data) for data in (b"[]", b"", b"{", b"null", b'{"a":01}')] == [None] * 5


def test_nothing_that_is_held_is_shown() -> None:
    assert "secret" not in repr(grown(b'{"text":"secret"}'))
