"""The gateway's end of a spool."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec

from billing.errors import InvalidInput, SpoolFull, Unavailable
from billing.infra.group_commit import GroupCommit, Sync
from billing.metering.event import Closed, Opened, Progress, encode_entry
from billing.metering.segment import ENTRY_BYTES_MAX, HEADER_BYTES, frame, segment_name
from billing.metering.spool.folder import LOCK, RESERVE, SUFFIX, segments, sync_directory
from billing.settings import SpoolSettings

ROOM_CHECK_INTERVAL_S = 1.0
"""How often a full spool looks whether the recorder has removed segments."""
CLOSE_BYTES = 512
"""What the reserve holds ready for the end of each open request; most close entries take a third of it."""
CARRIED_SHARE = 4
"""At most a quarter of a new segment is copies of requests that are still open."""

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

Write = Callable[[int, bytes, int], int]


class Spool:
    """The writer's end. One per worker process, made after the fork, used from one event loop.

    ``write`` and ``sync`` are the system calls, ``monotonic`` a clock in seconds; tests hand over their own.
    """

    def __init__(self, folder: Path, lock: int, settings: SpoolSettings, monotonic: Callable[[], float],
                 write: Write, sync: Sync) -> None:  # fmt: skip
        self._path = str(folder)
        self._lock = lock
        self._settings = settings
        self._monotonic = monotonic
        self._write = write
        self._open_bytes_max = settings.bytes_max - settings.reserve_bytes
        self._open_count_max = settings.reserve_bytes // CLOSE_BYTES
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._segment = os.open(folder / segment_name(0), os.O_WRONLY | os.O_CLOEXEC)
        self._segment_start = 0
        self._position = 0
        self._used = 0
        self._room_checked_s = -ROOM_CHECK_INTERVAL_S
        self._in_flight: dict[UUID, tuple[int, bytes, bytes]] = {}
        self._dropped = 0
        self._reserve = _allocate(f"{self._path}/{RESERVE}", settings.reserve_bytes)
        self._has_reserve = True
        self._commit = GroupCommit(lambda: (self._segment, self._position), sync=sync)

    @classmethod
    def create(cls, root: Path, spool_id: UUID, settings: SpoolSettings, *,
               monotonic: Callable[[], float] = time.monotonic, write: Write = os.pwrite,
               sync: Sync = os.fdatasync) -> "Spool":  # fmt: skip
        """Make a spool that is locked before a recorder can see it. Raises ``OSError`` when the folder cannot be made."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished, folder = root / f"{spool_id}.tmp", root / f"{spool_id}{SUFFIX}"
        unfinished.mkdir(mode=0o700)
        lock = os.open(unfinished / LOCK, _APPEND, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.open(unfinished / segment_name(0), _APPEND, 0o600))
        sync_directory(unfinished)
        unfinished.rename(folder)
        sync_directory(root)
        try:
            return cls(folder, lock, settings, monotonic, write, sync)
        except OSError:
            os.close(lock)  # an empty spool whose writer is dead: the recorder clears it away
            raise

    def __repr__(self) -> str:
        state = "failed" if self._commit.failure else "ok" if self._has_reserve else "disk full"
        used = f"used={self._used}/{self._settings.bytes_max}"
        return f"<Spool {self._path} {state} position={self._position} {used} in_flight={len(self._in_flight)} progress_dropped={self._dropped}>"

    def open(self, entry: Opened) -> None:
        """Write that a request was admitted; it survives the death of this process when this returns.

        Raises ``SpoolFull`` when there is no room, ``Unavailable`` when the disk has failed, ``InvalidInput`` when the
        entry is larger than 64 KiB: in each case the request must not be served.
        """
        if self._commit.failure is not None:
            raise Unavailable(f"the spool's disk has failed: {self._commit.failure}")
        payload = encode_entry(entry)
        if len(payload) > ENTRY_BYTES_MAX:
            raise InvalidInput(f"what identifies this request is too long to record: {len(payload)} bytes")
        if not self._has_room(HEADER_BYTES + len(payload)):
            raise SpoolFull(f"the spool has no room for another request: {self!r}")
        if len(self._in_flight) >= self._open_count_max:
            raise SpoolFull(f"the spool's reserve covers the ends of {self._open_count_max} open requests")
        start = self._append(payload)
        self._in_flight[entry.id] = (start, payload, b"")

    def progress(self, entry: Progress) -> None:
        """Write what is known of a stream so far; best effort, dropped and counted when there is no room."""
        opened = self._in_flight.get(entry.id)
        payload = encode_entry(entry)
        try:
            if opened is None or not self._has_room(HEADER_BYTES + len(payload)):
                self._dropped += 1
                return
            self._append(payload)
        except Unavailable:
            # The close entry comes later and says more; a full or failed disk refuses the next open.
            self._dropped += 1
            return
        self._in_flight[entry.id] = (opened[0], opened[1], payload)

    def close(self, entry: Closed) -> int:
        """Write how a request ended, from the reserve if need be; returns the position to hand to :meth:`synced`.

        Raises ``SpoolFull`` or ``Unavailable`` when the disk takes not even this: then nothing is written and it may be
        called again. Raises ``ValueError`` when the request is not open: each closes once.
        """
        if entry.id not in self._in_flight:
            raise ValueError(f"request {entry.id} is not open in this spool")
        payload = encode_entry(entry)
        if len(payload) > ENTRY_BYTES_MAX:
            # Only the engine's own labels can be so long; the counts matter more.
            payload = encode_entry(msgspec.structs.replace(entry, response_model=None, response_id=None))
        try:
            self._append(payload)
        except SpoolFull:
            self._release_reserve()
            self._append(payload)
        del self._in_flight[entry.id]
        return self._position

    async def synced(self, position: int) -> None:
        """Return once everything before ``position`` is on disk; raises ``Unavailable`` when it cannot be."""
        await self._commit.reached(position)

    def shutdown(self) -> None:
        """Sync what is written and give the lock back; what is still open will be recorded as interrupted."""
        self._commit.stop()
        Path(self._path, RESERVE).unlink(missing_ok=True)
        for descriptor in (self._segment, self._reserve, self._directory, self._lock):
            os.close(descriptor)

    def _append(self, payload: bytes) -> int:
        if self._position - self._segment_start >= self._settings.segment_bytes_max:
            self._rotate()
        start = self._position
        self._write_whole(frame(payload, start))
        return start

    def _write_whole(self, data: bytes) -> None:
        offset = self._position - self._segment_start
        try:
            written = self._write(self._segment, data, offset)
            while written < len(data):
                written += self._write(self._segment, data[written:], offset + written)
        except OSError as fault:
            # The next entry is written at the same place, so a rest that cannot be cut off does no harm.
            with contextlib.suppress(OSError):
                os.ftruncate(self._segment, offset)
            if fault.errno in _FULL_DISK:
                raise SpoolFull(f"the spool's disk is full: {fault}") from fault
            raise Unavailable(f"the spool's disk has failed: {fault}") from fault
        self._position += len(data)
        self._used += len(data)

    def _has_room(self, size: int) -> bool:
        if self._has_reserve and self._used + size <= self._open_bytes_max:
            return True
        now_s = self._monotonic()
        if now_s - self._room_checked_s < ROOM_CHECK_INTERVAL_S:
            return False
        self._room_checked_s = now_s
        self._used = sum(segment.size for segment in segments(Path(self._path)))
        return self._take_reserve() and self._used + size <= self._open_bytes_max

    def _rotate(self) -> None:
        path = f"{self._path}/{segment_name(self._position)}"
        try:
            following = os.open(path, _APPEND, 0o600)
        except OSError:
            # Without a new file the old one grows; it is tried again with the next entry.
            return
        self._commit.retire(self._segment, self._directory)
        previous_start = self._segment_start
        self._segment, self._segment_start = following, self._position
        self._carry_forward(previous_start)

    def _carry_forward(self, before: int) -> None:
        """Write open entries older than ``before`` again, oldest first, so that no long request pins old segments.

        At most a quarter of a segment each time: more, and the copies of very many open requests would fill segments
        that have to be left again at once. All open requests together then pin no more than four times their own size.
        """
        position = self._position
        end_max = position + self._settings.segment_bytes_max // CARRIED_SHARE
        frames: list[bytes] = []
        carried: list[tuple[UUID, tuple[int, bytes, bytes]]] = []
        for usage_id, (start, opened, progress) in self._in_flight.items():
            if start >= before or position >= end_max:
                break
            carried.append((usage_id, (position, opened, progress)))
            for payload in (opened, progress) if progress else (opened,):
                frames.append(frame(payload, position))
                position += len(frames[-1])
        if not frames or self._used + position - self._position > self._open_bytes_max:
            return
        try:
            self._write_whole(b"".join(frames))
        except Unavailable:
            # The older copies still stand, and their segments stay until the requests are closed.
            return
        for usage_id, entry in carried:
            del self._in_flight[usage_id]
            self._in_flight[usage_id] = entry

    def _release_reserve(self) -> None:
        os.ftruncate(self._reserve, 0)
        self._has_reserve = False

    def _take_reserve(self) -> bool:
        if not self._has_reserve:
            try:
                os.posix_fallocate(self._reserve, 0, self._settings.reserve_bytes)
            except OSError:
                os.ftruncate(self._reserve, 0)  # what it did get would be missing for the closes
            else:
                self._has_reserve = True
        return self._has_reserve


def _allocate(path: str, size: int) -> int:
    descriptor = os.open(path, _APPEND, 0o600)
    if size:
        os.posix_fallocate(descriptor, 0, size)
    return descriptor
