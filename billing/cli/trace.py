"""``billing trace``."""

from collections.abc import Sequence

import click

from billing import money
from billing.cli import output, quantity
from billing.cli.context import Context
from billing.invoicing.trace import Cost, Trace, operation_of, spans_of
from billing.pricing.billable import Disposition
from billing.pricing.measure import unit_of

_VERDICTS = {
    Disposition.BILL: "will be billed",
    Disposition.WAIVE: "waived: not billed",
    Disposition.REVIEW: "under review: not billed before someone looked",
}
MARGINAL = (
    "Marginal: tiers and allowances count over a whole period, so this request is priced at what the next token or "
    "unit costs, which is an estimate."
)
_MICROSECONDS_PER_MILLISECOND = 1_000
_TENTH_US = 100


@click.command("trace")
@click.argument("usage_id", metavar="ID")
@output.json_option
@click.pass_obj
def trace(context: Context, usage_id: str, as_json: bool) -> None:
    """One request from its key to its cost. ID is what its reply carried as x-request-id."""
    found = context.run(lambda services: services.invoicing.trace(usage_id))
    if as_json:
        output.document(_document(found))
        return
    output.heading(f"Request {found.record.id}", f"arrived {output.moment(found.at_us)} UTC")
    output.facts(_facts(found))
    output.draw(_counts_sheet(found))
    if found.costs:
        output.draw(_costs_sheet(found))
    if any(each.is_marginal for each in found.costs):
        output.paragraph(MARGINAL)
    output.paragraph(_verdict(found))


def _facts(found: Trace) -> list[tuple[str, str]]:
    """What is known beside the counts, in the order of the request's way; what is absent is left out."""
    record, parties = found.record, found.parties
    url = f", {parties.backend_url}" if parties.backend_url else ""
    answered = f"{parties.backend or record.backend_id} ({record.engine}{url})"
    named = record.response_model if record.response_model and record.response_model != record.model else None
    every = (
        ("Tenant", f"{parties.tenant}{f' ({parties.tenant_name})' if parties.tenant_name else ''}"),
        ("Project", parties.project),
        ("Key", f"{parties.key_prefix}… ({parties.key_name})" if parties.key_prefix else record.key_id),
        ("End user", record.end_user),
        ("Tags", ", ".join(f"{name}={value}" for name, value in sorted(record.tags.items()))),
        (
            "Asked for",
            f"{record.model} · {operation_of(record)}{', streamed' if record.stream else ''} · {record.service_tier}",
        ),
        ("Answered by", answered if record.backend_id else record.engine),
        ("Engine's name", named),
        ("Response id", record.response_id),
        ("Idempotency key", record.idempotency_key),
        ("Outcome", f"{output.words(record.outcome)}, {_status(found)}"),
        ("Time", _times(found)),
        ("Recorded", f"{output.moment(record.recorded_us)} UTC, collection {record.collection}"),
    )
    return [(name, str(text)) for name, text in every if text]


def _status(found: Trace) -> str:
    status = f"HTTP {found.record.status}" if found.record.status else "status not known"
    return f"{status}, {found.record.error}" if found.record.error else status


def _times(found: Trace) -> str:
    known = [f"{name} {milliseconds(span_us)}" for name, span_us in spans_of(found.record)]
    return " · ".join(known) or "not known"


def milliseconds(span_us: int) -> str:
    """A span in milliseconds with one decimal, cut and not rounded; in microseconds where that would be 0.0."""
    if span_us < _TENTH_US:
        return f"{span_us} µs"
    whole, rest = divmod(span_us, _MICROSECONDS_PER_MILLISECOND)
    return f"{whole:,}.{rest // _TENTH_US} ms"


def _counts_sheet(found: Trace) -> output.Sheet:
    columns = quantity.titles(name for name, _ in found.counts)
    sheet = output.Sheet("Counted", *columns, "Provenance", "Method*")
    for name, known in found.counts:
        number = "unknown" if known.value is None else output.count(known.value)
        shown = (number, unit_of(name))[: len(columns)]
        sheet.add(output.words(name), *shown, known.provenance or "–", known.method or "–")
    if found.record.input_estimate is not None and found.record.input.value is None:
        guess = output.count(found.record.input_estimate)
        cells = (guess, "tokens")[: len(columns)]
        sheet.add("input, guessed", *cells, "estimated", "from the size of the request; never billed")
    return sheet


