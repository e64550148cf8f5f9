"""``billing invoices``."""

from collections.abc import Sequence
from decimal import Decimal

import click

from billing import money
from billing.cli import output
from billing.cli.context import Context
from billing.invoicing.draft import Draft, Reason, Section
from billing.invoicing.service import Preview
from billing.pricing.rating import Rated, Unrated


@click.group("invoices")
def invoices() -> None:
    """What a tenant owes."""


@invoices.command("preview")
@output.tenant_option
@output.period_option
@output.json_option
@click.pass_obj
def preview(context: Context, tenant_slug: str, period: str | None, as_json: bool) -> None:
    """Show what a tenant owes for a month so far: exact lines, and a total rounded once."""
    found = context.run(lambda services: services.invoicing.preview(tenant_slug, period))
    if as_json:
        output.document(_document(found))
        return
    draft = found.draft
    output.heading(
        f"Invoice preview · {found.tenant.name} ({found.tenant.slug}) · {draft.period.title}",
        " · ".join(
            filter(None, [draft.label, output.span(draft.period), f"as of {output.when(found.as_of_us)} UTC"])
        ),
    )
    _draw_billed(found)
    if draft.waived.requests or draft.review.requests:
        output.draw(_apart_sheet(draft))
        output.paragraph(_apart_reason(draft))
    if draft.billed.unrated:
        output.draw(_unrated_sheet(draft.billed.unrated))
        output.paragraph(_unrated_advice(found))


def _draw_billed(found: Preview) -> None:
    draft = found.draft
    if draft.billed.lines:
        output.draw(_lines_sheet(draft))
    elif not any(section.requests for section in draft.sections):
        output.paragraph("Nothing was used in this period.")
        if draft.currency is None:
            output.paragraph(
                f"No plan prices it either: billing subscriptions create --tenant {found.tenant.slug} --plan PLAN"
            )
    else:
        output.paragraph(
            "Nothing to bill." if draft.currency else "Nothing to bill: no plan prices this period."
        )


def _lines_sheet(draft: Draft) -> output.Sheet:
    lines, currency = draft.billed.lines, draft.currency or ""
    columns = ["Model*", "Component", "Tokens>", f"{_price_title(lines)}>", "Amount>"]
    shows_version = len({(each.plan, each.version) for each in lines}) > 1
    if shows_version:
        columns.insert(2, "Prices")
    prices = output.amounts([each.price.price for each in lines], currency)
    # The total stands below with the currency's own decimals; the lines above it keep every digit they need.
    costs = output.amounts([*(each.amount for each in lines), draft.subtotal], currency)
    model = ""
    sheet = output.Sheet(*columns)
    for each, price, cost in zip(lines, prices, costs, strict=False):
        row = [
            "" if each.model == model else each.model,
            output.words(each.component),
            output.count(each.quantity),
        ]
        row += [_price(each, price, lines), cost]
        if shows_version:
            row.insert(2, f"{each.plan} v{each.version}")
        sheet.add(*row)
        model = each.model
    sheet.rule()
    blank = [""] * (len(columns) - 5)
    quantity = output.count(sum(each.quantity for each in lines))
    sheet.add("Subtotal", "exact", *blank, quantity, "", costs[-1])
    total = output.amount(draft.total or Decimal(0), currency)
    sheet.add("Total", "rounded once", *blank, "", currency, total, bold=True)
    return sheet


def _price_title(lines: Sequence[Rated]) -> str:
    pers = {each.price.per for each in lines if not each.price.is_free}
    return f"Price\nper {output.count(pers.pop())}" if len(pers) == 1 else "Price"


def _price(line: Rated, text: str, lines: Sequence[Rated]) -> str:
    if line.price.is_free:
        return "free"
    is_shared = len({each.price.per for each in lines if not each.price.is_free}) == 1
    return text if is_shared else f"{text} per {output.count(line.price.per)}"


