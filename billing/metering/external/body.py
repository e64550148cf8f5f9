"""The events of a body: one CloudEvent or a batch of them, by the media type or, in plain JSON, by the shape."""

from typing import Any

import msgspec

from billing.errors import InvalidInput, TooLarge

EVENTS_MAX = 1_000
"""Events of one batch, which is one transaction."""
SINGLE_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
PLAIN_TYPE = "application/json"
MEDIA_TYPES = (SINGLE_TYPE, BATCH_TYPE, PLAIN_TYPE)
"""What is taken: CloudEvents 1.0 in the structured JSON modes, and plain JSON of either shape."""
_SHOWN_MAX = 80


class Body(msgspec.Struct, frozen=True):
    """What a body holds, not yet looked at. ``is_batch``: paths name the place of an event, as in ``[3].data.output``."""

    values: list[Any]
    is_batch: bool


def read_body(body: bytes, media_type: str = PLAIN_TYPE, *, events_max: int = EVENTS_MAX) -> Body:
    """The events of a body of at most ``events_max``.

    Raises ``InvalidInput`` for what cannot be read or has not the shape of its media type, and ``TooLarge``.
    """
    if media_type not in MEDIA_TYPES:
        raise InvalidInput(
            f"send {SINGLE_TYPE}, {BATCH_TYPE} or {PLAIN_TYPE}; got {media_type[:_SHOWN_MAX]!r}"
        )
    value = _decoded(body)
    is_batch = isinstance(value, list)
    if not isinstance(value, list | dict):
        raise InvalidInput("the body must be one event, which is an object, or an array of events")
    if media_type == SINGLE_TYPE and is_batch:
        raise InvalidInput(f"the body is an array of events: send it as {BATCH_TYPE}")
    if media_type == BATCH_TYPE and not is_batch:
        raise InvalidInput(f"the body is no array of events: send a single one as {SINGLE_TYPE}")
    if is_batch and len(value) > events_max:
        raise TooLarge(f"a batch has at most {events_max:,} events, got {len(value):,}: send it in parts")
    return Body(value if isinstance(value, list) else [value], is_batch)


def _decoded(body: bytes) -> object:
    try:
        value: object = msgspec.json.decode(body)
    except msgspec.DecodeError as fault:
        raise InvalidInput(f"the body cannot be read as JSON: {fault}") from None
    except UnicodeDecodeError as fault:
        raise InvalidInput(f"the body is not UTF-8: byte {fault.start + 1}") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deep") from None
    return value
