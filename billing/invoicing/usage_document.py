"""What was used in a month as programs read it, the same for operators and for tenants (P14)."""

import msgspec

from billing.clock import rfc3339
from billing.invoicing.period import Period
from billing.invoicing.usage_summary import UsageLine, UsageSummary
from billing.metering.rollup import NO_PROVENANCE
from billing.tokens.components import Component, Components


class UsageLineDocument(msgspec.Struct, frozen=True):
    """The usage of one model whose counts are known in one way; ``tokens`` is null where they are not known.

    The ``components`` ``image``, ``second``, ``gpu_second``, ``character`` and ``search`` are no tokens.
    """

    model: str
    provenance: str
    requests: int
    tokens: int | None
    components: dict[str, int | None]


class UsageSummaryDocument(msgspec.Struct, frozen=True):
    """What a tenant used in a month, as of an instant. ``requests_unknown`` used more than is counted."""

    tenant: str
    period: str
    start: str
    end: str
    as_of: str
    requests: int
    requests_unknown: int
    tokens: int
    components: dict[str, int]
    outcomes: dict[str, int]
    lines: list[UsageLineDocument]


def usage_document(tenant: str, period: Period, summary: UsageSummary, as_of_us: int) -> UsageSummaryDocument:
    """A tenant's month in sums."""
    return UsageSummaryDocument(
        tenant=tenant,
        period=str(period),
        start=rfc3339(period.start_us),
        end=rfc3339(period.end_us),
        as_of=rfc3339(as_of_us),
        requests=summary.requests,
        requests_unknown=sum(line.requests for line in summary.lines if _is_unknown(line)),
        tokens=summary.tokens.total,
        components=_components(summary.tokens),
        outcomes={each.outcome: each.requests for each in summary.outcomes},
        lines=[_line(line) for line in summary.lines],
    )


def _line(line: UsageLine) -> UsageLineDocument:
    # Where input or output is unknown, a sum of 0 says nothing.
    absent = None if _is_unknown(line) else 0
    components = {part: tokens or absent for part, tokens in _components(line.tokens).items()}
    return UsageLineDocument(
        line.model, line.provenance, line.requests, line.tokens.total or absent, components
    )


def _is_unknown(line: UsageLine) -> bool:
    return line.provenance == NO_PROVENANCE


def _components(tokens: Components) -> dict[str, int]:
    return {part.value: tokens.get(part) for part in Component}
