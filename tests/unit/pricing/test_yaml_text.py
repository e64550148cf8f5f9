import time

import pytest

from billing.errors import InvalidInput
from billing.pricing.yaml_text import BYTES_MAX, load

SECONDS_MAX = 10.0


def test_every_scalar_stays_the_text_that_was_written() -> None:
    text = 'a: 0.10\nb: 1e3\nc: "0.50"\nd: 2026-01-01T00:00:00Z\ne: yes\nf: ~\ng:\nh: 0x1F\ni: [1, "*"]\n'
    assert load(text) == {
        "a": "0.10", "b": "1e3", "c": "0.50", "d": "2026-01-01T00:00:00Z", "e": "yes", "f": "~", "g": "", "h": "0x1F",
        "i": ["1", "*"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' is there twice"),
        ("a: {b: 1, b: 2}\n", "line 1, column 11: the key 'b' is there twice"),
        ("[a]: 1\n", "line 1, column 1: a key must be plain text"),
        ("a: &x 1\nb: *x\n", "line 1, column 4: anchors (&) and aliases (*) are not accepted; put text that begins with * into quotes"),
        ("model: *\n", "line 1, column 9: expected alphabetic or numeric character, but found '\\n'"),
        ("model: *llama\n", "line 1, column 8: anchors (&) and aliases (*) are not accepted; put text that begins with * into quotes"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: tags (!) are not accepted, got tag:yaml.org,2002:python/object:os.system"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document (---) is not accepted"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']', but got '<stream end>'"),
        ("a: 'x\n", "line 2, column 1: found unexpected end of stream"),
        ("a:\n\t- 1\n", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed here"),
        ("a: \x00\n", "not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: " + "[" * 20 + "]" * 20, "line 1, column 12: nested deeper than 8 levels"),
        ("- 1\n" * 20_001, "line 20000, column 3: more than 20000 values"),
        ("#" * (BYTES_MAX + 1), "the file is larger than 256 KiB"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_anything_but_one_plain_document_is_refused_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(text)
    assert str(refused.value) == fault


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n", id="a bomb of aliases"),
        pytest.param("[" * 100_000, id="a hundred thousand brackets"),
        pytest.param("{" * 100_000, id="a hundred thousand braces"),
        pytest.param("- " * 100_000, id="a hundred thousand dashes"),
    ],
)
def test_a_bomb_is_refused_soon(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(InvalidInput):
        load(text)
    assert time.monotonic() - start < SECONDS_MAX
