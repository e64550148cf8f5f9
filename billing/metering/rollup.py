"""Which rollup row a usage record adds to, and what it adds (design.md §7).

A rollup row is one 15-minute bucket of one tenant and collection, split by every dimension a rate may select on.
"""

from bisect import bisect_left
from uuid import UUID

import msgspec

from billing.clock import bucket_start
from billing.metering.event import UsageRecord
from billing.tokens.components import Components, components
from billing.tokens.usage import weakest

PROMPT_BAND_EDGES = (4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 200_000, 256_000, 512_000, 1_000_000)
"""The one fixed list of edges. Band 0 is up to and including 4,000 tokens, band 10 is above 1,000,000."""

UNKNOWN_BAND = -1
NO_PROJECT = UUID(int=0)
NO_PROVENANCE = "none"
"""Provenance in a rollup when input or output is unknown."""


class RollupKey(msgspec.Struct, frozen=True):
    """Every dimension of a rollup row but the collection, which the recorder reads under its lock."""

    tenant_id: UUID
    bucket_us: int
    project_id: UUID
    model: str
    operation: str
    service_tier: str
    prompt_band: int
    outcome: str
    provenance: str


def prompt_band(input_tokens: int | None) -> int:
    """The index of the band that a prompt's length falls into; −1 when it is unknown."""
    return UNKNOWN_BAND if input_tokens is None else bisect_left(PROMPT_BAND_EDGES, input_tokens)


def key_of(record: UsageRecord) -> RollupKey:
    """The rollup row that a record belongs to."""
    provenance = weakest(record.usage)
    return RollupKey(
        tenant_id=record.opened.tenant_id,
        bucket_us=bucket_start(record.at_us),
        project_id=record.opened.project_id or NO_PROJECT,
        model=record.opened.model,
        operation=record.opened.operation,
        service_tier=record.opened.service_tier,
        prompt_band=prompt_band(record.usage.input.value),
        outcome=record.outcome.value,
        provenance=provenance.value if provenance else NO_PROVENANCE,
    )


def quantities(record: UsageRecord) -> Components:
    """What a record adds to its row, beside one request."""
    return components(record.usage)
