"""``billing usage``."""

from collections.abc import Iterator

import click

from billing.cli import output
from billing.cli.context import Context
from billing.invoicing.service import UsageReport
from billing.invoicing.usage_summary import UsageLine
from billing.tokens.components import Component, Components


@click.command("usage")
@output.tenant_option
@output.period_option
@output.json_option
@click.pass_obj
def usage(context: Context, tenant_slug: str, period: str | None, as_json: bool) -> None:
    """Tokens of a tenant by model, component and provenance.

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
    sheet = output.Sheet("Model*", "Weakest\nprovenance", "Component", "Requests>", "Tokens>")
    model = ""
    for each in report.summary.lines:
        for cells in _rows(each, is_first=each.model != model):
            sheet.add(*cells)
        model = each.model
    sheet.rule()
    everything = report.summary
    sheet.add(
        "All", "", "", output.count(everything.requests), output.count(everything.tokens.total), bold=True
    )
    return sheet


def _rows(usage_line: UsageLine, *, is_first: bool) -> Iterator[tuple[str, ...]]:
    """A row a component; what they share stands in the first, and alone where nothing is known."""
    used = [part for part in Component if usage_line.tokens.get(part)]
    shared = (usage_line.model if is_first else "", output.provenance(usage_line.provenance))
    requests = output.count(usage_line.requests)
    if not used:
        yield (
            *shared,
            "–",
            requests,
            "unknown" if _is_unknown(usage_line) else "0",
        )
    for index, part in enumerate(used):
        tokens = output.count(usage_line.tokens.get(part))
        yield (
            *(shared if index == 0 else ("", "")),
            output.words(part),
            requests if index == 0 else "",
            tokens,
        )


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
