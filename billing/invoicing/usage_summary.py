"""Usage as it is looked at: tokens by model, component and provenance, with how the requests ended."""

from collections.abc import Iterable

import msgspec

from billing.invoicing.draft import tokens_of
from billing.metering.stored import RollupRow
from billing.tokens.components import Component, Components


class UsageLine(msgspec.Struct, frozen=True):
    """The usage of one model whose counts are known in one way."""

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
        tokens[key] = add(tokens.get(key, Components()), tokens_of(row))
        outcomes[row.outcome] = outcomes.get(row.outcome, 0) + row.requests
        everything = add(everything, tokens_of(row))
    return UsageSummary(
        lines=tuple(UsageLine(*key, requests[key], tokens[key]) for key in sorted(requests)),
        outcomes=tuple(OutcomeLine(outcome, outcomes[outcome]) for outcome in sorted(outcomes)),
        requests=sum(outcomes.values()),
        tokens=everything,
    )


def add(one: Components, other: Components) -> Components:
    """The sum of each component."""
    return Components(**{part.value: one.get(part) + other.get(part) for part in Component})
