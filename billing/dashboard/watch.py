"""Looks at the engines' own counters every few seconds, beside what is on record of them; never inside a request."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.dashboard.client import fetch_page
from billing.dashboard.counters import NAMES, Track, follow, read
from billing.errors import Unavailable
from billing.fleet.backend import Backend
from billing.metering.totals.total import BackendTotal

INTERVAL_S = 3
REST_FACTOR = 19
"""After a look that took t, the next begins 19 t later at the earliest: summing costs a twentieth of the database."""
BACKENDS_MAX = 64
AT_ONCE_MAX = 8

Fetch = Callable[[str], Awaitable[str]]

_log = logging.getLogger(__name__)


class Backends(Protocol):
    """Which model servers there are; ``FleetService`` is one."""

    async def list_backends(self, rows_max: int) -> list[Backend]:
        """Backends by name."""
        ...


class Recorded(Protocol):
    """What is on record of them; ``UsageService`` is one."""

    async def backend_totals(self, since_us: int) -> list[BackendTotal]:
        """Sums of the requests that arrived since an instant."""
        ...


class EngineState(msgspec.Struct, frozen=True):
    """One backend at the last look. Without a ``fault``, ``track`` is what it counted and ``recorded`` what we did."""

    backend: Backend
    seen_us: int
    track: Track | None = None
    recorded: BackendTotal | None = None
    fault: str = ""


class EngineWatch:
    """Keeps ``states`` fresh while it runs. Engines that do not answer are said and asked again."""

    def __init__(
        self, backends: Backends, recorded: Recorded, clock: Clock, fetch: Fetch = fetch_page
    ) -> None:
        self._backends = backends
        self._recorded = recorded
        self._clock = clock
        self._fetch = fetch
        self._tracks: dict[UUID, Track] = {}
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self.states: tuple[EngineState, ...] = ()
        self.looked_us: int | None = None
        """When the last look ended; None before the first."""

    def __repr__(self) -> str:
        return f"<EngineWatch {len(self.states)} backends, looked at {self.looked_us}>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look again and again until the block ends."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            began_us = self._clock()
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - handled here: logged, and the panel says by its time that it is old
                _log.exception("the engines' counters could not be compared")
            took_s = (self._clock() - began_us) / MICROSECONDS_PER_SECOND
            await asyncio.sleep(max(INTERVAL_S, REST_FACTOR * took_s))

    async def look(self) -> None:
        """Ask every engine once, then the records: what an engine has counted is then recorded or on its way."""
        found = await self._backends.list_backends(BACKENDS_MAX)
        present = [each for each in found if each.archived_at_us is None]
        at_us = self._clock()
        states = await asyncio.gather(*(self._state(each, at_us) for each in present))
        self._tracks = {each.backend.id: each.track for each in states if each.track is not None}
        begun = {track.began.at_us for track in self._tracks.values()}
        recorded = {since_us: await self._recorded_since(since_us) for since_us in sorted(begun)}
        self.states = tuple(_with_records(each, recorded) for each in states)
        self.looked_us = self._clock()

    async def _state(self, backend: Backend, at_us: int) -> EngineState:
        names = NAMES.get(backend.engine)
        track = self._tracks.get(backend.id)
        if names is None:
            return EngineState(
                backend, at_us, fault=f"{backend.engine.facts.title} keeps no counters to compare with"
            )
        try:
            async with self._slots:
                page = await self._fetch(backend.url + names.path)
        except Unavailable as fault:
            return EngineState(backend, at_us, track, fault=str(fault))
        reading = read(page, names, at_us)
        if reading is None:
            return EngineState(backend, at_us, track, fault=f"{names.path} has no {names.output}")
        return EngineState(backend, at_us, follow(track, reading))

    async def _recorded_since(self, since_us: int) -> dict[UUID, BackendTotal]:
        return {each.backend_id: each for each in await self._recorded.backend_totals(since_us)}


def _with_records(state: EngineState, recorded: dict[int, dict[UUID, BackendTotal]]) -> EngineState:
    if state.track is None:
        return state
    of_backend = recorded[state.track.began.at_us].get(state.backend.id)
    nothing = BackendTotal(state.backend.id, 0, 0, 0, 0, 0)
    return msgspec.structs.replace(state, recorded=of_backend or nothing)
