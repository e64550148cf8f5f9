"""What a recorder knows of one spool: requests that are open, and the records that follow from what it read.

A plain state in memory, without I/O: entries go in by position, batches come out. It can be thrown away at any time and
rebuilt from the cursor row by reading again from ``oldest_open``.
"""

import hashlib
from uuid import UUID

import msgspec

from billing.metering.event import (
    Closed,
    Opened,
    Progress,
    UsageRecord,
    decode_entry,
    encode_entry,
    interrupt,
    settle,
)
from billing.metering.segment import Damage, Framed

NO_TENANT = UUID(int=0)
"""Tenant of a rejected entry that names none."""


class Reason:
    """Why something stands in quarantine."""

    CONFLICT = "conflict"
    OUTSIDE_PARTITIONS = "outside_partitions"
    UNKNOWN_TENANT = "unknown_tenant"
    REFUSED = "refused"
    CLOSE_WITHOUT_OPEN = "close_without_open"
    UNREADABLE = "unreadable"
    DAMAGE = "damage"


class Rejected(msgspec.Struct, frozen=True):
    """Something that did not become a usage record, kept whole: ``payload`` is its bytes as they stood or would have."""

    tenant_id: UUID
    id: UUID
    reason: str
    detail: str
    payload: bytes

    @property
    def payload_hash(self) -> bytes:
        """16 bytes of SHA-256: the same thing found again is the same row."""
        return _digest(self.payload)


class Cursor(msgspec.Struct, frozen=True):
    """How far a spool is recorded: closes before ``shipped_through`` are, opens before ``oldest_open`` have ended."""

    shipped_through: int = 0
    oldest_open: int = 0


class Batch(msgspec.Struct, frozen=True):
    """What one transaction records, and the cursor before and after it. ``is_last``: nothing will ever follow."""

    before: Cursor
    after: Cursor
    records: list[UsageRecord]
    rejected: list[Rejected]
    interrupted: int
    """How many of the records are of requests whose gateway died."""
    is_last: bool
    """Nothing will ever follow: the writer is dead, all is read, and what was open is among the records."""


class Journal:
    """The state of one spool between batches. ``position`` is where to read on."""

    def __init__(self, spool_id: UUID, cursor: Cursor) -> None:
        self._spool_id = spool_id
        self.position = cursor.oldest_open
        self._cursor = cursor
        self._opens: dict[UUID, tuple[int, Opened]] = {}
        self._progress: dict[UUID, Progress] = {}
        self._records: list[UsageRecord] = []
        self._rejected: list[Rejected] = []

    def __repr__(self) -> str:
        return f"<Journal position={self.position} open={len(self._opens)} waiting={len(self)}>"

    def __len__(self) -> int:
        """How many results wait for a batch. A cursor that would move over open entries alone is not worth a commit."""
        return len(self._records) + len(self._rejected)

    @property
    def oldest_open_us(self) -> int | None:
        """The arrival of the oldest request that is open, from its id; None when none is.

        Entries that were carried forward stand out of order, so all are looked at, by their integers: 40 ns each.
        """
        oldest = min((usage_id.int for usage_id in self._opens), default=None)
        return None if oldest is None else (oldest >> 80) * 1_000

    def feed(self, found: Framed | Damage) -> None:
        """Take the next thing found in the spool; what is shipped already only brings the open requests up to date."""
        is_new = found.start >= self._cursor.shipped_through
        self.position = found.end
        if isinstance(found, Damage):
            if is_new:
                self._reject(NO_TENANT, None, Reason.DAMAGE, f"{found.start} to {found.end}", found.payload)
            return
        try:
            entry = decode_entry(found.payload)
        except msgspec.DecodeError:
            if is_new:
                self._reject(NO_TENANT, None, Reason.UNREADABLE, str(found.start), found.payload)
            return
        self._take(entry, found.start, is_new=is_new)

    def interrupt(self, count_max: int) -> int:
        """The writer is dead and all is read: make records of what is still open, oldest first. Returns how many."""
        chosen = list(self._opens.items())[:count_max]
        for usage_id, (_, opened) in chosen:
            del self._opens[usage_id]
            self._records.append(interrupt(opened, self._progress.pop(usage_id, None)))
        return len(chosen)

    def take(self, *, is_dead: bool = False, interrupted: int = 0) -> Batch:
        """All results so far as one batch; the last one when the writer is dead and nothing is open any more."""
        through = max(self.position, self._cursor.shipped_through)
        oldest = next((start for start, _ in self._opens.values()), through)
        after = Cursor(through, min(oldest, through))
        is_last = is_dead and not self._opens
        batch = Batch(self._cursor, after, self._records, self._rejected, interrupted, is_last)
        self._cursor, self._records, self._rejected = after, [], []
        return batch

    def _take(self, entry: Opened | Progress | Closed, start: int, *, is_new: bool) -> None:
        if isinstance(entry, Opened):
            # A long request's open entry is written again; the later copy stands, at the end of the order.
            self._opens.pop(entry.id, None)
            self._opens[entry.id] = (start, entry)
        elif isinstance(entry, Progress):
            if entry.id in self._opens:
                self._progress[entry.id] = entry
        else:
            self._close(entry, is_new=is_new)

    def _close(self, entry: Closed, *, is_new: bool) -> None:
        _, opened = self._opens.pop(entry.id, (0, None))
        self._progress.pop(entry.id, None)
        if not is_new:
            return
        if opened is None:
            self._reject(NO_TENANT, entry.id, Reason.CLOSE_WITHOUT_OPEN, "", encode_entry(entry))
        else:
            self._records.append(settle(opened, entry))

    def _reject(
        self, tenant_id: UUID, usage_id: UUID | None, reason: str, detail: str, payload: bytes
    ) -> None:
        # What has no id gets one of its place and bytes, so that finding it again makes no second row.
        place = self._spool_id.bytes + detail.encode() + payload
        made = usage_id or UUID(bytes=_digest(place))
        self._rejected.append(Rejected(tenant_id, made, reason, detail, payload))


def reject(record: UsageRecord, reason: str, detail: str = "") -> Rejected:
    """A usage record that the database cannot take, for quarantine, with its whole bytes."""
    return Rejected(record.opened.tenant_id, record.id, reason, detail, _encode(record))


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:16]


_encode = msgspec.msgpack.Encoder(order="sorted").encode
