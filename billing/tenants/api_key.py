"""API keys: their text, which is shown once, and what is kept of it.

A key is ``sk-``, 8 visible characters, 43 characters that carry 256 random bits in base 62, and 8 hexadecimal digits
of CRC-32 over all before. The visible part names the key in lists and logs and is no secret. The checksum makes a
mistyped or truncated key fail here, before anything is looked up. SHA-256 without salt is enough for 256 random bits.
"""

import hashlib
import re
import zlib
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.clock import to_datetime
from billing.errors import InvalidInput, Unauthenticated

MARK = "sk-"
VISIBLE_LENGTH = 8
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 8
PREFIX_LENGTH = len(MARK) + VISIBLE_LENGTH
KEY_LENGTH = PREFIX_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH

VISIBLE_BYTES = 6
SECRET_BYTES = 32
RANDOM_BYTES = VISIBLE_BYTES + SECRET_BYTES
"""Random bytes that :func:`make` consumes."""

TAGS_MAX = 16
TAG_BYTES_MAX = 128

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MARK_BYTES = MARK.encode()
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_digest = hashlib.sha256
_checksum = zlib.crc32


class KeyState(StrEnum):
    """Whether a key opens the door."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKey(msgspec.Struct, frozen=True):
    """What is kept of a key, beside the hash that only the directory reads."""

    id: UUID
    tenant_id: UUID
    project_id: UUID | None
    name: str
    prefix: str
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None
    last_used_at_us: int | None = None
    tags: dict[str, str] = {}

    def state(self, now_us: int) -> KeyState:
        """Whether the key opens the door at an instant; revoked wins over expired."""
        if self.revoked_at_us is not None and self.revoked_at_us <= now_us:
            return KeyState.REVOKED
        if self.expires_at_us is not None and self.expires_at_us <= now_us:
            return KeyState.EXPIRED
        return KeyState.ACTIVE


class NewKeyText(msgspec.Struct, frozen=True):
    """A key just made. ``text`` is shown to its owner once and kept nowhere; neither repr nor rich print it."""

    text: str
    prefix: str
    hash: bytes

    def __repr__(self) -> str:
        return f"<NewKeyText {self.prefix}…>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("prefix", self.prefix)]


def make(random: bytes) -> NewKeyText:
    """A key of 38 random bytes: 6 for the visible part, 32 for the secret. Raises ``ValueError`` on another length."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes, got {len(random)}")
    prefix = MARK + _base62(random[:VISIBLE_BYTES], VISIBLE_LENGTH)
    body = prefix + _base62(random[VISIBLE_BYTES:], SECRET_LENGTH)
    text = f"{body}{_checksum(body.encode()):08x}"
    return NewKeyText(text, prefix, _digest(text.encode()).digest())


def fingerprint(key: bytes | str) -> bytes | None:
    """SHA-256 of a well-formed key, None for anything else. On the hot path: about a microsecond, no lookup."""
    raw = key.encode("ascii", "replace") if isinstance(key, str) else key
    if len(raw) != KEY_LENGTH or raw[-CHECKSUM_LENGTH:] != b"%08x" % _checksum(raw[:-CHECKSUM_LENGTH]):
        return None
    return _digest(raw).digest() if raw.startswith(_MARK_BYTES) else None


def parse(text: str) -> bytes:
    """SHA-256 of a well-formed key; raises ``Unauthenticated`` with what is wrong, never repeating the key."""
    found = fingerprint(text)
    if found is None:
        raise Unauthenticated(_fault(text))
    return found


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags, if they are few, short and plainly named; raises ``InvalidInput`` naming the tag."""
    if len(tags) > TAGS_MAX:
        raise InvalidInput(f"tags: a key has at most {TAGS_MAX} tags, got {len(tags)}", "tags")
    for name, value in tags.items():
        if not _TAG_NAME.fullmatch(name) or len(name) > TAG_BYTES_MAX:
            raise InvalidInput(
                f"tags: {name[:TAG_BYTES_MAX]!r} is not a tag name; write for example team", "tags"
            )
        if not value.isprintable() or len(value.encode()) > TAG_BYTES_MAX:
            raise InvalidInput(
                f"tags.{name}: a value has at most {TAG_BYTES_MAX} printable bytes", f"tags.{name}"
            )
    return tags


def check_expiry(expires_at_us: int | None, now_us: int) -> int | None:
    """An expiry that lies ahead, or none; raises ``InvalidInput`` on one that has passed."""
    if expires_at_us is not None and expires_at_us <= now_us:
        raise InvalidInput(
            f"expires_at: {to_datetime(expires_at_us):%Y-%m-%dT%H:%M:%SZ} has passed already", "expires_at"
        )
    return expires_at_us


def _fault(text: str) -> str:
    if not text:
        return "no API key was sent; send it as: Authorization: Bearer sk-…"
    if not text.startswith(MARK):
        return f"this is not an API key of this service: its keys begin with {MARK}"
    if not text.isascii() or not text[len(MARK) :].isalnum():
        return (
            "the API key holds characters that no key has: look for quotes, spaces or line breaks around it"
        )
    if len(text) != KEY_LENGTH:
        return f"the API key has {len(text)} characters where every key has {KEY_LENGTH}: it was not copied whole"
    return "the API key's checksum does not fit: it was mistyped or changed"


def _base62(data: bytes, length: int) -> str:
    """The last ``length`` base-62 digits of a number; 43 hold any 256-bit number whole (62^43 > 2^256)."""
    number, digits = int.from_bytes(data, "big"), []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
