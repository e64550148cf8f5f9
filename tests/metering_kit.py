"""Facts for tests and measurements of the record path: ids, entries, tenants, and what stands in the database."""

import asyncio
import random
import time
from collections.abc import Callable
from uuid import UUID

import asyncpg

from billing.ids import RANDOM_BYTES, uuid7
from billing.metering.event import Closed, Opened, Progress
from billing.tokens.usage import UNKNOWN, Count, Outcome, Provenance, TokenUsage

TENANT = UUID("01900000-0000-7000-8000-00000000000a")
OTHER_TENANT = UUID("01900000-0000-7000-8000-00000000000b")
KEY = UUID("01900000-0000-7000-8000-00000000000c")
BACKEND = UUID("01900000-0000-7000-8000-00000000000d")


def now_us() -> int:
    """The real clock."""
    return time.time_ns() // 1_000


def id_maker(seed: int = 0, clock: Callable[[], int] = now_us) -> Callable[[], UUID]:
    """A source of usage ids whose randomness is seeded."""
    source = random.Random(seed)
    return lambda: uuid7(clock(), source.randbytes(RANDOM_BYTES))


def usage(
    input_tokens: int | None = 500, output_tokens: int | None = 53, reasoning: int | None = 20
) -> TokenUsage:
    """Counts that an engine reported; None is not known."""
    return TokenUsage(count(input_tokens), count(0), UNKNOWN, count(output_tokens), count(reasoning))


def count(value: int | None) -> Count:
    """A reported count."""
    return UNKNOWN if value is None else Count(value, Provenance.REPORTED, "usage")


def opened(usage_id: UUID, tenant_id: UUID = TENANT, *, model: str = "golden", end_user: str | None = "user-17",
           stream: bool = True) -> Opened:  # fmt: skip
    """An open entry with every kind of field in it."""
    return Opened(
        usage_id, tenant_id, None, KEY, model, BACKEND, "llama.cpp", "chat", stream,
        input_estimate=400, end_user=end_user, tags={"team": "search"},
    )  # fmt: skip


def progress(usage_id: UUID, output_tokens: int) -> Progress:
    """A running count of a stream."""
    running = Count(output_tokens, Provenance.RUNNING, "timings")
    return Progress(
        usage_id, TokenUsage(input=count(500), output=running), duration_us=1_000_000, ttft_us=90_000
    )


def closed(usage_id: UUID, used: TokenUsage | None = None, outcome: Outcome = Outcome.COMPLETE) -> Closed:
    """A close entry."""
    return Closed(usage_id, outcome, 200, used or usage(), 1_234_567, 90_000, 11_000, "golden", "chatcmpl-1")


def sql(url: str, statement: str, *values: object) -> list[asyncpg.Record]:
    """Rows of one statement, asked by a connection of its own; from synchronous code."""
    return asyncio.run(ask(url, statement, *values))


async def ask(url: str, statement: str, *values: object) -> list[asyncpg.Record]:
    """Rows of one statement, asked by a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
    finally:
        await connection.close()
    return rows


async def add_tenants(url: str, *tenant_ids: UUID) -> None:
    """Tenants, as little of them as the record path needs."""
    for tenant_id in tenant_ids:
        await ask(
            url,
            "INSERT INTO tenant (id, slug, name, created_at) VALUES ($1, $2, $2, now())",
            tenant_id,
            f"tenant-{tenant_id.hex[-4:]}",
        )