def _costs_sheet(found: Trace) -> output.Sheet:
    currency = found.currency or ""
    known = [each.amount for each in found.costs if each.amount is not None]
    *costs, total = output.amounts([*known, money.total(known)], currency)
    written = iter(costs)
    columns = quantity.titles(each.component for each in found.costs)
    sheet = output.Sheet("Priced", columns[0], "× price>", "÷ per>", "= amount>", "Rate*")
    for each in found.costs:
        amount = next(written) if each.amount is not None else "unrated"
        head = (output.words(each.component), quantity.cell(each.quantity, each.component, columns))
        sheet.add(*head, *_cost_row(each, amount, currency))
    if known:
        sheet.rule()
        sheet.add("Estimate", "", "", currency, total, "until the period is closed", bold=True)
    return sheet


def _cost_row(cost: Cost, amount: str, currency: str) -> tuple[str, ...]:
    if cost.price is None:
        return "–", "–", amount, cost.unpriced or ""
    source = f"{cost.plan} v{cost.version}, {cost.pattern}"
    if cost.priced_as is not None and cost.priced_as != cost.component:
        source += f", as {output.words(cost.priced_as)}"
    if cost.is_marginal:
        source += f", marginal{'' if cost.tier is None else f', tier {cost.tier + 1}'}"
    if cost.included:
        return "included", "–", amount, source
    price = "free" if cost.price.is_free else output.amount(cost.price.price, currency)
    return price, output.count(cost.price.per), amount, source


def _verdict(found: Trace) -> str:
    verdict = f"This request {'is ' if found.disposition is not Disposition.BILL else ''}{_VERDICTS[found.disposition]}"
    if any(each.unpriced for each in found.costs):
        return f"{verdict}, apart from what is unrated."
    return f"{verdict}."


def _document(found: Trace) -> dict[str, object]:
    record, parties = found.record, found.parties
    return {
        "id": record.id,
        "arrived_at": output.timestamp(found.at_us),
        "tenant": parties.tenant,
        "project": parties.project,
        "key": {"id": record.key_id, "prefix": parties.key_prefix, "name": parties.key_name},
        "end_user": record.end_user,
        "tags": record.tags,
        "idempotency_key": record.idempotency_key,
        "model": record.model,
        "operation": record.operation,
        "stream": record.stream,
        "service_tier": record.service_tier,
        "backend": {"id": record.backend_id, "name": parties.backend, "engine": record.engine},
        "response_model": record.response_model,
        "response_id": record.response_id,
        "outcome": record.outcome,
        "status": record.status,
        "error": record.error,
        "ttft_us": record.ttft_us,
        "itl_us": record.itl_us,
        "duration_us": record.duration_us,
        "collection": record.collection,
        "recorded_at": output.timestamp(record.recorded_us),
        "counts": {
            name: {
                "value": known.value,
                "unit": unit_of(name),
                "provenance": known.provenance,
                "method": known.method,
            }
            for name, known in found.counts
        },
        "input_estimate": record.input_estimate,
        "disposition": found.disposition,
        "currency": found.currency,
        "costs": _cost_documents(found.costs),
        "amount": found.amount,
        "amount_is_estimate": True,
    }


def _cost_documents(costs: Sequence[Cost]) -> list[dict[str, object]]:
    return [
        {
            "component": each.component,
            "quantity": each.quantity,
            "unit": each.unit,
            "price": money.plain(each.price.price) if each.price else None,
            "per": each.price.per if each.price else None,
            "amount": money.plain(each.amount) if each.amount is not None else None,
            "plan": each.plan or None,
            "version": each.version or None,
            "pattern": each.pattern or None,
            "priced_as": each.priced_as,
            "unrated": each.unpriced,
            "is_marginal": each.is_marginal,
            "tier": each.tier,
            "included": each.included,
        }
        for each in costs
    ]
