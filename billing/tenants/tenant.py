"""Who is billed."""

import re
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.errors import InvalidInput

SLUG_LENGTH_MAX = 63
NAME_LENGTH_MAX = 200
DEFAULT_TIMEZONE = "UTC"

_SLUG = re.compile(r"[a-z][a-z0-9-]{1,62}")


class TenantStatus(StrEnum):
    """Whether a tenant is served."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Tenant(msgspec.Struct, frozen=True):
    """A customer: everything it uses ends on its invoice. ``slug`` is its name in commands and addresses."""

    id: UUID
    slug: str
    name: str
    created_at_us: int
    timezone: str = DEFAULT_TIMEZONE
    status: TenantStatus = TenantStatus.ACTIVE
    collection: int = 1
    """The number that late usage is told apart by; a period's close raises it (design.md §7)."""
    synthetic: bool = False
    """Whether it and all its usage were made up by `billing seed`."""


def check_slug(text: str, where: str = "slug") -> str:
    """A slug as it must be written; raises ``InvalidInput`` naming ``where``."""
    if not _SLUG.fullmatch(text):
        raise InvalidInput(
            f"{where}: {shown(text)} is not a slug; write 2 to {SLUG_LENGTH_MAX} small letters, digits and hyphens, "
            "beginning with a letter, for example acme-research",
            where,
        )
    return text


def check_name(text: str, where: str = "name") -> str:
    """A name for people, without spaces at its ends; raises ``InvalidInput`` naming ``where``.

    Control characters are refused: a name is printed on invoices and in terminals.
    """
    name = text.strip()
    if not name:
        raise InvalidInput(f"{where}: a name cannot be empty", where)
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidInput(
            f"{where}: a name has at most {NAME_LENGTH_MAX} characters, got {len(name)}", where
        )
    if not name.isprintable():
        raise InvalidInput(f"{where}: a name cannot hold line breaks or control characters", where)
    return name


def shown(text: str, length_max: int = 80) -> str:
    """What was sent, quoted and cut to a length that fits a message."""
    return repr(text) if len(text) <= length_max else f"{text[:length_max]!r}…"
