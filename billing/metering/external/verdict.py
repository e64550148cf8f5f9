"""What became of an event: the answer to its sender."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.errors import InvalidInput

REASON_LENGTH_MAX = 400
ECHO_LENGTH_MAX = 80
"""Of a source or an id that was refused so much is repeated."""


class Word(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    """Recorded now, once."""
    DUPLICATE = "duplicate"
    """The same event once more: it was recorded before, and nothing changed."""
    CONFLICT = "conflict"
    """An event of this source and id says something else: nothing changed, and the audit log has it."""
    REJECTED = "rejected"
    """It cannot be recorded as it is; ``reason`` says why. Nothing changed."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of one event. ``usage_id`` names the record of this source and id, unless there is none."""

    verdict: Word
    source: str | None = None
    id: str | None = None
    usage_id: UUID | None = None
    reason: str | None = None
    param: str | None = None
    """The member that ``reason`` is about, by its path in the body: ``[3].data.output``."""


def rejected(fault: InvalidInput, value: object) -> Verdict:
    """The verdict on an event that cannot be recorded, with as much of its name as can be read."""
    members = value if isinstance(value, dict) else {}
    return Verdict(
        Word.REJECTED,
        source=_echo(members.get("source")),
        id=_echo(members.get("id")),
        reason=str(fault)[:REASON_LENGTH_MAX],
        param=None if fault.param is None else fault.param[:REASON_LENGTH_MAX],
    )


def counted(verdicts: Iterable[Verdict]) -> dict[Word, int]:
    """How many events got each word; every word is there."""
    found = Counter(each.verdict for each in verdicts)
    return {word: found[word] for word in Word}


def _echo(value: object) -> str | None:
    return value[:ECHO_LENGTH_MAX] if isinstance(value, str) else None
