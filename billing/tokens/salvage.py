"""Reads a JSON reply as a typed struct, and of one that breaks its types as much as holds (pure).

A member of an unexpected type, of no Unicode, too large or nested too deep counts as missing; it never costs the members
beside it.
"""

import json
import re
from collections.abc import Collection
from typing import Any, TypeVar, get_args, get_origin

import msgspec

DEPTH_MAX = 32
"""What a reply nests deeper is emptied where it can be read in no other way."""
DIGITS_MAX = 20
"""A whole number with more digits is no count."""

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
Shape = TypeVar("Shape", bound=msgspec.Struct)
NOTHING_LENGTH_MAX = 8
"""A longer member says something."""
# The last quote is optional: without that a text of escaped quotes in a string that never ends takes quadratic time.
# Each repeat is possessive: one that could go back keeps a hundred bytes for each that it has read.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
_BYTE_ORDER_MARK = "\ufeff"


def read(decode: msgspec.json.Decoder[Shape], data: bytes) -> Shape | None:
    """The struct that JSON text holds; None when it is no JSON object.

    One typed decode where the text keeps its types.
    """
    try:
        return decode.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = loads(data)
    return salvaged(decode.type, whole) if isinstance(whole, dict) else None


def read_each(
    decode: msgspec.json.Decoder[list[Shape]], shape: type[Shape], data: bytes
) -> list[Shape] | None:
    """The structs of a JSON array; an element that is no object is an empty struct. None when it is no array."""
    try:
        return decode.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = loads(data)
    return [salvaged(shape, element) for element in whole] if isinstance(whole, list) else None


def salvaged(shape: type[Shape], value: object) -> Shape:
    """The struct of a decoded JSON value: each member alone, or not at all."""
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(shape):
        if isinstance(value, dict) and field.encode_name in value:
            member = _member(field.type, value[field.encode_name])
            if member is not msgspec.NODEFAULT:
                kept[field.name] = member
    return shape(**kept)


def loads(data: bytes) -> Any:
    """What a JSON text holds, read as leniently as can be; None when it is no JSON.

    The library's reader takes what a strict one refuses: half a surrogate, bytes that are no UTF-8, a bare line
    end in a string. A whole number with
    more than ``DIGITS_MAX`` digits is None, and what is nested too deep for the reader is emptied (:func:`shallow`).
    """
    text = data.decode(errors="replace").removeprefix(_BYTE_ORDER_MARK)
    try:
        return json.loads(text, parse_int=_whole, strict=False)
    except RecursionError:
        text = shallow(data).decode(errors="replace")
    except ValueError:
        return None
    try:
        return json.loads(text, parse_int=_whole, strict=False)
    except (ValueError, RecursionError):
        return None


def is_array(data: bytes) -> bool:
    """Whether a JSON text begins as an array."""
    return data.lstrip()[:1] == b"["


def members_as_written(data: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object, each as it stands there; None where no strict reader takes it."""
    try:
        return _decode_members(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_said(member: msgspec.Raw) -> bool:
    """Whether a member is there and says something: many engines write ``"error": null``, ``false``, ``""`` or ``{}``."""
    text = bytes(member)
    return bool(text) and (len(text) > NOTHING_LENGTH_MAX or bool(loads(text)))


def without(data: bytes, names: Collection[str]) -> bytes:
    """A JSON object's text without some of its outermost members, every other byte of a member as it was.

    For what no reader takes (half a surrogate, nested too deep): a scan in place of a decode. What is no object stays.
    """
    kept: list[bytes] = []
    depth, start, key = 0, 0, None
    for found in _TOKENS.finditer(data):
        mark = found[0][:1]
        if mark in b"[{":
            depth += 1
            start = found.end() if depth == 1 else start
        elif mark == b'"' and depth == 1 and key is None:
            key = loads(found[0])
        elif depth == 1 and mark in b",}":
            if key is not None and key not in names:
                kept.append(data[start : found.start()])
            start, key = found.end(), None
        if mark in b"]}":
            depth -= 1
            if depth == 0:
                return b"{" + b",".join(kept) + b"}" + data[found.end() :] if mark == b"}" else data
    return data


def _member(wanted: Any, value: object) -> object:
    """A member as the wanted type or, inside it, as far as it goes; ``NODEFAULT`` when it does not go at all."""
    shape = _struct_of(wanted)
    if shape is not None and isinstance(value, list) and get_origin(wanted) is list:
        return [salvaged(shape, element) for element in value]
    if shape is not None and isinstance(value, dict) and get_origin(wanted) is not list:
        return salvaged(shape, value)
    try:
        return msgspec.convert(_text(value) if isinstance(value, str) else value, wanted)
    except (msgspec.ValidationError, RecursionError):
        return msgspec.NODEFAULT


def _struct_of(wanted: Any) -> type[msgspec.Struct] | None:
    """The struct that a member is, may be, or is a list of."""
    for option in (wanted, *get_args(wanted)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _text(value: str) -> str:
    """Without halves of surrogates, which no record can hold."""
    return value.encode(errors="replace").decode()


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= DIGITS_MAX else None


def shallow(data: bytes) -> bytes:
    """The same JSON text with every array and object below ``DEPTH_MAX`` levels empty."""
    pieces, depth, start = [], 0, 0
    for found in _STRUCTURE.finditer(data):
        mark = data[found.start() : found.start() + 1]
        if mark in b"[{":
            depth += 1
            if depth == DEPTH_MAX + 1:
                pieces.append(data[start : found.end()])
        elif mark in b"]}":
            if depth == DEPTH_MAX + 1:
                start = found.start()
            depth -= 1
    if depth <= DEPTH_MAX:
        pieces.append(data[start:])
    return b"".join(pieces)
