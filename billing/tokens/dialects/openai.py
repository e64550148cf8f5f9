"""OpenAI's dialect: chat completions, completions and embeddings (openai-openapi ``openapi.yaml``; protocols.md §5).

A body is decoded one level deep; what a member holds stays the caller's bytes. An edited body is written from those
members, each once: a name that stood twice reaches the engine only as it was read here.
"""

import re
from enum import StrEnum
from typing import Any

import msgspec

from billing.errors import InvalidInput
from billing.tokens.engines import Engine
from billing.tokens.usage import COUNT_MAX

MODEL_LENGTH_MAX = 256
END_USER_LENGTH_MAX = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MEMBERS_MAX = 200
CHOICES_MAX = 128


class Operation(StrEnum):
    """What a proxied path does; the word in records, rollups and plans."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


PATHS = {
    "/v1/chat/completions": Operation.CHAT,
    "/v1/completions": Operation.COMPLETIONS,
    "/v1/embeddings": Operation.EMBEDDINGS,
}

_SUBJECT = {Operation.CHAT: "messages", Operation.COMPLETIONS: "prompt", Operation.EMBEDDINGS: "input"}


class Call(msgspec.Struct, frozen=True):
    """One request as far as metering must understand it."""

    operation: Operation
    model: str
    stream: bool
    members: dict[str, msgspec.Raw]
    body: bytes
    choices: int
    prompts: int
    end_user: str | None
    usage_asked: bool
    """The client asked for the usage event of a stream."""
    continuous_usage_asked: bool
    """The client asked for usage on every event (vLLM)."""
    timings_asked: bool
    """The client asked for timings on every event (llama.cpp)."""


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_string_or_null = msgspec.json.Decoder(str | None).decode
_boolean = msgspec.json.Decoder(bool | None).decode
_integer = msgspec.json.Decoder(int | None).decode
_object = msgspec.json.Decoder(dict[str, Any] | None).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def parse(operation: Operation, body: bytes) -> Call:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = _decode_members(body)
    model = _model(members)
    stream = bool(_member(members, "stream", _boolean, "true or false"))
    if stream and operation is Operation.EMBEDDINGS:
        raise InvalidInput("embeddings cannot be streamed; leave out stream", "stream")
    _check_subject(operation, members)
    options = _member(members, "stream_options", _object, "an object") or {}
    choices = _member(members, "n", _integer, "a whole number")
    if choices is not None and not 1 <= choices <= CHOICES_MAX:
        raise InvalidInput(f"n must be 1 to {CHOICES_MAX}, got {choices}", "n")
    return Call(
        operation=operation,
        model=model,
        stream=stream,
        members=members,
        body=body,
        choices=1 if choices is None else choices,
        prompts=_prompts(operation, members),
        end_user=_end_user(members),
        usage_asked=options.get("include_usage") is True,
        continuous_usage_asked=options.get("continuous_usage_stats") is True,
        timings_asked=_member(members, "timings_per_token", _boolean, "true or false") is True,
    )


_OTHER_NAMES_OF_N = ("n_cmpl", "best_of")
"""llama.cpp takes ``n_cmpl`` for ``n`` (measured on 0c1e57098); older servers have ``best_of``."""


def check_countable(call: Call, engine: Engine) -> None:
    """Raises ``InvalidInput`` for a request whose reply the engine does not count whole."""
    if engine.several_choices_counted or call.operation is Operation.EMBEDDINGS:
        return
    if call.choices > 1:
        raise InvalidInput(
            f"n must be 1 for {call.model}: its engine ({engine.name}) does not count several choices; send {call.choices} requests",
            "n",
        )
    for name in _OTHER_NAMES_OF_N:
        several = _member(call.members, name, _integer, "a whole number")
        # llama.cpp cuts a number to 32 bits: 2 - 2**32 is 2 to it.
        if several is not None and several != 1:
            raise InvalidInput(
                f"{name} must be 1 for {call.model}: its engine ({engine.name}) does not count it", name
            )
    if call.prompts > 1:
        raise InvalidInput(
            f"prompt must be one prompt for {call.model}: its engine ({engine.name}) does not count an array of prompts; "
            f"send {call.prompts} requests",
            "prompt",
        )


_OUTPUT_MAX_NAMES = ("max_completion_tokens", "max_tokens", "n_predict")
"""How a client says how much may be generated; ``n_predict`` is llama.cpp's own word."""


