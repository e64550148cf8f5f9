"""The demo's check: what is on record against what the engine itself has counted."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from billing.errors import Unavailable
from billing.infra.golden.runner import PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED, LlamaServer
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.tokens.prometheus import parse_counters

RECORD_TIMEOUT_S = 15.0
RECORD_POLL_S = 0.05
SETTLE_TIMEOUT_S = 5.0
SETTLE_POLL_S = 0.1


class EngineCount(msgspec.Struct, frozen=True):
    """Tokens that an engine has counted since its start: all input, cached included, and all output."""

    input: int
    output: int


class Line(msgspec.Struct, frozen=True):
    """One comparison: what the engine counted in a phase, what is on record of it, and how far they may differ."""

    what: str
    requests: int
    engine: EngineCount
    recorded: EngineCount
    output_difference_max: int

    @property
    def agrees(self) -> bool:
        """Whether input is equal, and output no more than the engine's and no less than what a hang-up allows."""
        difference = self.engine.output - self.recorded.output
        return self.engine.input == self.recorded.input and 0 <= difference <= self.output_difference_max


class Totals(msgspec.Struct, frozen=True):
    """A tenant's tokens of a month on every surface, and what became of them on its invoice."""

    tenant: str
    records: int
    rollup: int
    billed: int
    waived: int
    review: int
    late: int

    @property
    def invoice(self) -> int:
        """What stands somewhere on the invoice."""
        return self.billed + self.waived + self.review

    @property
    def agrees(self) -> bool:
        """Whether every surface says the same, and nothing was late (P14)."""
        return self.records == self.rollup == self.invoice and self.late == 0


def count_of(counters: Mapping[str, object]) -> EngineCount:
    """An engine's counters as they stand."""
    values = {
        name: int(str(counters.get(name, 0)))
        for name in (PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED)
    }
    return EngineCount(values[PROMPT_TOKENS] + values[PROMPT_TOKENS_CACHED], values[TOKENS_PREDICTED])


async def settled(server: LlamaServer) -> EngineCount:
    """The engine's counters once two looks in a row are equal: a request is in them when the engine has left it."""
    last = count_of(parse_counters(server.metrics()))
    for _ in range(int(SETTLE_TIMEOUT_S / SETTLE_POLL_S)):
        await asyncio.sleep(SETTLE_POLL_S)
        present = count_of(parse_counters(server.metrics()))
        if present == last:
            return present
        last = present
    raise Unavailable(f"{server!r} goes on counting {SETTLE_TIMEOUT_S:.0f} s after its last request")


async def records(usage: UsageService, ids: Sequence[UUID]) -> list[StoredRecord]:
    """The records of these ids, in their order, once all have arrived; raises ``Unavailable`` when one does not."""
    found: dict[UUID, StoredRecord] = {}
    for _ in range(int(RECORD_TIMEOUT_S / RECORD_POLL_S)):
        for usage_id in ids:
            if usage_id not in found and (record := await usage.record(usage_id)) is not None:
                found[usage_id] = record
        if len(found) == len(set(ids)):
            return [found[usage_id] for usage_id in ids]
        await asyncio.sleep(RECORD_POLL_S)
    missing = [str(usage_id) for usage_id in ids if usage_id not in found]
    raise Unavailable(f"no record of {', '.join(missing)} within {RECORD_TIMEOUT_S:.0f} s")


def compare(
    what: str, before: EngineCount, after: EngineCount, stored: Sequence[StoredRecord], *, per_request: int
) -> Line:
    """A comparison of one phase; ``per_request`` output tokens may be missing on record for each request."""
    return Line(
        what=what,
        requests=len(stored),
        engine=EngineCount(after.input - before.input, after.output - before.output),
        recorded=EngineCount(
            sum(one.input.value or 0 for one in stored), sum(one.output.value or 0 for one in stored)
        ),
        output_difference_max=per_request * len(stored),
    )
