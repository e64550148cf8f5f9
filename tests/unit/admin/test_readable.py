"""What JSON's reader would fail on is refused before it."""

import json
import time

import pytest

from billing.admin.readable import NESTING_MAX, check_json_text, is_nested_deeper
from billing.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "levels", "deeper"),
    [
        (b"[[[]]]", 3, False),
        (b"[[[[]]]]", 3, True),
        (b'{"a": {"b": {"c": {}}}}', 3, True),
        (b"[[], [], [], []]", 3, False),
        (rb'["[[[[", "\"[[[[", "\\"]', 3, False),
        (rb'["\\", [[[]]]]', 3, True),
        (b"]]]]]][[[[", 3, False),
        (b'[["[[[[[', 3, False),
        (b'[["[[[[[\\', 3, False),
        (b"", 0, False),
    ],
)
def test_levels_are_counted_outside_of_strings(text: bytes, levels: int, deeper: bool) -> None:
    assert is_nested_deeper(text, levels) is deeper


def test_what_is_ordinary_passes() -> None:
    check_json_text(json.dumps({"name": "Ünïcode [[[[", "deployments": [{"backend": "a"}] * 500}).encode())
    check_json_text(b"[" * NESTING_MAX + b"]" * NESTING_MAX)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[" * 100_000, "nested deeper than 64 levels"),
        (b'{"a":' * 1_000 + b"1" + b"}" * 1_000, "nested deeper than 64 levels"),
        (b'{"slug": "\xff"}', "is not UTF-8: byte 11 is 0xff"),
        (b"\xed\xa0\x80", "is not UTF-8: byte 1 is 0xed"),
    ],
)
def test_what_cannot_be_read_is_said(text: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        check_json_text(text)


SECONDS_MAX = 2.0


@pytest.mark.parametrize(
    "text",
    [
        b"[]" * 100 + b'"' + b'\\"' * 1_000_000,
        b'"' + b'\\"' * 1_000_000 + b'"' + b"[]" * 100,
        b"[]" * 500_000,
        b'["a",' * 70 + b'"a",' * 250_000,
    ],
    ids=["a string that never ends", "one that does", "many lists", "many strings"],
)
def test_no_text_takes_time_by_the_square_of_its_length(text: bytes) -> None:
    begin = time.process_time()
    is_nested_deeper(text, NESTING_MAX + 10)
    assert time.process_time() - begin < SECONDS_MAX
