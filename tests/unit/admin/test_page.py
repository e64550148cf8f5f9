"""Pages: how a list is cut, and the mark after which the next one begins."""

from uuid import UUID

import pytest

from billing.admin.page import Page, page, read, read_id, read_instant_and_id, read_number, write
from billing.errors import InvalidInput

ID = UUID("019ab3f4-8c00-7000-8000-000000000001")


def cut(found: list[str], limit: int) -> Page[str]:
    return page(found, limit, str.upper, lambda name: (name,))


def test_a_page_is_followed_by_another_only_when_there_is_more() -> None:
    assert cut([], 2) == Page([], None)
    assert cut(["a", "b"], 2) == Page(["A", "B"], None)
    first = cut(["a", "b", "c"], 2)
    assert first.data == ["A", "B"]
    assert read(first.next, 1) == ("b",)


@pytest.mark.parametrize("key", [("a",), ("",), ('"é/ä🚀',), ("1", "2")])
def test_a_mark_gives_back_its_key(key: tuple[str, ...]) -> None:
    mark = write(key)
    assert mark.isascii()
    assert not set(mark) & set("+/=&? ")
    assert read(mark, len(key)) == key


def test_marks_of_numbers_ids_and_instants() -> None:
    assert read_number(write(["17"])) == 17
    assert read_id(write([str(ID)])) == ID
    assert read_instant_and_id(write(["1795514400000000", str(ID)])) == (1_795_514_400_000_000, ID)
    assert read(None, 1) is read_number(None) is read_id(None) is read_instant_and_id(None) is None


@pytest.mark.parametrize(
    "mark",
    ["", "x", "zz", "é", "=", "W10", write(["a", "b"]), write(["a\0"]), "eyJhIjoxfQ", "WzFd", "W251bGxd"],
)
def test_anything_else_is_refused(mark: str) -> None:
    with pytest.raises(InvalidInput, match=r"^after: not the `next` of a page of this list") as caught:
        read(mark, 1)
    assert caught.value.param == "after"


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "9" * 19, "²"])
def test_a_mark_of_another_list_is_refused(text: str) -> None:
    for wrong in (read_number, read_id):
        with pytest.raises(InvalidInput):
            wrong(write([text]))
    for key in ((text, str(ID)), ("1", str(ID)), ("1795514400000000", text)):
        with pytest.raises(InvalidInput):
            read_instant_and_id(write(key))
