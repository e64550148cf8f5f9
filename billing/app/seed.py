"""`billing seed`: tenants that never were with a history of usage, through the real spool and the real recorder.

Usage ids follow from the seed, the tenant and the day alone, so that the same again adds nothing, and another day later
only what is new.
"""

import asyncio
import contextlib
import gc
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec

from billing.app.recorder import GARBAGE_THRESHOLDS
from billing.clock import Clock, month_start, next_month_start
from billing.errors import Conflict, InvalidInput, Unavailable
from billing.fleet.service import FleetService
from billing.ids import NewId
from billing.infra.engine_folders import make_data_folder
from billing.infra.postgres import Database
from billing.infra.system import random_bytes
from billing.metering import store
from billing.metering.service import Counters, Recorder
from billing.metering.spool import Spool
from billing.metering.synthetic import (
    DAY_US,
    ENGINES,
    Exchange,
    Party,
    Span,
    day_start,
    history,
)
from billing.pricing.service import PricingService
from billing.settings import Settings, SpoolSettings
from billing.tenants.service import TenantService

TENANTS_MAX = 500
DAYS_MAX = 730
REQUESTS_PER_DAY_MAX = 100_000
REQUESTS_MAX = 5_000_000
"""Of all tenants and days together: a day of them is sorted in memory, and what no reply ended stays open in the spool."""
TENANTS_LOOKED_AT_MAX = 10_000
KEYS_LOOKED_AT_MAX = 1_000
BACKENDS_LOOKED_AT_MAX = 10_000
NAMES_SHOWN_MAX = 3
CHUNK = 4_000
"""Requests that are written before the recorder has its turn."""
FOLDER = "seed"
PREFIX = "synthetic"
PLANS_SINCE_US = 1_577_836_800_000_000
"""2020-01-01: before any history that can be made."""
PLANS = (
    """\
plan: synthetic-tokens
currency: USD
label: Synthetic, per 1,000,000 tokens
versions:
  - effective: 2020-01-01T00:00:00Z
    per: 1000000
    rates:
      - {model: llama-3.1-8b, input: "0.05", output: "0.08"}
      - {model: "llama-3.*-70b", input: "0.59", cached_input: "0.295", output: "0.79"}
      - {model: qwen3-32b, input: "0.29", cached_input: "0.145", output: "0.59", reasoning: "0.45"}
      - {model: gpt-oss-120b, input: "0.15", cached_input: "0.075", output: "0.60"}
      - {model: bge-m3, input: "0.02", output: free}
""",
    """\
plan: synthetic-tiers
currency: EUR
label: Synthetic, cheaper the more is used
versions:
  - effective: 2020-01-01T00:00:00Z
    per: 1000000
    monthly_fee: "49.00"
    rates:
      - model: "*"
        input: {tiers: [{up_to: 1000000, price: "0.60"}, {price: "0.40"}], allowance: 100000}
        output: {tiers: [{up_to: 500000, price: "1.20"}, {price: "0.90"}]}
""",
    """\
plan: synthetic-blended
currency: USD
label: Synthetic, one price for all tokens
versions:
  - effective: 2020-01-01T00:00:00Z
    per: 1000000
    minimum: "5.00"
    rates:
      - {model: "*", total: "0.50"}
""",
)
"""Tenants have them in turn."""
PLAN_NAMES = ("synthetic-tokens", "synthetic-tiers", "synthetic-blended")


class Order(msgspec.Struct, frozen=True):
    """What is wanted; ``requests_per_day`` is of a tenant in the mean."""

    tenants: int
    days: int
    seed: int = 1
    requests_per_day: int = 50

    @property
    def requests(self) -> int:
        """About how many requests that makes."""
        return self.tenants * self.days * self.requests_per_day


class Made(msgspec.Struct, frozen=True):
    """What was made: ``requests`` in all, of which ``recorded`` are new and ``duplicates`` were there already."""

    tenants: int
    new_tenants: int
    start_us: int
    end_us: int
    requests: int
    recorded: int
    duplicates: int
    quarantined: int
    seconds: float


