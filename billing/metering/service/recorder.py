"""The recorder: from every spool of this host to usage records and rollups, exactly once.

Exactly once, because the cursor moves in the transaction that inserts, under the lock of the cursor's row. Whatever
fails, the state in memory is thrown away and read again from the cursor.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.errors import Unavailable
from billing.infra.postgres import Connection, Database
from billing.metering import store
from billing.metering.journal import Batch, Cursor, Journal, Reason, Rejected, reject
from billing.metering.rows import Row, sort_out
from billing.metering.segment import Damage, Framed
from billing.metering.service.housekeeping import Housekeeper, Kept
from billing.metering.spool import SpoolReader
from billing.metering.spool.folder import remove_reserve, spool_folders
from billing.metering.store import RowsRefusedError
from billing.metering.stored import SpoolRow
from billing.settings import Settings

SPOOLS_AT_ONCE = 2
"""Spools that ship at the same time: one prepares a batch while Postgres works on the other's."""
BATCHES_PER_TURN_MAX = 8
"""Batches that one spool ships before the others and the housekeeping have their turn."""
REFRESH_INTERVAL_S = 30
"""How often the cursors of finished spools are compared: a database restored from a backup knows less than the files."""
THROUGH_INTERVAL_S = 1
"""How often idle spools say through which arrivals they are recorded: a close waits for it."""
PARTITIONS_INTERVAL_S = 24 * 3600
PARTITIONS_RETRY_S = 60

_log = logging.getLogger(__name__)


class Counters(msgspec.Struct):
    """What a recorder has done since it started."""

    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    interrupted: int = 0
    retries: int = 0
    corrupt: int = 0
    """Stretches of bytes that are no entry, entries of an unknown kind, and files that the disk refuses to read."""
    overtaken: int = 0
    """Batches given up because another recorder moved the cursor first."""


class CursorMovedError(Exception):
    """The cursor row is not where this recorder left it."""


class _Spool:
    """One spool as this recorder sees it. ``journal`` None: its cursor has to be read first."""

    def __init__(self, spool_id: UUID, folder: Path) -> None:
        self.id = spool_id
        self.reader = SpoolReader(folder)
        self.cursor = Cursor()
        self.journal: Journal | None = None
        self.waiting: deque[Framed | Damage] = deque()
        self.is_dead = False
        self.is_closed = False
        self.is_unreadable = False
        self.read_us: int | None = None
        """Just before the read began that reached the end of what was written, if all of that is shipped."""

    def load(self, row: SpoolRow) -> None:
        """Start again from what the database says."""
        self.cursor = row.cursor
        self.is_closed = row.closed_us is not None
        self.journal = None if self.is_closed else Journal(self.id, row.cursor)

    def through_us(self, read_us: int | None) -> int | None:
        """The instant before which every request has its record, when all that was written at ``read_us`` is shipped."""
        if read_us is None or self.journal is None:
            return None
        oldest_us = self.journal.oldest_open_us
        return read_us if oldest_us is None else min(read_us, oldest_us)

    def kept(self) -> Kept:
        """What may be removed of it."""
        return Kept(self.id, self.reader.folder, self.cursor, self.is_closed)

    def forget(self) -> None:
        """Throw away what is in memory: the cursor says where to read on."""
        self.journal = None
        self.read_us = None
        self.waiting.clear()
        self.reader.close()


class _Recorded(msgspec.Struct):
    """What one transaction did, counted after its commit."""

    inserted: int = 0
    interrupted: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = []


