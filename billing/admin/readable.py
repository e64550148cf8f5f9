"""What no handler can read is refused before any of them looks: NUL, bytes that are no UTF-8, JSON nested without end.

Here and not where errors are mapped: a ``RecursionError`` or ``UnicodeDecodeError`` of our own stays a failure of ours.
"""

import re
from typing import Any

from litestar import Request

from billing.errors import InvalidInput

NESTING_MAX = 64
"""Levels of lists and objects in a body; what the API takes has five at most. JSON's reader breaks off near 1,000."""
YAML_TYPES = ("text/yaml", "application/yaml", "application/x-yaml")
"""Bodies that are no JSON: the plan's own reader has stricter limits and says the line."""

_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000").search
"""The escape itself; a backslash before it makes it text."""
# The last quote is optional and each repeat possessive: a string that never ends is passed over once, and not from each
# of its escaped quotes again, which would hold up everybody's requests for a time that grows with its square.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


async def refuse_unreadable(request: Request[Any, Any, Any]) -> None:
    """Raise ``InvalidInput`` for a request that cannot be read; NUL is in no name and in no text of Postgres."""
    query, body = request.scope["query_string"], await request.body()
    is_json = request.content_type[0] not in YAML_TYPES
    if (
        b"\0" in request.url.path.encode() + query + body
        or b"%00" in query
        or (is_json and _NUL_IN_JSON(body))
    ):
        raise InvalidInput("the request holds the character NUL, which nothing here can")
    if body and is_json:
        check_json_text(body)


def check_json_text(body: bytes) -> None:
    """Raise ``InvalidInput`` for JSON that its reader would fail on instead of refusing it."""
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        raise InvalidInput(
            f"the request's body is not UTF-8: byte {fault.start + 1} is {body[fault.start]:#04x}"
        ) from None
    if is_nested_deeper(body, NESTING_MAX):
        raise InvalidInput(f"the request's body is nested deeper than {NESTING_MAX} levels")


def is_nested_deeper(body: bytes, levels: int) -> bool:
    """Whether lists and objects of a JSON text stand deeper in each other than ``levels``; brackets in strings do not count."""
    if body.count(b"[") + body.count(b"{") <= levels:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            depth += 1
            if depth > levels:
                return True
        elif mark in b"]}":
            depth -= 1
    return False