def check(order: Order) -> Order:
    """The order, if it can be filled; raises ``InvalidInput``."""
    limits = {"tenants": TENANTS_MAX, "days": DAYS_MAX, "requests_per_day": REQUESTS_PER_DAY_MAX}
    for name, most in limits.items():
        if not 1 <= getattr(order, name) <= most:
            raise InvalidInput(f"{name}: 1 to {most:,}, got {getattr(order, name):,}", name)
    if order.requests > REQUESTS_MAX:
        raise InvalidInput(f"{order.requests:,} requests are too many: at most {REQUESTS_MAX:,} at once")
    return order


async def run(
    settings: Settings, order: Order, clock: Clock, new_id: NewId, progress: Callable[[int], None]
) -> Made:
    """Make the history of the whole UTC days before today. ``progress`` is told of every so many requests on record.

    Raises ``Conflict`` when the database has tenants that are not synthetic, with nothing written.
    """
    check(order)
    began = time.monotonic()
    span = Span(day_start(clock()) - order.days * DAY_US, order.days, order.requests_per_day)
    async with _database(settings, "control") as control, _database(settings, "recorder") as recording:
        cast = Cast(control, lambda: span.start_us, new_id)
        await cast.check_alone()
        parties = await cast.parties(order.tenants)
        backends = await cast.backends()
        await _make_partitions(control, span)
        requests = history(parties, backends, span, lambda name: random.Random(f"{order.seed}/{name}"))  # noqa: S311 - nothing secret: the same seed makes the same history
        written, counters = await _record(settings, recording, requests, clock, new_id(), progress)
    return Made(
        tenants=len(parties),
        new_tenants=cast.new_tenants,
        start_us=span.start_us,
        end_us=span.end_us,
        requests=written,
        recorded=counters.recorded,
        duplicates=counters.duplicates,
        quarantined=counters.quarantined,
        seconds=time.monotonic() - began,
    )


@contextlib.asynccontextmanager
async def _database(settings: Settings, role: str) -> AsyncIterator[Database]:
    database = Database(settings.database_url or "", role=role, pool_size=2)
    try:
        yield database.acting_as(PREFIX)
    finally:
        await database.close()


