"""Usage as it is looked at: quantities by model, component and provenance, with how the requests ended."""

from collections.abc import Iterable

import msgspec

from billing.invoicing.quantities import plus
from billing.metering.stored import RollupRow
from billing.tokens.components import Components


class UsageLine(msgspec.Struct, frozen=True):
    """The usage of one model whose counts are known in one way; units stand among the ``tokens`` by their component."""

    model: str
    provenance: str
    requests: int
    tokens: Components


class OutcomeLine(msgspec.Struct, frozen=True):
    """How many requests ended in one way."""

    outcome: str
    requests: int


class UsageSummary(msgspec.Struct, frozen=True):
    """Everything used, once; both parts count the same requests."""

    lines: tuple[UsageLine, ...]
    outcomes: tuple[OutcomeLine, ...]
    requests: int
    tokens: Components


def summarise(rows: Iterable[RollupRow]) -> UsageSummary:
    """The summary of rollup rows, the same in any order."""
    requests: dict[tuple[str, str], int] = {}
    tokens: dict[tuple[str, str], Components] = {}
    outcomes: dict[str, int] = {}
    everything = Components()
    for row in rows:
        key = (row.model, row.provenance)
        requests[key] = requests.get(key, 0) + row.requests
        tokens[key] = plus(tokens.get(key, Components()), row.components)
        outcomes[row.outcome] = outcomes.get(row.outcome, 0) + row.requests
        everything = plus(everything, row.components)
    return UsageSummary(
        lines=tuple(UsageLine(*key, requests[key], tokens[key]) for key in sorted(requests)),
        outcomes=tuple(OutcomeLine(outcome, outcomes[outcome]) for outcome in sorted(outcomes)),
        requests=sum(outcomes.values()),
        tokens=everything,
    )
