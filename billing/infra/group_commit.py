"""Group commit: one thread syncs files to disk, and everybody who waits for one sync is answered together.

A failed sync is final: the kernel may have dropped the pages it could not write, so a second fsync that succeeds proves
nothing (the lesson PostgreSQL drew in 2018). From then on every waiter is refused.
"""

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from billing.errors import Unavailable

SYNC_WAIT_S = 30.0
"""How long anybody waits for one sync before the disk counts as stuck."""

Sync = Callable[[int], None]


class GroupCommit:
    """Syncs one growing file, or a chain of them, behind an event loop.

    ``written`` answers the descriptor being appended to and the position written so far. Used from one loop; the thread
    only takes jobs in order. Create it after a fork, never before.
    """

    def __init__(self, written: Callable[[], tuple[int, int]], *, sync: Sync = os.fdatasync,
                 wait_s: float = SYNC_WAIT_S) -> None:  # fmt: skip
        self._written = written
        self._sync = sync
        self._wait_s = wait_s
        self._durable = 0
        self._failure: OSError | None = None
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._is_syncing = False
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="group-commit", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "failed" if self._failure else "syncing" if self._is_syncing else "idle"
        return f"<GroupCommit {state} durable={self._durable} waiters={len(self._waiters)}>"

    @property
    def failure(self) -> OSError | None:
        """Why nothing can be made durable any more; None while the disk is well."""
        return self._failure

    async def reached(self, position: int) -> None:
        """Return once everything before ``position`` is on disk; raises ``Unavailable`` when that cannot be had."""
        if self._failure is not None:
            raise _refusal(self._failure)
        if position <= self._durable:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append((position, waiter))
        if not self._is_syncing:
            self._begin_soon(loop)
        await waiter

    def retire(self, descriptor: int, folder: int) -> None:
        """Sync and close a file that is complete, then the folder that names its successor; in order with all others."""
        self._jobs.put(lambda: self._retire(descriptor, folder))

    def stop(self) -> None:
        """Sync what is written, end the thread. Blocks for one sync."""
        descriptor, _ = self._written()
        self._jobs.put(lambda: self._sync_once(descriptor))
        self._jobs.put(None)
        self._thread.join(self._wait_s)

    def _begin_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin when this tick of the loop has ended: what else it writes is in the same sync (16 of 199 µs a request)."""
        self._is_syncing = True
        loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        descriptor, position = self._written()
        fault = TimeoutError(f"no answer for {self._wait_s} s")
        stuck = loop.call_later(self._wait_s, self._refuse_all, fault)

        def job() -> None:
            self._sync_once(descriptor)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
                loop.call_soon_threadsafe(self._finish, loop, position, stuck)

        self._jobs.put(job)

    def _finish(self, loop: asyncio.AbstractEventLoop, position: int, stuck: asyncio.TimerHandle) -> None:
        stuck.cancel()
        self._is_syncing = False
        if self._failure is not None:
            self._refuse_all(self._failure)
            return
        self._durable = position
        waiters = self._waiters
        while waiters and waiters[0][0] <= position:
            _, waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if waiters:
            self._begin_soon(loop)

    def _refuse_all(self, fault: OSError) -> None:
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_refusal(fault))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _sync_once(self, descriptor: int) -> None:
        if self._failure is None:
            try:
                self._sync(descriptor)
            except OSError as fault:
                self._failure = fault

    def _retire(self, descriptor: int, folder: int) -> None:
        self._sync_once(descriptor)
        os.close(descriptor)
        if self._failure is None:
            try:
                os.fsync(folder)
            except OSError as fault:
                self._failure = fault


def _refusal(fault: OSError) -> Unavailable:
    return Unavailable(f"the spool's disk cannot make records durable: {fault}")
