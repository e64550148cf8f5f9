"""The admin token: what an operator sends with every call of the admin API, and what is kept of it.

A token is ``adm-`` and 43 characters that carry 256 random bits in base 64. Only its SHA-256 is kept; no salt is needed
for 256 random bits. An operator may choose a token instead, which must then be long enough not to be guessed.
"""

import base64
import hashlib
import hmac
import re

import msgspec

from billing.errors import InvalidInput, Unauthenticated

MARK = "adm-"
RANDOM_BYTES = 32
"""Random bytes that :func:`make` consumes."""
LENGTH_MIN = 20
LENGTH_MAX = 512
HASH_LENGTH = 64

_HASH = re.compile(r"[0-9a-f]{64}")
_SCHEME = "bearer "


class NewToken(msgspec.Struct, frozen=True):
    """A token just made. ``text`` is shown to its owner once and kept nowhere; neither repr nor rich print it."""

    text: str
    hash: str

    def __repr__(self) -> str:
        return "<NewToken>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return []


def make(random: bytes) -> NewToken:
    """A token of 32 random bytes; raises ``ValueError`` on another length."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token needs {RANDOM_BYTES} random bytes, got {len(random)}")
    text = MARK + base64.urlsafe_b64encode(random).decode("ascii").rstrip("=")
    return NewToken(text, hash_of(text))


def hash_of(text: str) -> str:
    """SHA-256 of a token's text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def check_text(text: str, where: str = "token") -> str:
    """A token that an operator chose, if it can stand in a header and is not short; raises ``InvalidInput``."""
    if not LENGTH_MIN <= len(text) <= LENGTH_MAX:
        raise InvalidInput(
            f"{where}: a token has {LENGTH_MIN} to {LENGTH_MAX} characters, got {len(text)}", where
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput(f"{where}: a token has no spaces and no characters outside ASCII", where)
    return text


def check_hash(text: str, where: str = "hash") -> str:
    """The hash of a token as a file keeps it; raises ``InvalidInput`` on anything else."""
    if not _HASH.fullmatch(text):
        raise InvalidInput(
            f"{where}: not the hash of a token, which is {HASH_LENGTH} hexadecimal digits", where
        )
    return text


def matches(text: str, stored_hash: str) -> bool:
    """Whether a text is the token of a hash; takes as long for a wrong one as for the right one."""
    return hmac.compare_digest(hash_of(text), stored_hash)


def bearer(header: str | None) -> str:
    """The token inside an ``Authorization`` header; raises ``Unauthenticated`` saying how to send it."""
    if header is None or header[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(f"no admin token was sent; send it as: Authorization: Bearer {MARK}…")
    return header[len(_SCHEME) :].strip()