class Cast:
    """The tenants, keys, plans and backends of a synthetic history. What an earlier run made is used again."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._tenants = TenantService(database, clock, new_id, random_bytes)
        self._pricing = PricingService(database, clock, new_id)
        self._fleet = FleetService(database, clock, new_id)
        self.new_tenants = 0

    def __repr__(self) -> str:
        return f"<Cast {self.new_tenants} new tenants>"

    async def check_alone(self) -> None:
        """That nobody real is here; raises ``Conflict`` naming who is."""
        known = await self._tenants.list_tenants(TENANTS_LOOKED_AT_MAX)
        real = [tenant.slug for tenant in known if not tenant.synthetic]
        if real or len(known) == TENANTS_LOOKED_AT_MAX:
            names = ", ".join(real[:NAMES_SHOWN_MAX]) + (", …" if len(real) > NAMES_SHOWN_MAX else "")
            raise Conflict(
                f"this database has real tenants ({names}): made-up usage belongs into a database of its own, "
                "for example that of `billing --data-dir .billing-synthetic up --port 0`"
            )

    async def parties(self, count: int) -> list[Party]:
        """So many tenants with projects, keys and a plan each."""
        for plan in PLANS:
            await self._pricing.apply(plan)
        return [await self._party(number) for number in range(1, count + 1)]

    async def backends(self) -> dict[str, UUID]:
        """A backend for each engine, at an address that nothing ever has (RFC 6761); no model is answered there."""
        for engine in ENGINES:
            name = f"{PREFIX}-{engine.replace('.', '-')}"
            with contextlib.suppress(Conflict):
                await self._fleet.add_backend(name, f"http://{name}.invalid", engine)
        known = await self._fleet.list_backends(BACKENDS_LOOKED_AT_MAX)
        return {each.engine.value: each.id for each in known if each.name.startswith(PREFIX)}

    async def _party(self, number: int) -> Party:
        slug = f"{PREFIX}-{number:02d}"
        with contextlib.suppress(Conflict):
            await self._tenants.create_tenant(slug, f"Synthetic tenant {number}", synthetic=True)
            self.new_tenants += 1
        tenant = await self._tenants.tenant(slug)
        with contextlib.suppress(Conflict):
            plan = PLAN_NAMES[(number - 1) % len(PLAN_NAMES)]
            await self._pricing.subscribe(tenant.id, plan, PLANS_SINCE_US)
        # Every other tenant has its usage in projects.
        projects = ("assistant", "search") if number % 2 == 0 else ()
        return Party(number, tenant.id, tuple([await self._key(slug, name) for name in (None, *projects)]))

    async def _key(self, slug: str, project: str | None) -> tuple[UUID, UUID | None]:
        """A key of the tenant or of a project, and the project; both made unless they are there."""
        if project is not None:
            with contextlib.suppress(Conflict):
                await self._tenants.create_project(slug, project)
        name = f"{PREFIX}-{project or 'all'}"
        for key in await self._tenants.list_keys(slug, KEYS_LOOKED_AT_MAX):
            if key.name == name:
                return key.id, key.project_id
        created = await self._tenants.create_key(slug, name, project_slug=project)
        return created.key.id, created.key.project_id


async def _make_partitions(database: Database, span: Span) -> None:
    month_us = month_start(span.start_us)
    while month_us < span.end_us:
        async with database.transaction() as connection:
            await store.partitions_ensure(connection, month_us)
        month_us = next_month_start(month_us)


async def _record(
    settings: Settings,
    database: Database,
    requests: Iterable[Exchange],
    clock: Clock,
    spool_id: UUID,
    progress: Callable[[int], None],
) -> tuple[int, Counters]:
    """Write requests as a gateway does and record them as a recorder does, by turns; returns how many and what became of them.

    The spool lies apart from the gateways'. What an earlier run that was killed has left there is recorded too.
    """
    make_data_folder(settings.data_dir)
    root = settings.data_dir / FOLDER
    apart = msgspec.structs.replace(settings, spool=SpoolSettings(retention_s=0.0))
    recorder = Recorder(database, root, apart, clock, socket.gethostname())
    written = 0
    thresholds = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    spool = Spool.create(root, spool_id, apart.spool)
    try:
        for chunk in _chunks(iter(requests), CHUNK):
            _write(spool, chunk)
            written += len(chunk)
            await _ship(recorder)
            progress(len(chunk))
    finally:
        # Whatever stopped this: without its lock the spool is dead, and the next run records the rest of it.
        spool.shutdown()
        recorder.close()
        gc.set_threshold(*thresholds)
    await _ship(recorder)
    recorder.close()
    await _clear(Recorder(database, root, apart, clock, socket.gethostname()), root)
    return written, recorder.counters


def _chunks(requests: Iterator[Exchange], size: int) -> Iterator[list[Exchange]]:
    while chunk := list(islice(requests, size)):
        yield chunk


def _write(spool: Spool, chunk: list[Exchange]) -> None:
    for exchange in chunk:
        spool.open(exchange.opened)
        if exchange.progress is not None:
            spool.progress(exchange.progress)
        if exchange.closed is not None:
            spool.close(exchange.closed)


async def _ship(recorder: Recorder) -> None:
    """Record all that is written; raises ``Unavailable`` when Postgres goes away, and then the same order goes on."""
    await recorder.run_once()
    while recorder.has_backlog:
        await recorder.run_once()


async def _clear(fresh: Recorder, root: Path) -> None:
    """Remove what is recorded to its end: a recorder that has just begun looks at the finished spools first."""
    with contextlib.suppress(Unavailable):
        await fresh.run_once()
    fresh.close()
    # Another run at the same time still has its spool there.
    with contextlib.suppress(OSError):
        await asyncio.to_thread(root.rmdir)
