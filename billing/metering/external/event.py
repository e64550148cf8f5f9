"""An event of usage, as it is sent (CloudEvents 1.0) and checked member by member before anything is asked of a database.

Whoever counts outside tells counts once, for good: so what is not understood is refused by name instead of ignored, and
counts that contradict each other are refused instead of cut. In the envelope CloudEvents allows attributes of others
(``traceparent``), which are ignored, unless one has the name of a member of ``data``: that is a count in a wrong place.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.errors import InvalidInput
from billing.metering.external.data import UsageData, kind_of, read_data
from billing.pricing.instant import OutOfYears, parse_instant
from billing.tenants.tenant import check_slug, shown

SPECVERSION = "1.0"
TYPE = "billing.usage.v1"
DATA_TYPES = ("application/json",)
SOURCE_BYTES_MAX = 512
ID_BYTES_MAX = 256
"""Both stand in one index entry, which Postgres limits to about 2,700 bytes."""
FUTURE_MAX_S = 300
"""How far a sender's clock may be ahead of this machine's."""
AGE_MAX_DAYS = 730
"""How old usage may be: a month that no record was of costs a partition."""
EXTENSIONS_MAX = 32
EXTENSION_NAME_LENGTH_MAX = 64

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EXTENSION = re.compile(rf"[a-z0-9]{{1,{EXTENSION_NAME_LENGTH_MAX}}}")
_DAY_S = 24 * 3600

_ATTRIBUTES = frozenset({
    "specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data",
})  # fmt: skip
_EXAMPLES = {
    "specversion": "1.0", "id": "job-17/step-3", "source": "/trainers/job-17", "type": TYPE,
    "time": "2026-11-24T10:00:00Z", "subject": "acme, the slug of the tenant",
}  # fmt: skip


class ExternalEvent(msgspec.Struct, frozen=True):
    """Usage that did not pass the gateway. ``source`` and ``id`` name it among the events of its tenant for ever."""

    tenant: str
    source: str
    id: str
    at_us: int
    data: UsageData

    def __repr__(self) -> str:
        return f"<ExternalEvent {self.source!r} {self.id!r} of {self.tenant}>"


def payload_hash(event: ExternalEvent) -> bytes:
    """16 bytes of SHA-256 over what an event says: equal is a duplicate, different is a conflict.

    How it was written (order, spaces, an offset instead of Z, a default that is told) makes no difference.
    """
    return _digest((event.at_us, event.data))


def usage_id_bytes(event: ExternalEvent, tenant_id: UUID) -> bytes:
    """10 bytes for the event's usage id, always the same: in a restored database an event has the id it had before."""
    return _digest((tenant_id.bytes, event.source, event.id))[:10]


def read_event(value: object, where: str, now_us: int) -> ExternalEvent:
    """The event that a decoded JSON value is. ``where`` is its place in the body: ``[3]``, or nothing for a single one.

    Raises ``InvalidInput`` naming the member by its path.
    """
    if not isinstance(value, dict):
        raise InvalidInput(
            f"{where or 'the body'}: an event is an object, got {kind_of(value)}", where or None
        )
    prefix = f"{where}." if where else ""
    _check_extensions(value, prefix)
    texts = {name: _text(value, name, prefix) for name in _EXAMPLES}
    _check_constant(texts, "specversion", SPECVERSION, prefix)
    _check_constant(texts, "type", TYPE, prefix)
    _check_length(texts["source"], f"{prefix}source", SOURCE_BYTES_MAX)
    _check_length(texts["id"], f"{prefix}id", ID_BYTES_MAX)
    _check_data_type(value.get("datacontenttype"), f"{prefix}datacontenttype")
    return ExternalEvent(
        tenant=check_slug(texts["subject"], f"{prefix}subject"),
        source=texts["source"],
        id=texts["id"],
        at_us=_instant(texts["time"], f"{prefix}time", now_us),
        data=read_data(value.get("data"), f"{prefix}data"),
    )


def _text(members: Mapping[str, Any], name: str, prefix: str) -> str:
    """A required attribute, which is text that can be printed."""
    where, text = f"{prefix}{name}", members.get(name)
    if text is None:
        raise InvalidInput(f"{where}: missing; write for example {_EXAMPLES[name]}", where)
    if not isinstance(text, str):
        raise InvalidInput(f"{where}: must be text, got {kind_of(text)}", where)
    if not text.strip() or not text.isprintable():
        raise InvalidInput(f"{where}: must be printable text and not empty", where)
    return text


def _check_constant(texts: Mapping[str, str], name: str, wanted: str, prefix: str) -> None:
    if texts[name] != wanted:
        where = f"{prefix}{name}"
        raise InvalidInput(f"{where}: {shown(texts[name])} is not known; it must be {wanted}", where)


def _check_length(text: str, where: str, bytes_max: int) -> None:
    length = len(text.encode())
    if length > bytes_max:
        raise InvalidInput(f"{where}: at most {bytes_max} bytes, got {length}", where)


def _check_data_type(value: object, where: str) -> None:
    if value is None:
        return
    if not isinstance(value, str) or value.partition(";")[0].strip().lower() not in DATA_TYPES:
        raise InvalidInput(f"{where}: data must be {DATA_TYPES[0]}", where)


def _check_extensions(members: Mapping[str, Any], prefix: str) -> None:
    """That what is no attribute of ours can be one of others; it is ignored then."""
    names = [name for name in members if name not in _ATTRIBUTES]
    if len(names) > EXTENSIONS_MAX:
        where = prefix.removesuffix(".") or None
        raise InvalidInput(
            f"{prefix}: at most {EXTENSIONS_MAX} extension attributes, got {len(names)}", where
        )
    for name in names:
        where = f"{prefix}{name}"
        if name in UsageData.__struct_fields__:
            raise InvalidInput(f"{where}: belongs inside data", where)
        if name == "data_base64":
            raise InvalidInput(f"{where}: send JSON as data", where)
        if not _EXTENSION.fullmatch(name) or not isinstance(members[name], str | int | None):
            raise InvalidInput(
                f"{prefix}{shown(name)[1:-1]}: unknown, and no extension attribute of CloudEvents, whose names are small "
                "letters and digits and whose values are text, whole numbers or booleans",
                where,
            )


def _instant(text: str, where: str, now_us: int) -> int:
    """The time of the usage; raises ``InvalidInput`` when it is ahead, or older than a record may be."""
    written = text.upper()
    try:
        at_us = parse_instant(written) if _TIME.fullmatch(written) else None
    except OutOfYears as fault:
        raise InvalidInput(f"{where}: {shown(text)} {fault}", where) from None
    except ValueError:
        at_us = None
    if at_us is None:
        raise InvalidInput(
            f"{where}: {shown(text)} is not an instant of RFC 3339; write for example {_EXAMPLES['time']}",
            where,
        )
    if at_us > now_us + FUTURE_MAX_S * MICROSECONDS_PER_SECOND:
        raise InvalidInput(
            f"{where}: {text} is more than {FUTURE_MAX_S} s ahead of this server's clock", where
        )
    if at_us < now_us - AGE_MAX_DAYS * _DAY_S * MICROSECONDS_PER_SECOND:
        raise InvalidInput(f"{where}: {text} is more than {AGE_MAX_DAYS} days ago", where)
    return at_us


def _digest(value: object) -> bytes:
    return hashlib.sha256(_encode(value)).digest()[:16]


_encode = msgspec.msgpack.Encoder(order="sorted").encode
