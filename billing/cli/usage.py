"""``billing usage``."""

from collections.abc import Iterator, Sequence

import click

from billing.cli import output, quantity
from billing.cli.context import Context
from billing.invoicing.quantities import units_of, used
from billing.invoicing.service import UsageReport
from billing.invoicing.usage_summary import UsageLine
from billing.pricing.measure import TOKENS
from billing.tokens.components import Component, Components


@click.command("usage")
@output.tenant_option
@output.period_option
@output.json_option
@click.pass_obj
def usage(context: Context, tenant_slug: str, period: str | None, as_json: bool) -> None:
    """Tokens and units of a tenant by model, component and provenance.

    Provenance says how the counts are known; where a request's counts differ, the weakest stands here.
    """
    report = context.run(lambda services: services.invoicing.usage(tenant_slug, period))
    if as_json:
        output.document(_document(report))
        return
    output.heading(
        f"Usage · {report.tenant.name} ({report.tenant.slug}) · {report.period.title}",
        f"{output.span(report.period)} · as of {output.when(report.as_of_us)} UTC",
    )
    if not report.summary.lines:
        output.paragraph(
            "Nothing was used. Recorded requests appear here within seconds while the recorder runs."
        )
        return
    output.draw(_sheet(report))
    output.paragraph("A request stands under the weakest provenance among its counts;")
    output.line("billing trace shows each count's own.")
    ends = [f"{output.words(each.outcome)} {output.count(each.requests)}" for each in report.summary.outcomes]
    output.paragraph("Requests: " + " · ".join(ends))


def _sheet(report: UsageReport) -> output.Sheet:
    everything = report.summary
    columns = quantity.titles(part for part, _ in used(everything.tokens))
    sheet = output.Sheet("Model*", "Weakest\nprovenance", "Component", "Requests>", *columns)
    model = ""
    for each in everything.lines:
        for cells in _rows(each, columns, is_first=each.model != model):
            sheet.add(*cells)
        model = each.model
    sheet.rule()
    tokens = (output.count(everything.tokens.total), TOKENS)[: len(columns)]
    sheet.add("All", "", "", output.count(everything.requests), *tokens, bold=True)
    for part, number in units_of(everything.tokens).items():
        sheet.add("", "", output.words(part), "", *quantity.cells(number, part, columns), bold=True)
    return sheet


def _rows(usage_line: UsageLine, columns: Sequence[str], *, is_first: bool) -> Iterator[tuple[str, ...]]:
    """A row a component; what they share stands in the first, and alone where nothing is known."""
    shared = (usage_line.model if is_first else "", output.provenance(usage_line.provenance))
    requests = output.count(usage_line.requests)
    index = -1
    for index, (part, number) in enumerate(used(usage_line.tokens)):
        yield (
            *(shared if index == 0 else ("", "")),
            output.words(part),
            requests if index == 0 else "",
            *quantity.cells(number, part, columns),
        )
    if index < 0:
        nothing = ("unknown" if _is_unknown(usage_line) else "0", "")[: len(columns)]
        yield (*shared, "–", requests, *nothing)


def _document(report: UsageReport) -> dict[str, object]:
    summary = report.summary
    return {
        "tenant": report.tenant.slug,
        "period": str(report.period),
        "start": output.timestamp(report.period.start_us),
        "end": output.timestamp(report.period.end_us),
        "as_of": output.timestamp(report.as_of_us),
        "requests": summary.requests,
        "requests_unknown": sum(each.requests for each in summary.lines if _is_unknown(each)),
        "tokens": summary.tokens.total,
        "components": _components(summary.tokens),
        "outcomes": {each.outcome: each.requests for each in summary.outcomes},
        "lines": [
            {
                "model": each.model,
                "provenance": each.provenance,
                "requests": each.requests,
                "tokens": each.tokens.total or (None if _is_unknown(each) else 0),
                "components": _line_components(each),
            }
            for each in summary.lines
        ],
    }


def _is_unknown(usage_line: UsageLine) -> bool:
    """Whether input or output of the requests is unknown, so that a count of 0 says nothing."""
    return usage_line.provenance == output.UNKNOWN_PROVENANCE


def _line_components(usage_line: UsageLine) -> dict[str, int | None]:
    absent = None if _is_unknown(usage_line) else 0
    return {part: tokens or absent for part, tokens in _components(usage_line.tokens).items()}


def _components(tokens: Components) -> dict[str, int]:
    return {part.value: tokens.get(part) for part in Component}
