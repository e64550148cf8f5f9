"""Sums over records and rollup rows, as frozen values."""

from uuid import UUID

import msgspec

from billing.tokens.components import Components


class UsageTotal(msgspec.Struct, frozen=True):
    """Everything that ended in one way and is known in one way, from the rollup: the very sums that are billed."""

    outcome: str
    provenance: str
    requests: int
    tokens: Components


class Pace(msgspec.Struct, frozen=True):
    """What arrived since an instant and is recorded; ``first_token_us`` are waits for a first token, latest first."""

    requests: int
    input: int
    output: int
    first_token_us: tuple[int, ...]


class BackendTotal(msgspec.Struct, frozen=True):
    """What is on record of one model server. Tokens are those that are known; ``requests_unknown`` lack a count.

    ``requests_cut`` ended before their answer did: the engine may have worked for them beyond what was seen of it.
    """

    backend_id: UUID
    requests: int
    requests_unknown: int
    requests_cut: int
    input: int
    output: int
