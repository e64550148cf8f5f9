"""Keeps a gateway worker's snapshot up to date, and a copy of it on disk for a start without Postgres."""

import asyncio
import logging
import math
import os
from pathlib import Path
from uuid import UUID

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.directory import store
from billing.directory.caller import Caller, Model, Target
from billing.directory.snapshot import Changes, Snapshot, decode, encode
from billing.errors import Unauthenticated, Unavailable
from billing.infra.postgres import Database
from billing.limits.limit import Limit
from billing.pricing.term import Term
from billing.tenants import api_key

_log = logging.getLogger(__name__)


class DirectoryService:
    """One worker's directory: poll with :meth:`follow`, ask :attr:`snapshot`, check :meth:`stale` before trusting it."""

    def __init__(
        self,
        database: Database,
        copy: Path,
        clock: Clock,
        monotonic: Clock,
        *,
        poll_interval_s: float,
        stale_max_s: float,
    ) -> None:
        self._database = database
        self._copy = copy
        self._clock = clock
        self._monotonic = monotonic
        self._poll_interval_s = poll_interval_s
        self._stale_max_us = int(stale_max_s * MICROSECONDS_PER_SECOND)
        self._fresh_us: int | None = None
        self.snapshot = Snapshot()
        self.failures = 0
        self._is_copy_missed = False

    def __repr__(self) -> str:
        return f"<DirectoryService {self.snapshot!r} failures={self.failures}>"

    def stale(self) -> bool:
        """Whether Postgres has not confirmed the snapshot for longer than ``directory_stale_max``."""
        return self._fresh_us is None or self._monotonic() - self._fresh_us > self._stale_max_us

    def age_s(self) -> float:
        """Seconds since Postgres last confirmed the snapshot; endless before the first time."""
        if self._fresh_us is None:
            return math.inf
        return (self._monotonic() - self._fresh_us) / MICROSECONDS_PER_SECOND

    def caller(self, authorization: bytes | None, now_us: int) -> Caller:
        """Who an ``Authorization`` header stands for.

        Raises ``Unauthenticated``, ``Forbidden`` for a suspended tenant, ``Unavailable`` while the directory is stale.
        """
        if authorization is None:
            raise Unauthenticated("you didn't provide an API key; send it as Authorization: Bearer sk-…")
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("the Authorization header must be Bearer, a space and your API key")
        fingerprint = api_key.fingerprint(key.strip())
        if self.stale():
            raise Unavailable("callers cannot be checked at the moment; try again shortly")
        if fingerprint is None:
            raise Unauthenticated("incorrect API key provided: it is not a key of this gateway")
        return self.snapshot.caller(fingerprint.hex(), now_us)

    def model(self, name: str) -> Model:
        """The model of a name or alias; raises ``NotFound``."""
        return self.snapshot.model(name)

    def targets(self, model: Model) -> tuple[Target, ...]:
        """Where a model can be asked for, best priority first."""
        return self.snapshot.targets(model)

    def backend_name(self, backend_id: UUID | None) -> str:
        """What operators call a backend."""
        return self.snapshot.backend_name(backend_id)

    def limits(self, caller: Caller, model_name: str) -> tuple[Limit, ...]:
        """The limits that count a caller's request for a model of that public name."""
        return self.snapshot.limits(caller, model_name)

    def limits_of(self, caller: Caller) -> tuple[Limit, ...]:
        """Every limit that may count a caller's requests, whatever the model."""
        return self.snapshot.limits_of(caller)

    def terms(self, tenant_id: UUID) -> tuple[Term, ...]:
        """What prices a tenant's usage, by start; empty for a tenant without a plan."""
        return self.snapshot.prices.terms(tenant_id)

    def prices_reasoning_apart(self, tenant_id: UUID, model_name: str, at_us: int) -> bool:
        """Whether a tenant's reasoning of a model costs something else than the rest of its answers, at an instant."""
        return self.snapshot.prices.prices_reasoning_apart(tenant_id, model_name, at_us)

    def models(self) -> list[Model]:
        """Every model that something serves, by name."""
        return self.snapshot.models()

    async def load(self) -> None:
        """The first load: from Postgres, else from the copy on disk, whose age then counts. Never raises for either."""
        if not await self.refresh():
            self._read_copy()

    async def refresh(self) -> bool:
        """Take in what changed; False, counted and logged, when Postgres did not answer."""
        try:
            async with self._database.transaction() as connection:
                changes = await store.changes_since(connection, self.snapshot.version)
        # Whatever Postgres answers, the next poll asks again: a poll that ends for good would serve revoked keys until
        # the directory is stale, and then nobody. It is counted, logged, and shown by `stale`.
        except Exception as fault:  # noqa: BLE001 - see above
            self.failures += 1
            if self.failures == 1 or self.failures % 60 == 0:
                _log.warning("directory not refreshed (%d times): %r", self.failures, fault)
            return False
        self.failures = 0
        self._fresh_us = self._monotonic()
        is_new = not changes.empty or changes.version != self.snapshot.version
        if changes.version < self.snapshot.version:
            self.snapshot = Snapshot()  # an older database was restored: what came after it is no more
        self._take(changes)
        self._keep_copy(is_new=is_new)
        return True

    def _take(self, changes: Changes) -> None:
        known = self.snapshot.prices.unreadable
        self.snapshot.apply(changes)
        if fresh := self.snapshot.prices.unreadable - known:
            _log.warning(
                "plans of a newer program, which price nothing on this worker: %s", ", ".join(sorted(fresh))
            )

    def _keep_copy(self, *, is_new: bool) -> None:
        try:
            if is_new:
                self._write_copy()
            else:
                os.utime(self._copy)
        except OSError as fault:
            if not self._is_copy_missed:
                _log.warning("the directory's copy on disk cannot be written: %s", fault)
            self._is_copy_missed = True
        else:
            self._is_copy_missed = False

    async def follow(self) -> None:
        """Refresh for ever, until cancelled; after a failure at the same pace, so that a return is noticed at once."""
        while True:
            await asyncio.sleep(self._poll_interval_s)
            await self.refresh()

    def _write_copy(self) -> None:
        """Replaced as a whole; readable by its owner only, because it holds the backends' credentials."""
        fresh = self._copy.with_name(f"{self._copy.name}.{os.getpid()}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(self.snapshot.everything()))
        fresh.replace(self._copy)

    def _read_copy(self) -> None:
        try:
            data = self._copy.read_bytes()
            age_us = self._clock() - int(self._copy.stat().st_mtime * MICROSECONDS_PER_SECOND)
            self._take(decode(data))
        except (OSError, ValueError) as fault:
            _log.warning(
                "no directory: Postgres does not answer and the copy on disk cannot be read: %s", fault
            )
            return
        self._fresh_us = self._monotonic() - max(0, age_us)
        _log.warning("directory read from the copy on disk: %r", self.snapshot)
