"""One request on a page of its own: the same facts, counts and arithmetic as ``billing trace``. Pure."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.dashboard import format as written
from billing.dashboard.view import Figure, Tag, figure, outcome_tag
from billing.invoicing.trace import Cost, Trace, operation_of, spans_of
from billing.pricing.billable import Disposition
from billing.pricing.measure import TOKENS, one_of, unit_of

_VERDICTS = {
    Disposition.BILL: "This request will be billed",
    Disposition.WAIVE: "This request is waived: not billed",
    Disposition.REVIEW: "This request is under review: not billed before someone looked",
}


class CountLine(msgspec.Struct, frozen=True):
    """One count with its unit and how it is known."""

    what: str
    unit: str
    figure: Figure
    provenance: str
    method: str


class CostLine(msgspec.Struct, frozen=True):
    """quantity × price ÷ per = amount, in text, the quantity in its ``unit``; without a rate, why."""

    what: str
    unit: str
    quantity: str
    price: str
    per: str
    amount: str
    rate: str


class TracePage(msgspec.Struct, frozen=True):
    """Everything about one request."""

    id: str
    arrived: str
    outcome: Tag
    facts: tuple[tuple[str, str], ...]
    counts: tuple[CountLine, ...]
    costs: tuple[CostLine, ...]
    currency: str
    total: str | None
    verdict: str


def trace_page(found: Trace) -> TracePage:
    """The page of a request."""
    record = found.record
    return TracePage(
        id=str(record.id),
        arrived=f"{written.moment(found.at_us)} UTC",
        outcome=outcome_tag(record.outcome),
        facts=_facts(found),
        counts=_counts(found),
        costs=_costs(found),
        currency=found.currency or "",
        total=_total(found),
        verdict=_verdict(found),
    )


def _facts(found: Trace) -> tuple[tuple[str, str], ...]:
    """What is known beside the counts, in the order of the request's way; what is absent is left out."""
    record, parties = found.record, found.parties
    name = f" ({parties.tenant_name})" if parties.tenant_name else ""
    url = f", {parties.backend_url}" if parties.backend_url else ""
    streamed = ", streamed" if record.stream else ""
    answered = f"{parties.backend or record.backend_id} ({record.engine}{url})"
    every = (
        ("Tenant", f"{parties.tenant}{name}"),
        ("Project", parties.project),
        ("Key", f"{parties.key_prefix}… ({parties.key_name})" if parties.key_prefix else record.key_id),
        ("End user", record.end_user),
        ("Tags", ", ".join(f"{name}={text}" for name, text in sorted(record.tags.items()))),
        ("Asked for", f"{record.model} · {operation_of(record)}{streamed} · {record.service_tier}"),
        ("Answered by", answered if record.backend_id else record.engine),
        ("Engine's name", record.response_model if record.response_model != record.model else None),
        ("Response id", record.response_id),
        ("Idempotency key", record.idempotency_key),
        ("Outcome", f"{written.words(record.outcome)}, {_status(found)}"),
        ("Time", _times(found)),
        ("Recorded", f"{written.moment(record.recorded_us)} UTC, collection {record.collection}"),
    )
    return tuple((name, str(text)) for name, text in every if text)


def _status(found: Trace) -> str:
    status = f"HTTP {found.record.status}" if found.record.status else "status not known"
    return f"{status}, {found.record.error}" if found.record.error else status


def _times(found: Trace) -> str:
    known = [f"{name} {written.span(span_us)}" for name, span_us in spans_of(found.record)]
    return " · ".join(known) or "not known"


def _counts(found: Trace) -> tuple[CountLine, ...]:
    lines = [
        CountLine(
            written.words(name),
            unit_of(name),
            figure(count),
            count.provenance or written.ABSENT,
            count.method or written.ABSENT,
        )
        for name, count in found.counts
    ]
    guess = found.record.input_estimate
    if guess is not None and found.record.input.value is None:
        shown = Figure(written.count(guess), "e")
        lines.append(
            CountLine(
                "input, guessed", TOKENS, shown, "estimated", "from the size of the request; never billed"
            )
        )
    return tuple(lines)


def _costs(found: Trace) -> tuple[CostLine, ...]:
    figures = iter(written.amounts([*_known(found.costs), money.total(_known(found.costs))], found.currency))
    return tuple(
        _cost_line(each, next(figures) if each.amount is not None else "unrated", found.currency)
        for each in found.costs
    )


def _known(costs: Sequence[Cost]) -> list[Decimal]:
    return [each.amount for each in costs if each.amount is not None]


def _cost_line(cost: Cost, amount: str, currency: str | None) -> CostLine:
    what, quantity = written.words(cost.component), written.count(cost.quantity)
    if cost.price is None:
        return CostLine(
            what, cost.unit, quantity, written.ABSENT, written.ABSENT, amount, cost.unpriced or ""
        )
    price = "free" if cost.price.is_free else written.amount(cost.price.price, currency)
    return CostLine(what, cost.unit, quantity, price, written.count(cost.price.per), amount, _rate(cost))


def _rate(cost: Cost) -> str:
    """Where the price is from: plan, version, pattern, and what it was priced as or at which tier."""
    parts = [f"{cost.plan} v{cost.version}, {cost.pattern}"]
    if cost.priced_as is not None and cost.priced_as != cost.component:
        parts.append(f"as {written.words(cost.priced_as)}")
    if cost.included:
        parts.append("within the allowance")
    elif cost.tier is not None:
        parts.append(f"tier {cost.tier + 1}")
    if cost.is_marginal:
        parts.append(f"what the next {one_of(cost.component)} costs now")
    return ", ".join(parts)


def _total(found: Trace) -> str | None:
    known = _known(found.costs)
    return written.amounts([*known, money.total(known)], found.currency)[-1] if known else None


def _verdict(found: Trace) -> str:
    verdict = _VERDICTS[found.disposition]
    return (
        f"{verdict}, apart from what is unrated."
        if any(each.unpriced for each in found.costs)
        else f"{verdict}."
    )