def output_bound(call: Call, unsaid: int) -> int:
    """The most output tokens that a call asks for; ``unsaid`` a choice where it does not say. Embeddings have none.

    What is no count (null, -1 for endless, a text) says nothing: the engine judges it, not we.
    """
    if call.operation is Operation.EMBEDDINGS:
        return 0
    named = [_count(call.members[name]) for name in _OUTPUT_MAX_NAMES if name in call.members]
    # Engines differ in which of several names they obey; the largest is safe for all.
    each = max((tokens for tokens in named if tokens is not None), default=unsaid)
    return each * call.choices * call.prompts


def _count(raw: msgspec.Raw) -> int | None:
    try:
        tokens = _integer(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return tokens if tokens is not None and 0 <= tokens <= COUNT_MAX else None


def upstream_body(call: Call, engine: Engine, backend_model: str) -> bytes:
    """The body to send: as it came where nothing must change, else with the model's name and the counts asked for."""
    changes: dict[str, Any] = {} if backend_model == call.model else {"model": backend_model}
    if call.stream:
        changes.update(engine.stream_fields)
        changes["stream_options"] = {
            **(_object(call.members.get("stream_options", b"null")) or {}),
            **engine.stream_options,
        }
    if not changes:
        return call.body
    members = call.members | {name: msgspec.Raw(_encode(value)) for name, value in changes.items()}
    return _encode(members)


def _decode_members(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        members = _members(body)
    except msgspec.ValidationError:
        raise InvalidInput('the request body must be a JSON object, for example {"model": "…"}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidInput(f"the request body is not JSON: {fault}") from None
    if len(members) > MEMBERS_MAX:
        raise InvalidInput(f"the request body has {len(members)} members, more than {MEMBERS_MAX}")
    return members


def _model(members: dict[str, msgspec.Raw]) -> str:
    model = _member(members, "model", _string, "a string")
    if not model:
        raise InvalidInput("you must provide a model parameter", "model")
    if len(model) > MODEL_LENGTH_MAX:
        raise InvalidInput(f"model is {len(model)} characters long, more than {MODEL_LENGTH_MAX}", "model")
    return str(model)


def _member(members: dict[str, msgspec.Raw], name: str, decode: Any, expected: str) -> Any:
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(f"{name} must be {expected}, got {_shown(raw)}", name) from None


def _check_subject(operation: Operation, members: dict[str, msgspec.Raw]) -> None:
    name = _SUBJECT[operation]
    if name not in members:
        raise InvalidInput(f"you must provide {name}", name)
    first = _start(members[name], 1)
    if operation is Operation.CHAT and first != b"[":
        raise InvalidInput(f"messages must be an array of objects, got {_shown(members[name])}", name)
    if operation is not Operation.CHAT and first not in {b'"', b"["}:
        raise InvalidInput(f"{name} must be a string or an array, got {_shown(members[name])}", name)


def _prompts(operation: Operation, members: dict[str, msgspec.Raw]) -> int:
    """How many prompts a completion asks for: an array of numbers is one prompt, already tokenized."""
    if operation is not Operation.COMPLETIONS or _start(members["prompt"], 1) != b"[":
        return 1
    items = _list(members["prompt"])
    if not items:
        raise InvalidInput("prompt is an empty array; write at least one prompt", "prompt")
    return len(items) if _start(items[0], 1) in {b'"', b"[", b"{"} else 1


def _end_user(members: dict[str, msgspec.Raw]) -> str | None:
    user = _member(members, "user", _string_or_null, "a string")
    if user is not None and len(user) > END_USER_LENGTH_MAX:
        raise InvalidInput(f"user is {len(user)} characters long, more than {END_USER_LENGTH_MAX}", "user")
    if user is not None and _CONTROL.search(user):
        raise InvalidInput("user holds a control character; write an identifier", "user")
    return user or None


_SHOWN_MAX = 20
_KINDS = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "true", b"f": "false", b"n": "null"}


def _shown(raw: msgspec.Raw) -> str:
    """What kind of value was sent; a prompt's text is never repeated in an error (P13)."""
    return _KINDS.get(_start(raw, 1)) or _start(raw, _SHOWN_MAX).decode(errors="replace")


def _start(raw: msgspec.Raw, length: int) -> bytes:
    """The first bytes of a member, without copying the rest of it."""
    return bytes(memoryview(raw)[:length])
