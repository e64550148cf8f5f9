"""``billing invoices``."""

from collections.abc import Sequence
from decimal import Decimal

import click

from billing import money
from billing.cli import output, quantity
from billing.cli.context import Context
from billing.cli.invoices_close import close, list_, part_of_month, show, verify
from billing.invoicing.draft import Draft, Reason, Section
from billing.invoicing.period import instant
from billing.invoicing.quantities import without
from billing.invoicing.service import Preview
from billing.pricing.charge import Charge, ChargeKind
from billing.pricing.measure import counted, in_all, unit_of
from billing.pricing.rating import Rated, Unrated


@click.group("invoices")
def invoices() -> None:
    """What a tenant owes."""


for _command in (close, list_, show, verify):
    invoices.add_command(_command)


@invoices.command("preview")
@output.tenant_option
@output.period_option
@output.json_option
@click.pass_obj
def preview(context: Context, tenant_slug: str, period: str | None, as_json: bool) -> None:
    """Show what a tenant owes for a month so far: exact lines, and a total rounded once.

    Of a month that is closed, what its invoice says.
    """
    found = context.run(lambda services: services.invoicing.preview(tenant_slug, period))
    if as_json:
        output.document(_document(found))
        return
    draft = found.draft
    output.heading(
        f"{_title(found)} · {found.tenant.name} ({found.tenant.slug}) · {draft.period.title}",
        " · ".join(
            filter(None, [draft.label, output.span(draft.period), f"as of {output.when(found.as_of_us)} UTC"])
        ),
    )
    if found.invoice is not None:
        output.paragraph(
            "The month is closed: this is what its invoice says, and what came since changes nothing."
        )
    _draw_billed(found)
    if draft.waived.requests or draft.review.requests:
        output.draw(_apart_sheet(draft))
        output.paragraph(_apart_reason(draft))
    if draft.billed.unrated:
        output.draw(_unrated_sheet(draft.billed.unrated, draft.currency or ""))
        output.paragraph(_unrated_advice(found))


def _title(found: Preview) -> str:
    if found.invoice is None:
        return "Invoice preview"
    return f"Invoice {found.invoice.number}" if found.invoice.number else "Invoice that is being issued"


def _draw_billed(found: Preview) -> None:
    draft = found.draft
    is_unused = not any(section.requests for section in draft.sections)
    if draft.billed.lines or draft.charges:
        output.draw(_lines_sheet(draft))
    elif not is_unused:
        output.paragraph(
            "Nothing to bill." if draft.currency else "Nothing to bill: no plan prices this period."
        )
    if is_unused:
        output.paragraph("Nothing was used in this period.")
        if draft.currency is None:
            output.paragraph(
                f"No plan prices it either: billing subscriptions create --tenant {found.tenant.slug} --plan PLAN"
            )
    for each in draft.charges:
        if (part := each.coverage) is not None:
            covered = (str(part), instant(part.start_us), instant(part.end_us))
            output.paragraph(part_of_month(each.kind, each.agreed, draft.currency or "", covered))
    if found.invoice is None and any(each.kind is ChargeKind.MINIMUM for each in draft.charges):
        output.paragraph("What is up to the minimum becomes less while more is used in the period.")


