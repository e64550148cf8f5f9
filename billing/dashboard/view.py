"""What the first page shows, prepared from values of the services. Pure: templates only place what stands here.

An unknown count is the word "unknown", never 0 (P3); a cost is an estimate, made on reading (design.md §7).
"""

from collections.abc import Iterable, Sequence

import msgspec

from billing.clock import to_datetime
from billing.dashboard import format as written
from billing.invoicing.quantities import add_up
from billing.invoicing.trace import Trace
from billing.metering.rollup import NO_PROVENANCE
from billing.metering.stored import StoredCount
from billing.metering.totals.total import Pace, UsageTotal
from billing.pricing.billable import Disposition
from billing.pricing.measure import counted
from billing.tokens.components import Component
from billing.tokens.usage import BESIDE, Outcome, Part

GOOD, FAIR, BAD = "good", "fair", "bad"
_TONES = {Outcome.COMPLETE.value: GOOD, Outcome.CLIENT_CLOSED.value: FAIR, Outcome.TRUNCATED.value: FAIR}
_MARKS = {"reported": "", "running": "r", "counted": "c", "estimated": "e"}
"""The letter behind a count that says how it is known; the usual way needs none."""


class Figure(msgspec.Struct, frozen=True):
    """A count with how it is known. ``mark`` is empty for what the engine reported; ``hint`` says it in words."""

    text: str
    mark: str = ""
    hint: str = ""
    is_known: bool = True


class Tag(msgspec.Struct, frozen=True):
    """A word with its tone: ``good``, ``fair`` or ``bad``."""

    text: str
    tone: str
    hint: str = ""


class Cost(msgspec.Struct, frozen=True):
    """An estimate in figures, or the word for why there is none; ``note`` says what becomes of it."""

    text: str
    currency: str = ""
    note: str = ""
    hint: str = ""


class RequestRow(msgspec.Struct, frozen=True):
    """One line of the list of requests."""

    id: str
    short_id: str
    at: str
    clock: str
    moment: str
    ago: str
    tenant: str
    tenant_name: str
    model: str
    kind: str
    outcome: Tag
    input: Figure
    cached: Figure
    output: Figure
    reasoning: Figure
    first_token: str
    pace: str
    duration: str
    cost: Cost


class TotalsRow(msgspec.Struct, frozen=True):
    """What was used in a span of time."""

    title: str
    span: str
    requests: str
    input: str
    cached: str
    output: str
    reasoning: str
    beside: str
    """What is neither input nor output: units, and tokens trained on; empty for none."""
    note: str


class OutcomeShare(msgspec.Struct, frozen=True):
    """How many requests of today ended in one way."""

    tag: Tag
    requests: str


class Speed(msgspec.Struct, frozen=True):
    """How fast it goes: tokens a second over the last minute, and waits for a first token."""

    output: str
    input: str
    requests: str
    median: str
    slowest: str
    sample: str


def request_rows(traces: Sequence[Trace], now_us: int) -> tuple[RequestRow, ...]:
    """The list of requests; costs of one currency have equally many decimals, so that the column lines up."""
    costs = _costs(traces)
    return tuple(_request_row(each, cost, now_us) for each, cost in zip(traces, costs, strict=True))


def _request_row(found: Trace, cost: Cost, now_us: int) -> RequestRow:
    record = found.record
    text = str(record.id)
    return RequestRow(
        id=text,
        short_id=written.short_id(text),
        at=written.timestamp(found.at_us),
        clock=written.clock(found.at_us),
        moment=f"{written.moment(found.at_us)} UTC",
        ago=written.ago(found.at_us, now_us),
        tenant=found.parties.tenant,
        tenant_name=found.parties.tenant_name,
        model=record.model,
        kind=_kind(found),
        outcome=outcome_tag(record.outcome, record.status, record.error),
        input=figure(record.input),
        cached=figure(record.cached_input),
        output=figure(record.output),
        reasoning=figure(record.reasoning),
        first_token=written.span(record.ttft_us),
        pace=_pace_of(found),
        duration=written.span(record.duration_us),
        cost=cost,
    )


def _kind(found: Trace) -> str:
    """What was asked for, and what was used beside tokens of input and output."""
    record = found.record
    used = {part: record.parts[part].value or 0 for part in Part if part in BESIDE and part in record.parts}
    words = (record.operation, "streamed" if record.stream else "", _beside(used.items()))
    return ", ".join(filter(None, words))


def _beside(quantities: Iterable[tuple[str, int]]) -> str:
    """Quantities by their words, what is 0 left out: ``12 seconds, 500 tokens trained on``."""
    texts = [
        f"{counted(quantity, word)}{' trained on' if word == Component.TRAINING else ''}"
        for word, quantity in quantities
        if quantity
    ]
    return ", ".join(texts)


