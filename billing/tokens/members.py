"""A JSON body one level deep: what dialects read of a request, with errors that name the member and say what to write.

What a member holds stays the caller's bytes. An edited body is written from those members, each once: a name that stood
twice reaches the engine only as it was read here.
"""

import re
from typing import Any

import msgspec

from billing.errors import InvalidInput
from billing.tokens.usage import COUNT_MAX

MODEL_LENGTH_MAX = 256
END_USER_LENGTH_MAX = 256
MEMBERS_MAX = 200

Members = dict[str, msgspec.Raw]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_string_or_null = msgspec.json.Decoder(str | None).decode
_boolean = msgspec.json.Decoder(bool | None).decode
_integer = msgspec.json.Decoder(int | None).decode
_object = msgspec.json.Decoder(dict[str, Any] | None).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def members_of(body: bytes) -> Members:
    """The members of a request body; raises ``InvalidInput`` when it is no JSON object or has too many."""
    try:
        members = _members(body)
    except msgspec.ValidationError:
        raise InvalidInput('the request body must be a JSON object, for example {"model": "…"}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidInput(f"the request body is not JSON: {fault}") from None
    if len(members) > MEMBERS_MAX:
        raise InvalidInput(f"the request body has {len(members)} members, more than {MEMBERS_MAX}")
    return members


READ_HERE = frozenset({
    "model", "name", "stream", "stream_options", "include_usage", "continuous_usage_stats", "n", "best_of", "prompt", "messages",
    "input", "system", "tools", "options", "num_predict", "max_tokens", "max_completion_tokens", "max_output_tokens",
})  # fmt: skip
"""Members that decide what is metered."""
_NESTED = ("stream_options", "options")


def check_spelling(members: Members) -> None:
    """Raises ``InvalidInput`` for another spelling of a member that is read here.

    For engines that read names whatever their case, as Go's do: of two that differ in case they take the last, so that
    one would be metered and the other obeyed.
    """
    for name in members:
        folded = name.casefold()
        if folded in READ_HERE and name != folded:
            raise InvalidInput(f"write {folded} in lower case", folded)
    for name in _NESTED:
        if name in members:
            _check_spelling_within(members, name)


def _check_spelling_within(members: Members, name: str) -> None:
    try:
        inner = _members(members[name])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for each in inner:
        folded = each.casefold()
        if folded in READ_HERE and each != folded:
            raise InvalidInput(f"write {name}.{folded} in lower case", name)


def with_members(members: Members, changes: dict[str, Any]) -> bytes:
    """The body of the same members with some of them written anew; None takes a member out."""
    changed = members | {
        name: msgspec.Raw(_encode(value)) for name, value in changes.items() if value is not None
    }
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
    return _encode(changed)


def capped_members(members: Members, names: tuple[str, ...], added: str, cap: int) -> Members:
    """Members in which each of some names that is there says at most ``cap``, and ``added`` says it where none is there."""
    changed = dict(members)
    for name in names:
        if name in members:
            tokens = count_of(members, name)
            if tokens is None or tokens > cap:
                changed[name] = msgspec.Raw(b"%d" % cap)
    if not any(name in members for name in names):
        changed[added] = msgspec.Raw(b"%d" % cap)
    return changed


def model_of(members: Members, *, required: bool = True) -> str:
    """The model's name; with ``required`` false ``""`` where none is given. Raises ``InvalidInput``."""
    model = member(members, "model", _string if required else _string_or_null, "a string")
    if not model:
        if required:
            raise InvalidInput("you must provide a model parameter", "model")
        return ""
    if len(model) > MODEL_LENGTH_MAX:
        raise InvalidInput(f"model is {len(model)} characters long, more than {MODEL_LENGTH_MAX}", "model")
    return str(model)


def flag(members: Members, name: str, *, unsaid: bool = False) -> bool:
    """A member that is true or false; ``unsaid`` when it is absent or null. Raises ``InvalidInput``."""
    if name not in members:
        return unsaid
    value = member(members, name, _boolean, "true or false")
    return unsaid if value is None else bool(value)


def whole_number(members: Members, name: str) -> int | None:
    """A member that is a whole number, None when it is absent or null; raises ``InvalidInput``."""
    value: int | None = member(members, name, _integer, "a whole number")
    return value


def an_object(members: Members, name: str) -> dict[str, Any]:
    """A member that is an object, empty when it is absent or null; raises ``InvalidInput``."""
    return member(members, name, _object, "an object") or {}


def text_of(members: Members, name: str) -> str | None:
    """A member that is a text, None when it is absent or null; raises ``InvalidInput``."""
    value: str | None = member(members, name, _string_or_null, "a string")
    return value


def items_of(members: Members, name: str) -> list[msgspec.Raw]:
    """The elements of a member that is an array; raises ``InvalidInput`` when it is there and is none."""
    items: list[msgspec.Raw] = member(members, name, _list, "an array") or []
    return items


def member(members: Members, name: str, decode: Any, expected: str) -> Any:
    """A member decoded, None when it is absent; raises ``InvalidInput`` that says what was ``expected``."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(f"{name} must be {expected}, got {shown(raw)}", name) from None


def count_of(members: Members, name: str) -> int | None:
    """A number of tokens that a client named. What is no count (null, -1 for endless, a text) says nothing: None."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        tokens = _integer(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return tokens if tokens is not None and 0 <= tokens <= COUNT_MAX else None


def output_max(members: Members, *names: str) -> int | None:
    """The most output tokens that a client names; engines differ in which of several names they obey, so the largest.

    None where it names none, or where one of the names says something that is no number of tokens.
    """
    largest = None
    for name in names:
        if name in members:
            tokens = count_of(members, name)
            if tokens is None and start(members[name], 1) != b"n":
                # -1 is endless to llama.cpp, whatever another name says.
                return None
            if tokens is not None and (largest is None or tokens > largest):
                largest = tokens
    return largest


def end_user_of(text: str | None, name: str = "user") -> str | None:
    """Whom the caller serves, as it says; raises ``InvalidInput`` when that is no short identifier."""
    if text is None:
        return None
    if len(text) > END_USER_LENGTH_MAX:
        raise InvalidInput(f"{name} is {len(text)} characters long, more than {END_USER_LENGTH_MAX}", name)
    if _CONTROL.search(text):
        raise InvalidInput(f"{name} holds a control character; write an identifier", name)
    return text or None


_SHOWN_MAX = 20
_KINDS = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "true", b"f": "false", b"n": "null"}


def shown(raw: msgspec.Raw) -> str:
    """What kind of value was sent; a prompt's text is never repeated in an error (P13)."""
    return _KINDS.get(start(raw, 1)) or start(raw, _SHOWN_MAX).decode(errors="replace")


def start(raw: msgspec.Raw, length: int) -> bytes:
    """The first bytes of a member, without copying the rest of it."""
    return bytes(memoryview(raw)[:length])