class Recorder:
    """Ships the spools below ``spool_root``. Several may run: a spool's cursor row lets one at a time through.

    ``has_backlog`` says that the last look found more than it shipped.
    """

    def __init__(
        self, database: Database, spool_root: Path, settings: Settings, clock: Clock, host: str
    ) -> None:
        self.counters = Counters()
        self.has_backlog = False
        self._database = database
        self._root = spool_root
        self._settings = settings
        self._clock = clock
        self._host = host
        self._spools: dict[UUID, _Spool] = {}
        self._slots = asyncio.Semaphore(SPOOLS_AT_ONCE)
        self._refresh_due_us = 0
        self._housekeeper = Housekeeper(settings.spool)
        self._partitions_due_us = 0
        self._through_due_us = 0

    def __repr__(self) -> str:
        active = sum(not spool.is_closed for spool in self._spools.values())
        counted = " ".join(f"{name}={value}" for name, value in msgspec.structs.asdict(self.counters).items())
        state = "behind" if self.has_backlog else "level"
        return f"<Recorder {self._host} {state} spools={active}/{len(self._spools)} {counted}>"

    async def run_once(self) -> int:
        """Look at every spool once and return how many records were written.

        Raises ``Unavailable`` when Postgres is away for any of them, after all had their turn.
        """
        self.has_backlog = False
        try:
            await self._discover()
            await self._keep_partitions()
            active = [spool for spool in self._spools.values() if not spool.is_closed]
            results = await asyncio.gather(*map(self._drain, active), return_exceptions=True)
            results += await asyncio.gather(self._keep_through(), return_exceptions=True)
        finally:
            # Also while Postgres is away: what is recorded must not take room from what is not.
            kept = [spool.kept() for spool in self._spools.values()]
            self._housekeeper.keep(kept, self._clock())
        for result in results:
            if isinstance(result, BaseException):
                self.has_backlog = False
                raise result
        return sum(result for result in results if isinstance(result, int))

    def close(self) -> None:
        """Close the files being read. Nothing is lost: the cursor says where to read on."""
        for spool in self._spools.values():
            spool.forget()

    async def _discover(self) -> None:
        """Find new spools, and read the cursor of each whose place is not known."""
        found = spool_folders(self._root)
        for spool_id in self._spools.keys() - found.keys():
            self._spools.pop(spool_id).forget()
        for spool_id in found.keys() - self._spools.keys():
            self._spools[spool_id] = _Spool(spool_id, found[spool_id])
        is_due = self._clock() >= self._refresh_due_us
        unknown = [s.id for s in self._spools.values() if s.journal is None and (is_due or not s.is_closed)]
        if not unknown:
            return
        async with self._database.transaction() as connection:
            rows = await store.spools_register(connection, unknown, self._host, self._clock())
        for row in rows:
            self._spools[row.id].load(row)
        if is_due:
            self._refresh_due_us = self._clock() + REFRESH_INTERVAL_S * MICROSECONDS_PER_SECOND

    async def _keep_partitions(self) -> None:
        now_us = self._clock()
        if now_us < self._partitions_due_us:
            return
        delay_s = PARTITIONS_INTERVAL_S
        try:
            async with self._database.transaction() as connection:
                made = await store.partitions_ensure(connection, now_us)
            if made:
                _log.info("made %d partitions of usage_record", made)
        except Unavailable as fault:
            # Months of partitions lie ahead, so recording goes on; without Postgres it fails by itself.
            self.counters.retries += 1
            delay_s = PARTITIONS_RETRY_S
            _log.warning("partitions could not be made, next try in %d s: %s", delay_s, fault)
        self._partitions_due_us = now_us + delay_s * MICROSECONDS_PER_SECOND

    async def _keep_through(self) -> int:
        """Say for idle spools through which arrivals they are recorded: one statement for all of this host; no records."""
        now_us = self._clock()
        if now_us < self._through_due_us:
            return 0
        self._through_due_us = now_us + THROUGH_INTERVAL_S * MICROSECONDS_PER_SECOND
        looked = [
            (spool.id, spool.cursor, spool.through_us(spool.read_us)) for spool in self._spools.values()
        ]
        seen = [
            (spool_id, cursor, through_us)
            for spool_id, cursor, through_us in looked
            if through_us is not None
        ]
        if seen:
            async with self._database.transaction() as connection:
                await store.through_move(connection, seen)
        return 0

    async def _drain(self, spool: _Spool) -> int:
        """Ship what one spool holds; its trouble is its own."""
        async with self._slots:
            try:
                shipped = await self._drain_batches(spool)
            except CursorMovedError:
                self.counters.overtaken += 1
                spool.forget()
                return 0
            except OSError as fault:
                spool.forget()
                self._note_unreadable(spool, fault)
                return 0
            except BaseException:
                # Whether the commit happened is not known: the cursor says. The caller handles what this is.
                spool.forget()
                raise
        spool.is_unreadable = False
        return shipped

    def _note_unreadable(self, spool: _Spool, fault: OSError) -> None:
        # Said once and not at every look. A folder that is gone was finished, and cleared away by another recorder.
        if not spool.is_unreadable and spool.reader.folder.exists():
            spool.is_unreadable = True
            self.counters.corrupt += 1
            _log.error("%r cannot be read, the others go on: %s", spool.reader, fault)

    async def _drain_batches(self, spool: _Spool) -> int:
        shipped = 0
        for _ in range(BATCHES_PER_TURN_MAX):
            read_us = self._clock()
            batch, is_full = await self._next_batch(spool)
            # Of a full batch it is not known whether it was all.
            at_end_us = None if is_full else read_us
            if batch is not None:
                shipped += await self._ship(spool, batch, spool.through_us(at_end_us))
            spool.read_us = at_end_us
            if batch is None or batch.is_last or not is_full:
                return shipped
        self.has_backlog = True
        return shipped

    async def _next_batch(self, spool: _Spool) -> tuple[Batch | None, bool]:
        """The next batch, if there is anything to commit, and whether it is a full one."""
        journal = spool.journal
        if journal is None:
            return None, False
        count_max = self._settings.recorder.batch_records_max
        # Asked before reading: what is read after the writer's death is all there will ever be.
        spool.is_dead = spool.is_dead or spool.reader.is_dead()
        at_end = await self._read(spool, journal, count_max)
        is_dead = at_end and spool.is_dead
        interrupted = journal.interrupt(count_max - len(journal)) if is_dead else 0
        if not (len(journal) or is_dead):
            return None, False
        is_full = len(journal) >= count_max
        return journal.take(is_dead=is_dead, interrupted=interrupted), is_full

    async def _read(self, spool: _Spool, journal: Journal, count_max: int) -> bool:
        """Feed the journal until a batch is full; True when everything written so far has been read."""
        while len(journal) < count_max:
            if not spool.waiting:
                spool.waiting.extend(spool.reader.read(journal.position).found)
                await asyncio.sleep(0)
            if not spool.waiting:
                return True
            found = spool.waiting.popleft()
            if isinstance(found, Damage):
                self.counters.corrupt += 1
                _log.error("%r: bytes %d to %d are no entries", spool.reader, found.start, found.end)
            journal.feed(found)
        return False

    async def _ship(self, spool: _Spool, batch: Batch, through_us: int | None) -> int:
        """Record a batch and move the cursor in one transaction. Raises ``CursorMovedError`` when it is not where we left it."""
        now_us = self._clock()
        async with self._database.transaction() as connection:
            if await store.cursor_lock(connection, spool.id) != batch.before:
                raise CursorMovedError
            recorded = await self._record(connection, spool.id, batch, now_us)
            closed_us = now_us if batch.is_last else None
            await store.cursor_move(connection, spool.id, batch.after, closed_us, through_us)
        self._count(recorded, batch)
        spool.cursor = batch.after
        if batch.is_last:
            spool.is_closed = True
            spool.forget()
            remove_reserve(spool.reader.folder)
        return recorded.inserted

    async def _record(self, connection: Connection, spool_id: UUID, batch: Batch, now_us: int) -> _Recorded:
        recorded = _Recorded(rejected=list(batch.rejected))
        if batch.records:
            tenant_ids = {record.opened.tenant_id for record in batch.records}
            collections = await store.collections_read(connection, list(tenant_ids))
            partitions = await store.partitions_covered(connection)
            divided = sort_out(batch.records, collections, partitions)
            recorded.duplicates = divided.duplicates
            recorded.rejected += divided.rejected
            await self._insert(connection, spool_id, divided.rows, now_us, recorded)
        if recorded.rejected:
            await store.quarantine(connection, recorded.rejected, spool_id, now_us)
        return recorded

    async def _insert(
        self, connection: Connection, spool_id: UUID, rows: Sequence[Row], now_us: int, recorded: _Recorded
    ) -> None:
        """Insert rows, halving the batch around each that Postgres refuses, so that one bad value keeps nobody back."""
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                present = await store.records_insert(connection, part, spool_id, now_us) if part else set()
            except RowsRefusedError as fault:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                else:
                    recorded.rejected.append(reject(part[0].record, Reason.REFUSED, str(fault)))
                continue
            recorded.inserted += len(part) - len(present)
            if present:
                await self._compare(connection, [row for row in part if row.key in present], recorded)

    async def _compare(self, connection: Connection, skipped: Sequence[Row], recorded: _Recorded) -> None:
        """Tell duplicates from conflicts among the records whose ids were there already."""
        stored = await store.hashes_read(connection, skipped)
        for row in skipped:
            if stored.get(row.key) == row.hash:
                recorded.duplicates += 1
            else:
                recorded.rejected.append(reject(row.record, Reason.CONFLICT))

    def _count(self, recorded: _Recorded, batch: Batch) -> None:
        counters = self.counters
        counters.recorded += recorded.inserted
        counters.duplicates += recorded.duplicates
        counters.interrupted += batch.interrupted
        counters.quarantined += len(recorded.rejected)
        for rejected in recorded.rejected:
            counters.conflicts += rejected.reason == Reason.CONFLICT
            counters.corrupt += rejected.reason == Reason.UNREADABLE
            _log.error("quarantined %s of tenant %s: %s %s", rejected.id, rejected.tenant_id, rejected.reason, rejected.detail)  # fmt: skip