def figure(count: StoredCount) -> Figure:
    """A count as it is shown."""
    if count.value is None:
        return Figure(written.UNKNOWN, hint="not reported, and nothing to count it by", is_known=False)
    provenance = count.provenance or ""
    hint = f"{provenance} ({count.method})" if count.method else provenance
    return Figure(written.count(count.value), _MARKS.get(provenance, "?"), hint)


def outcome_tag(outcome: str, status: int | None = None, error: str | None = None) -> Tag:
    """How a request ended, with its tone."""
    hints = [f"HTTP {status}" if status else "", error or ""]
    return Tag(written.words(outcome), _TONES.get(outcome, BAD), ", ".join(filter(None, hints)))


def _pace_of(found: Trace) -> str:
    """Tokens a second of the answer: after the first token where that is known, else over the whole request."""
    record = found.record
    if not record.output.value:
        return written.ABSENT
    if record.itl_us:
        return written.pace(1, record.itl_us)
    return written.pace(record.output.value, record.duration_us or 0)


def _costs(traces: Sequence[Trace]) -> list[Cost]:
    """The costs of all lines, written together by currency."""
    texts: dict[int, str] = {}
    for currency in {each.currency for each in traces}:
        lines = [
            (place, each.amount)
            for place, each in enumerate(traces)
            if each.currency == currency and each.amount is not None
        ]
        figures = written.amounts([value for _, value in lines], currency)
        texts.update({place: text for (place, _), text in zip(lines, figures, strict=True)})
    return [_cost(each, texts.get(place)) for place, each in enumerate(traces)]


def _cost(found: Trace, text: str | None) -> Cost:
    reasons = ", ".join(sorted({each.unpriced for each in found.costs if each.unpriced}))
    if text is None and reasons:
        return Cost("unrated", hint=f"not priced: {reasons}")
    if text is None:
        return Cost(written.UNKNOWN, note=_note(found.disposition), hint="a count that it needs is unknown")
    return Cost(
        text=text,
        currency=found.currency or "",
        note=_note(found.disposition) or ("in part" if reasons else ""),
        hint=f"not priced in part: {reasons}" if reasons else _ESTIMATE[found.disposition],
    )


_ESTIMATE = {
    Disposition.BILL: "an estimate until the period is closed",
    Disposition.WAIVE: "what it would have cost; it is not billed",
    Disposition.REVIEW: "what it would cost; not billed before someone looked",
}


def _note(found: Disposition) -> str:
    return {Disposition.BILL: "", Disposition.WAIVE: "waived", Disposition.REVIEW: "review"}[found]


def totals_row(title: str, start_us: int, totals: Sequence[UsageTotal]) -> TotalsRow:
    """The sums of a span, from the rollup that is billed."""
    used = add_up(each.tokens for each in totals)
    beside = {part: used.get(part) for part in Component if not part.is_served}
    lacking = sum(each.requests for each in totals if each.provenance == NO_PROVENANCE)
    return TotalsRow(
        title=title,
        span=f"since {written.minute(start_us)} UTC",
        requests=written.count(sum(each.requests for each in totals)),
        input=written.count(used.input),
        cached=written.count(used.cached_input),
        output=written.count(used.output),
        reasoning=written.count(used.reasoning),
        beside=_beside(beside.items()),
        note=_lacking(lacking, title),
    )


def _lacking(requests: int, title: str) -> str:
    """What the sums leave out because nobody knows it."""
    if not requests:
        return ""
    verb = "lacks" if requests == 1 else "lack"
    return f"{written.counted(requests, 'request')} of {title} {verb} a count; what is not known is not in these sums."


def outcome_shares(totals: Sequence[UsageTotal]) -> tuple[OutcomeShare, ...]:
    """How requests ended, in the order of the outcomes."""
    return tuple(
        OutcomeShare(outcome_tag(each.value), written.count(requests))
        for each in Outcome
        if (requests := sum(total.requests for total in totals if total.outcome == each.value))
    )


def speed(found: Pace, window_us: int) -> Speed:
    """Pace of the last minute and waits of the latest streams."""
    waits = found.first_token_us
    return Speed(
        output=written.pace(found.output, window_us),
        input=written.pace(found.input, window_us),
        requests=written.counted(found.requests, "request"),
        median=written.span(written.percentile(waits, 50)),
        slowest=written.span(written.percentile(waits, 95)),
        sample=f"first tokens of the last {written.counted(len(waits), 'stream')}"
        if waits
        else "nothing streamed yet",
    )


def month_title(instant_us: int) -> str:
    """The month of an instant in UTC, as people write it."""
    return f"{to_datetime(instant_us):%B %Y}"
