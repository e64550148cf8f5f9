"""What the tests of official clients share: a gateway and what is behind it, answers without what no two share, the records."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from billing.infra.golden.model import GOLDEN
from billing.infra.golden.runner import LlamaServer
from billing.infra.system import new_id, now_us
from billing.limits.limit import Meter
from billing.limits.service import LimitService
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.tenants import api_key
from tests.e2e.llama_kit import equipped_model_path
from tests.e2e.rig import DIRECTORY_LAG_S, POLL_S, WAIT_TIMEOUT_S, Rig, running

SLOTS = 2
RECORDS_MAX = 1_000
NEVER_THE_SAME = frozenset({"id", "item_id", "created", "created_at", "completed_at", "timings"})
"""Members that differ from answer to answer: ids, instants, and llama.cpp's durations."""
A_REQUEST_A_SECOND = 60
WAITED_S_MIN = 0.5
"""Less than one who asks again at once is told to wait, where the next request fits after a second."""

MESSAGES: Any = [
    {"role": "system", "content": "You answer in one paragraph."},
    {"role": "user", "content": "How are the tokens of an answer counted?"},
]
"""41 tokens to the golden model."""
CITY = {
    "type": "object", "properties": {"city": {"enum": ["Bern"]}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip
"""What a tool must be called with."""
PLAN = """
plan: apart
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates: [{model: "*", input: "0.50", output: "1.50", reasoning: "1.00"}]
"""
"""Prices reasoning apart: only then is it counted where no engine counts it."""

Ask = Callable[[Any], Awaitable[Any]]
"""What is done with a client."""


class Sides(NamedTuple):
    """A gateway, and the llama.cpp servers behind it by themselves."""

    rig: Rig
    golden: str
    embedder: str


@contextlib.asynccontextmanager
async def both_sides(folder: Path) -> AsyncIterator[Sides]:
    """Two real engines, one for text and one for embeddings, and a gateway in front of them."""
    model = equipped_model_path(folder, GOLDEN)
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, slots in (("golden", SLOTS), ("embedder", 1)):
            server = LlamaServer.start(
                model, name, log_path=folder / f"{name}.log", embeddings=name == "embedder", slots=slots
            )
            stack.callback(server.stop)
            urls[name] = server.url
        async with running(folder / "data", {name: ("llama.cpp", url) for name, url in urls.items()}) as rig:
            await rig.price(PLAN)
            yield Sides(rig, **urls)


async def asked_twice(alone: Any, through: Any, ask: Ask) -> tuple[Any, Any]:
    """What a client gets without the gateway and through it; both find the prompt in the engine's cache."""
    async with alone, through:
        await ask(alone)
        return await ask(alone), await ask(through)


async def listed(stream: Awaitable[Any]) -> list[Any]:
    """All that a client's stream yields."""
    return [event async for event in await stream]


async def gathered(opening: Any, result: str) -> list[Any]:
    """All that a client's streaming helper yields, and the whole answer that it made of it."""
    async with opening as stream:
        events = [event async for event in stream]
        return [*events, await getattr(stream, result)()]


def events_in(body: str) -> list[Any]:
    """The JSON of each event of a stream."""
    return [msgspec.json.decode(line[6:]) for line in body.splitlines() if line.startswith("data: ")]


def plain(answer: Any) -> Any:
    """A parsed answer, or a list of them, as plain values without what differs from answer to answer."""
    if hasattr(answer, "model_dump"):
        answer = {"": type(answer).__name__} | answer.model_dump(mode="json", warnings=False)
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items() if name not in NEVER_THE_SAME}
    return [plain(value) for value in answer] if isinstance(answer, list) else answer


class Counted(NamedTuple):
    """What a record says that a test compares."""

    operation: str
    dialect: str
    stream: bool
    outcome: str
    input: int | None
    output: int | None
    reasoning: int | None = None


def _counted(record: StoredRecord) -> Counted:
    return Counted(
        record.operation,
        record.dialect,
        record.stream,
        record.outcome,
        record.input.value,
        record.output.value,
        record.reasoning.value,
    )


async def records_of(rig: Rig, label: str, count: int = 1) -> list[Counted]:
    """What is on record of the requests that had a label for idempotency key, in order, once there are ``count``."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    found: list[StoredRecord] = []
    async with rig.database() as database:
        while len(found) < count and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            recent = await UsageService(database).recent(None, RECORDS_MAX)
            found = [record for record in recent if record.idempotency_key == label]
    assert len(found) == count, f"{len(found)} records of {label} where {count} were expected"
    return [_counted(record) for record in sorted(found, key=lambda record: record.id)]


async def limited_key(rig: Rig, name: str) -> str:
    """A key that may ask once a second."""
    key = await rig.another_key(name)
    async with rig.database() as database:
        limits = LimitService(database, now_us, new_id)
        prefix = key[: api_key.PREFIX_LENGTH]
        await limits.set("acme", Meter.REQUESTS, A_REQUEST_A_SECOND, key=prefix, burst=1)
    await asyncio.sleep(DIRECTORY_LAG_S)
    return key