def _lines_sheet(draft: Draft) -> output.Sheet:
    lines, currency = draft.billed.lines, draft.currency or ""
    owed: list[Rated | Charge] = [*lines, *draft.charges]
    shows_version = len({(each.plan, each.version) for each in owed}) > 1
    shows_tier = any(each.included or each.tier is not None for each in lines)
    extra = ["Prices"] * shows_version + ["Tier"] * shows_tier
    columns = quantity.titles(each.component for each in lines)
    sheet = output.Sheet("Model*", "Component", *extra, *columns, f"{_price_title(lines)}>", "Amount>")
    # The total stands below with the currency's own decimals; the lines above it keep every digit they need.
    exact = [each.amount for each in owed] + [draft.billed.amount, draft.subtotal]
    *costs, used, subtotal = output.amounts(exact, currency)
    _add_lines(sheet, lines, costs, currency)
    sheet.rule()
    blank, nothing = [""] * len(extra), [""] * len(columns)
    tokens = quantity.sum_cells(((each.component, each.quantity) for each in lines), columns)
    if draft.charges:
        sheet.add("Usage", "exact", *blank, *tokens, "", used)
        for charge, cost in zip(draft.charges, costs[len(lines) :], strict=True):
            prices = [f"{charge.plan} v{charge.version}"] * shows_version + [""] * shows_tier
            sheet.add(*_charge(charge, currency), *prices, *nothing, "", cost)
        sheet.rule()
    sheet.add("Subtotal", "exact", *blank, *(nothing if draft.charges else tokens), "", subtotal)
    total = output.amount(draft.total or Decimal(0), currency)
    sheet.add("Total", "rounded once", *blank, *nothing, currency, total, bold=True)
    return sheet


def _add_lines(sheet: output.Sheet, lines: Sequence[Rated], costs: Sequence[str], currency: str) -> None:
    shown = {title.rstrip("*>") for title in sheet.columns}
    columns = quantity.titles(each.component for each in lines)
    prices = output.amounts([each.price.price for each in lines], currency)
    before = ("", "", "", 0)
    for each, price, cost in zip(lines, prices, costs, strict=False):
        identity = (each.model, each.component, each.plan, each.version)
        name = "" if each.model == before[0] else each.model
        component = "" if identity == before else output.words(each.component)
        extra = [f"{each.plan} v{each.version}"] * ("Prices" in shown) + [_tier(each)] * ("Tier" in shown)
        used = quantity.cells(each.quantity, each.component, columns)
        sheet.add(name, component, *extra, *used, _price(each, price, lines), cost)
        before = identity


def _tier(line: Rated) -> str:
    """Tiers count from 1 for people."""
    return "included" if line.included else "" if line.tier is None else f"tier {line.tier + 1}"


def _charge(charge: Charge, currency: str) -> tuple[str, str]:
    if charge.kind is ChargeKind.FEE:
        return "Fee", "monthly" if charge.coverage is None else "part of a month"
    return "Minimum", f"up to {output.amount(charge.due, currency)}"


def _price_title(lines: Sequence[Rated]) -> str:
    pers = {each.price.per for each in lines if not each.price.is_free}
    return f"Price\nper {output.count(pers.pop())}" if len(pers) == 1 else "Price"


def _price(line: Rated, text: str, lines: Sequence[Rated]) -> str:
    if line.price.is_free:
        return "–" if line.included else "free"
    is_shared = len({each.price.per for each in lines if not each.price.is_free}) == 1
    return text if is_shared else f"{text} per {output.count(line.price.per)}"


def _apart_sheet(draft: Draft) -> output.Sheet:
    """What is not billed, by how it ended and how it is known, with what it would have cost."""
    shown = [("waived", each) for each in draft.waived.reasons]
    shown += [("under review", each) for each in draft.review.reasons]
    has_units = any(each.units for _, each in shown)
    units = ["Units"] if has_units else []
    sheet = output.Sheet("Not billed", "Outcome", "Provenance", "Requests>", "Tokens>", *units, "Worth>")
    costs = output.amounts([each.amount for _, each in shown], draft.currency or "")
    for (what, each), cost in zip(shown, costs, strict=True):
        ended, known = output.words(each.outcome), output.provenance(each.provenance)
        tokens = "unknown" if each.is_unknown else output.count(each.tokens)
        beside = [tuple(counted(number, part) for part, number in each.units.items())] if has_units else []
        sheet.add(what, ended, known, output.count(each.requests), tokens, *beside, _worth(each, cost))
    return sheet


def _worth(reason: Reason, cost: str) -> output.Cell:
    """What it would have cost, as far as a rate says; never 0 for what has none."""
    if reason.is_unknown:
        return "unknown"
    if reason.worth is None:
        return "unrated"
    # In lines of their own, so that the table fits 80 columns.
    if reason.units_unrated:
        return (cost, f"and {in_all(reason.unrated, reason.units_unrated)}", "unrated")
    return (cost, f"and {output.count(reason.unrated)}", "tokens unrated") if reason.unrated else cost


