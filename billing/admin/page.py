"""Pages of a list: so many entries, and an opaque mark after which the next page begins.

The mark holds the sort key of the last entry shown (keyset), not a count: entries that are added or removed meanwhile
neither repeat nor hide others.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from billing.errors import InvalidInput
from billing.pricing.instant import OutOfYears, check_years

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
CURSOR_LENGTH_MAX = 1_024
NUMBER_DIGITS_MAX = 18
"""As many as always fit 63 bits."""

Limit = Annotated[
    int, QueryParameter(ge=1, le=LIMIT_MAX, description=f"Entries at most, {LIMIT_DEFAULT} unless said.")
]
After = Annotated[
    str | None,
    QueryParameter(
        max_length=CURSOR_LENGTH_MAX, description="`next` of the page before; the first page without it."
    ),
]

Found = TypeVar("Found")
Document = TypeVar("Document")


class Page(msgspec.Struct, Generic[Document], frozen=True):
    """A page of a list; ``next`` is null on the last one."""

    data: list[Document]
    next: str | None


def page(
    found: Sequence[Found],
    limit: int,
    document: Callable[[Found], Document],
    key: Callable[[Found], Sequence[str]],
) -> Page[Document]:
    """The page of what was found; the caller asked its service for one entry more than ``limit``."""
    shown = found[:limit]
    return Page([document(each) for each in shown], write(key(shown[-1])) if len(found) > limit else None)


def write(key: Sequence[str]) -> str:
    """A sort key as a mark."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode("ascii").rstrip("=")


def read(after: str | None, length: int) -> tuple[str, ...] | None:
    """The sort key of ``length`` texts in a mark, None without one; raises ``InvalidInput`` on what is no mark."""
    if after is None:
        return None
    try:
        raw = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        key = msgspec.json.decode(raw, type=list[str])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise _not_a_mark() from None
    if len(key) != length or not all(part.isprintable() for part in key):
        raise _not_a_mark()
    return tuple(key)


def read_number(after: str | None) -> int | None:
    """The same for a sort key that is one number."""
    key = read(after, 1)
    return None if key is None else _number(key[0])


def read_id(after: str | None) -> UUID | None:
    """The same for a sort key that is one id."""
    key = read(after, 1)
    return None if key is None else _id(key[0])


def read_instant_and_id(after: str | None) -> tuple[int, UUID] | None:
    """The same for a sort key of an instant in microseconds and an id."""
    key = read(after, 2)
    return None if key is None else (_instant(key[0]), _id(key[1]))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > NUMBER_DIGITS_MAX:
        raise _not_a_mark()
    return int(text)


def _instant(text: str) -> int:
    try:
        return check_years(_number(text))
    except OutOfYears:
        raise _not_a_mark() from None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _not_a_mark() from None


def _not_a_mark() -> InvalidInput:
    return InvalidInput("after: not the `next` of a page of this list", "after")
