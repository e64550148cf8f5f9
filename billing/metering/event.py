"""The facts that a gateway writes about one request, and the usage record they add up to.

``Opened`` is written before the first byte goes to an engine, ``Progress`` at most once a second per stream, ``Closed``
when the outcome is known. The recorder joins them into one :class:`UsageRecord` per id (P1). No text of a prompt or an
answer is in any of them (P13). They are stored as msgpack arrays: fields may be appended with a default, never moved.
"""

import hashlib
from uuid import UUID

import msgspec

from billing.ids import instant_of
from billing.tokens.usage import UNKNOWN, Outcome, TokenUsage

DIALECT = "openai"
"""The dialect of entries that were written before it was a field."""
_OPENED_FIRST = 14
"""Fields of an open entry as they first were."""


class Opened(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="open"):
    """A request was admitted and is about to go to an engine. ``id`` is the usage id, a UUIDv7 made at arrival."""

    id: UUID
    tenant_id: UUID
    project_id: UUID | None
    key_id: UUID | None
    """None of usage that did not pass the gateway, as is ``backend_id``."""
    model: str
    """The public model name that the caller asked for, resolved from an alias: what is priced."""
    backend_id: UUID | None
    engine: str
    operation: str
    """A word of ``billing.tokens.operation.Operation``."""
    stream: bool
    input_estimate: int | None = None
    """Tokens of input guessed from the body's size; shown, never billed, when no count ever came."""
    end_user: str | None = None
    idempotency_key: str | None = None
    tags: dict[str, str] = {}
    service_tier: str = "standard"
    dialect: str = DIALECT
    """A word of ``billing.tokens.operation.Dialect``."""


class Progress(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="progress"):
    """What is known of a stream so far, from the engine's running counts."""

    id: UUID
    usage: TokenUsage
    duration_us: int
    ttft_us: int | None = None


class Closed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="close"):
    """How a request ended and what it used. Durations are microseconds since arrival."""

    id: UUID
    outcome: Outcome
    status: int
    """The HTTP status that the caller was sent; 499 when the caller left before any was."""
    usage: TokenUsage
    duration_us: int
    ttft_us: int | None = None
    """Arrival to the first generated token seen (reasoning or answer)."""
    itl_us: int | None = None
    """Mean time per output token after the first: (last − first) / (n − 1)."""
    response_model: str | None = None
    response_id: str | None = None
    error: str | None = None
    """A short code of our own (``upstream_timeout``), never text of the engine."""
    ttfa_us: int | None = None
    """Arrival to the first token of the answer seen, after any reasoning."""
    gap_max_us: int | None = None
    """The longest time between two events with generated text; one event may hold several tokens."""
    overhead_us: int | None = None
    """Arrival to the request's leaving for the engine: what the gateway and its limits cost."""


Entry = Opened | Progress | Closed


class UsageRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request, once: the durable fact that everything else is computed from. It holds no price and no cost."""

    opened: Opened
    outcome: Outcome
    status: int
    usage: TokenUsage
    duration_us: int | None
    ttft_us: int | None
    itl_us: int | None
    response_model: str | None
    response_id: str | None
    error: str | None
    ttfa_us: int | None = None
    gap_max_us: int | None = None
    overhead_us: int | None = None

    @property
    def id(self) -> UUID:
        """The usage id."""
        return self.opened.id

    @property
    def at_us(self) -> int:
        """The record's time: the time inside its id, in microseconds. Bucket, period and price follow it."""
        return instant_of(self.opened.id)


def settle(opened: Opened, closed: Closed) -> UsageRecord:
    """The record of a request whose end is known; raises ``ValueError`` when the two ids differ."""
    if opened.id != closed.id:
        raise ValueError(f"close entry {closed.id} does not belong to open entry {opened.id}")
    return UsageRecord(
        opened=opened,
        outcome=closed.outcome,
        status=closed.status,
        usage=closed.usage,
        duration_us=closed.duration_us,
        ttft_us=closed.ttft_us,
        itl_us=closed.itl_us,
        response_model=closed.response_model,
        response_id=closed.response_id,
        error=closed.error,
        ttfa_us=closed.ttfa_us,
        gap_max_us=closed.gap_max_us,
        overhead_us=closed.overhead_us,
    )


INTERRUPTED_STATUS = 0
"""Nobody knows what status the caller saw when the gateway died."""


def interrupt(opened: Opened, progress: Progress | None) -> UsageRecord:
    """The record of a request whose gateway died: the last progress, and null for what is not known."""
    usage = progress.usage if progress else TokenUsage(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    return UsageRecord(
        opened=opened,
        outcome=Outcome.INTERRUPTED,
        status=INTERRUPTED_STATUS,
        usage=usage,
        duration_us=progress.duration_us if progress else None,
        ttft_us=progress.ttft_us if progress else None,
        itl_us=None,
        response_model=None,
        response_id=None,
        error="gateway_died",
    )


def payload_hash(record: UsageRecord) -> bytes:
    """16 bytes of SHA-256 over the record's canonical bytes: equal is a duplicate, different is a conflict.

    The bytes are those of the fields as they first were, and of a later field only where it says something: a record
    that was stored before the field existed has the same hash when its spool is read again.
    """
    opened, usage = record.opened, record.usage
    first = _encode((
        ("open", *msgspec.structs.astuple(opened)[:_OPENED_FIRST]),
        record.outcome, record.status, (usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning),
        record.duration_us, record.ttft_us, record.itl_us, record.response_model, record.response_id, record.error,
    ))  # fmt: skip
    added = (
        opened.dialect if opened.dialect != DIALECT else None, usage.parts or None, record.ttfa_us, record.gap_max_us,
        record.overhead_us,
    )  # fmt: skip
    if any(value is not None for value in added):
        first += _encode(added)
    return hashlib.sha256(first).digest()[:16]


_encode = msgspec.msgpack.Encoder(order="sorted").encode
encode_entry = msgspec.msgpack.Encoder().encode
"""Bytes of an entry, as they stand in a spool."""
decode_entry = msgspec.msgpack.Decoder(Entry).decode
"""The entry of its bytes; raises ``msgspec.DecodeError`` on anything else."""