def _apart_reason(draft: Draft) -> str:
    """Why something stands apart, for whoever pays and whoever asks."""
    reasons = []
    if draft.waived.requests:
        reasons.append("Waived: the caller did not get a whole answer.")
    if draft.review.requests:
        reasons.append("Under review: how much it was is estimated or unknown.")
    return " ".join(reasons)


def _unrated_sheet(unrated: Sequence[Unrated], currency: str) -> output.Sheet:
    """What has no rate, with an estimate of what it might have cost: the revenue at risk."""
    columns = quantity.titles(each.component for each in unrated)
    sheet = output.Sheet("Unrated*", "Component", *columns, "At risk,\nestimated>", "Why")
    known = [each.at_risk for each in unrated if each.at_risk is not None]
    *estimates, whole = output.amounts([*known, money.total(known)], currency)
    written = iter(estimates)
    for each in unrated:
        estimate = "unknown" if each.at_risk is None else next(written)
        used = quantity.cells(each.quantity, each.component, columns)
        sheet.add(each.model, output.words(each.component), *used, estimate, each.reason)
    if known and len(unrated) > 1:
        sheet.rule()
        tokens = quantity.sum_cells(((each.component, each.quantity) for each in unrated), columns)
        more = "" if len(known) == len(unrated) else "and what is unknown"
        sheet.add("Revenue at risk", currency, *tokens, whole, more)
    return sheet


def _unrated_advice(found: Preview) -> str:
    if found.draft.currency is None:
        return (
            f"Give the tenant a plan: billing subscriptions create --tenant {found.tenant.slug} --plan PLAN"
        )
    return (
        "Unrated usage is not billed at 0: it waits until a plan prices it (billing plans apply FILE). At risk is an "
        "estimate, at the dearest price that the plan has for such usage."
    )


def _document(found: Preview) -> dict[str, object]:
    draft = found.draft
    return {
        "status": "preview" if found.invoice is None else found.invoice.status,
        "number": None if found.invoice is None else found.invoice.number,
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
        **_units(draft.billed),
        "lines": [_line_document(each) for each in draft.billed.lines],
        "charges": [_charge_document(each) for each in draft.charges],
        "usage_amount": None if draft.currency is None else draft.billed.amount,
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
        **_units(part),
        "amount": part.worth,
    }


def _units(part: Section | Reason) -> dict[str, dict[str, int]]:
    """What has no tokens, by component: with a rate and without, apart as the tokens are."""
    rated = without(part.units, part.units_unrated)
    return {"units": quantity.documented(rated), "units_unrated": quantity.documented(part.units_unrated)}


def _line_document(line: Rated) -> dict[str, object]:
    return {
        "plan": line.plan,
        "version": line.version,
        "model": line.model,
        "component": line.component,
        "quantity": line.quantity,
        "unit": unit_of(line.component),
        "price": money.plain(line.price.price),
        "per": line.price.per,
        "amount": money.plain(line.amount),
        "amount_minor": line.amount_minor,
        "tier": line.tier,
        "included": line.included,
    }


def _charge_document(charge: Charge) -> dict[str, object]:
    return {
        "kind": charge.kind,
        "plan": charge.plan,
        "version": charge.version,
        "agreed": charge.agreed,
        "fraction": None if charge.coverage is None else str(charge.coverage),
        "covered_start": None if charge.coverage is None else instant(charge.coverage.start_us),
        "covered_end": None if charge.coverage is None else instant(charge.coverage.end_us),
        "amount": charge.amount,
        "amount_minor": charge.amount_minor,
    }


def _unrated_document(line: Unrated) -> dict[str, object]:
    return {
        "model": line.model,
        "component": line.component,
        "quantity": line.quantity,
        "unit": unit_of(line.component),
        "reason": line.reason,
        "at_risk_estimate": line.at_risk,
    }