def _apart_sheet(draft: Draft) -> output.Sheet:
    """What is not billed, by how it ended and how it is known, with what it would have cost."""
    shown = [("waived", each) for each in draft.waived.reasons]
    shown += [("under review", each) for each in draft.review.reasons]
    sheet = output.Sheet("Not billed", "Outcome", "Provenance", "Requests>", "Tokens>", "Worth>")
    costs = output.amounts([each.amount for _, each in shown], draft.currency or "")
    for (what, each), cost in zip(shown, costs, strict=True):
        ended, known = output.words(each.outcome), output.provenance(each.provenance)
        tokens = "unknown" if each.is_unknown else output.count(each.tokens)
        sheet.add(what, ended, known, output.count(each.requests), tokens, _worth(each, cost))
    return sheet


def _worth(reason: Reason, cost: str) -> output.Cell:
    """What it would have cost, as far as a rate says; never 0 for what has none."""
    if reason.is_unknown:
        return "unknown"
    if reason.worth is None:
        return "unrated"
    # In lines of their own, so that the table fits 80 columns.
    return (cost, f"and {output.count(reason.unrated)}", "tokens unrated") if reason.unrated else cost


def _apart_reason(draft: Draft) -> str:
    """Why something stands apart, for whoever pays and whoever asks."""
    reasons = []
    if draft.waived.requests:
        reasons.append("Waived: the caller did not get a whole answer.")
    if draft.review.requests:
        reasons.append("Under review: how much it was is estimated or unknown.")
    return " ".join(reasons)


def _unrated_sheet(unrated: Sequence[Unrated]) -> output.Sheet:
    sheet = output.Sheet("Unrated*", "Component", "Tokens>", "Why")
    for each in unrated:
        sheet.add(each.model, output.words(each.component), output.count(each.quantity), each.reason)
    return sheet


def _unrated_advice(found: Preview) -> str:
    if found.draft.currency is None:
        return (
            f"Give the tenant a plan: billing subscriptions create --tenant {found.tenant.slug} --plan PLAN"
        )
    return "Unrated usage is not billed at 0: it waits until a plan prices it (billing plans apply FILE)."


def _document(found: Preview) -> dict[str, object]:
    draft = found.draft
    return {
        "status": "preview",
        "tenant": found.tenant.slug,
        "name": found.tenant.name,
        "period": str(draft.period),
        "start": output.timestamp(draft.period.start_us),
        "end": output.timestamp(draft.period.end_us),
        "as_of": output.timestamp(found.as_of_us),
        "label": draft.label,
        "currency": draft.currency,
        "requests": draft.billed.requests,
        "tokens": draft.billed.tokens - draft.billed.tokens_unrated,
        "tokens_unrated": draft.billed.tokens_unrated,
        "lines": [_line_document(each) for each in draft.billed.lines],
        "subtotal": None if draft.currency is None else draft.subtotal,
        # As text here, because its decimals are the currency's, zeros included.
        "total": None if draft.total is None else f"{draft.total:f}",
        "total_minor": draft.total_minor,
        "unrated": [_unrated_document(each) for each in draft.billed.unrated],
        "waived": _section_document(draft.waived),
        "under_review": _section_document(draft.review),
    }


def _section_document(section: Section) -> dict[str, object]:
    return {
        **_quantities(section),
        "lines": [_line_document(each) for each in section.lines],
        "unrated": [_unrated_document(each) for each in section.unrated],
        "reasons": [
            {"outcome": each.outcome, "provenance": each.provenance, **_quantities(each)}
            for each in section.reasons
        ],
    }


def _quantities(part: Section | Reason) -> dict[str, object]:
    """Tokens with a rate and those without apart, as the subtotal has them; what is not known is null, never 0."""
    unrated = part.tokens_unrated if isinstance(part, Section) else part.unrated
    return {
        "requests": part.requests,
        "requests_unknown": part.requests_unknown,
        "tokens": None if part.is_unknown else part.tokens - unrated,
        "tokens_unrated": None if part.is_unknown else unrated,
        "amount": part.worth,
    }


def _line_document(line: Rated) -> dict[str, object]:
    return {
        "plan": line.plan,
        "version": line.version,
        "model": line.model,
        "component": line.component,
        "quantity": line.quantity,
        "price": money.plain(line.price.price),
        "per": line.price.per,
        "amount": money.plain(line.amount),
    }


def _unrated_document(line: Unrated) -> dict[str, object]:
    return {
        "model": line.model,
        "component": line.component,
        "quantity": line.quantity,
        "reason": line.reason,
    }
