"""``billing invoices close``, ``list``, ``show`` and ``verify``; the group is in ``invoices.py``."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from billing.cli import output, quantity
from billing.cli.context import Context
from billing.exports.invoice_csv import invoice_csv
from billing.exports.invoice_json import invoice_json
from billing.invoicing.close import CloseResult, NoInvoice
from billing.invoicing.content import Content, Ending, Line
from billing.invoicing.invoice import InvoiceDocument, InvoiceSummary
from billing.invoicing.late import LateUsage
from billing.invoicing.period import instant
from billing.pricing.measure import counted, in_all

if TYPE_CHECKING:  # what commands are given; importing it brings SQLAlchemy along
    from billing.cli.services import Services
    from billing.invoicing.service.invoicing import Verification

WAIT_DEFAULT_S = 60.0
WAIT_MAX_S = 3_600.0
VERIFY_PAGE = 500
LATE = "late, to be billed by a later invoice"
EMPTY = "No invoices yet. Close a month: billing invoices close --period YYYY-MM"
_PERSISTENT = {NoInvoice.NOT_ENDED, NoInvoice.NO_PRICES, NoInvoice.REFUSED, NoInvoice.FAILED}
"""Reasons that an operator has to do something about: the command fails then."""

tenant_option = click.option("--tenant", "tenant_slug", metavar="SLUG", help="One tenant; all unless given.")


@click.command("close")
@click.option(
    "--period", "month", metavar="YYYY-MM", required=True, help="The month, in each tenant's time zone."
)
@tenant_option
@click.option("--early", is_flag=True, help="Close a month that goes on: up to the next quarter of an hour.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, WAIT_MAX_S),
    default=WAIT_DEFAULT_S,
    show_default=True,
    help="Seconds at most until every request has its record.",
)
@click.option("--no-wait", is_flag=True, help="Close what is recorded; the rest is late usage.")
@output.json_option
@click.pass_context
def close(
    ctx: click.Context,
    month: str,
    tenant_slug: str | None,
    early: bool,
    wait_s: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Issue the invoices of a month. Doing it again changes nothing.

    It waits until every request of the period has its record. Usage that comes after it is late usage of the invoice.
    """
    context: Context = ctx.obj
    results = context.run(
        lambda services: services.invoicing.close(
            month, tenant_slug, early=early, wait_s=None if no_wait else wait_s, progress=output.note
        )
    )
    if as_json:
        output.document([_result_document(each) for each in results])
    else:
        _draw_results(month, results)
    ctx.exit(1 if any(each.reason in _PERSISTENT for each in results) else 0)


def _draw_results(month: str, results: Sequence[CloseResult]) -> None:
    if not results:
        output.line("There are no tenants.")
        return
    sheet = output.Sheet("Tenant", "What", "Invoice", "Total>", title=f"Close of {month}")
    for each in results:
        sheet.add(each.tenant, output.words(each.state), *_issued_cells(each.invoice))
    output.draw(sheet)
    for each in results:
        if each.detail:
            output.paragraph(f"{each.tenant}: {each.detail}")
    stuck = sum(each.reason in _PERSISTENT for each in results)
    if stuck:
        tenants = "1 tenant" if len(results) == 1 else f"{output.count(len(results))} tenants"
        output.note(
            f"{output.count(stuck)} of {tenants} could not be closed. Closing again does only what is not done."
        )


def _issued_cells(found: InvoiceSummary | None) -> tuple[str, str]:
    if found is None or found.number is None or found.total is None:
        return "–", "–"
    return found.number, f"{output.amount(found.total, found.currency)} {found.currency}"


def _result_document(result: CloseResult) -> dict[str, object]:
    return {
        "tenant": result.tenant,
        "period": result.month,
        "state": result.state,
        "reason": result.reason,
        "detail": result.detail or None,
        "invoice": None if result.invoice is None else _summary_document(result.invoice),
    }


@click.command("list")
@tenant_option
@click.option("--period", "month", metavar="YYYY-MM", help="A month; all unless given.")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, tenant_slug: str | None, month: str | None, rows_max: int, as_json: bool) -> None:
    """Show invoices, the newest first."""
    found = context.run(
        lambda services: services.invoicing.invoices(tenant_slug, month, rows_max=rows_max + 1)
    )
    if as_json:
        output.document([_summary_document(each) for each in found[:rows_max]])
        return
    columns = ("Invoice", "Tenant", "Period", "Status", "Total>", "Issued")
    output.listing(columns, found, _row, rows_max=rows_max, empty=EMPTY)


def _row(found: InvoiceSummary) -> tuple[str, ...]:
    number, total = _issued_cells(found)
    period = f"{found.period} (early)" if found.is_early else str(found.period)
    return number, found.tenant, period, found.status, total, output.when(found.issued_us)


def _summary_document(found: InvoiceSummary) -> dict[str, object]:
    return {
        "number": found.number,
        "id": found.id,
        "status": found.status,
        "tenant": found.tenant,
        "name": found.tenant_name,
        "period": str(found.period),
        "start": instant(found.period.start_us),
        "end": instant(found.period.end_us),
        "time_zone": found.time_zone,
        "is_early": found.is_early,
        "currency": found.currency,
        "total": None if found.total is None else f"{found.total:f}",
        "total_minor": found.total_minor,
        "issued_at": output.timestamp(found.issued_us),
    }


@click.command("show")
@click.argument("number")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="JSON holds the stored content byte for byte; CSV is a row a line.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_obj
def show(context: Context, number: str, form: str, as_json: bool) -> None:
    """Show an issued invoice, and the usage that came too late for it."""
    found, late = context.run(lambda services: _shown(services, number))
    if as_json or form == "json":
        # As they are stored: JSON escapes control characters itself, and another sign would not be the hash's bytes.
        click.echo(invoice_json(found))
    elif form == "csv":
        click.echo(invoice_csv(found).encode(), nl=False)
    else:
        _draw(found, late)


async def _shown(services: "Services", number: str) -> tuple[InvoiceDocument, LateUsage]:
    return await services.invoicing.invoice(number), await services.invoicing.late(number)


def _draw(found: InvoiceDocument, late: LateUsage) -> None:
    content = found.content
    output.heading(
        f"Invoice {found.number} · {content.tenant_name} ({content.tenant}) · {found.summary.period.title}",
        f"{content.start} to {content.end} ({content.time_zone}) · issued {output.when(found.issued_us)} UTC",
    )
    if content.note is not None:
        output.paragraph(content.note)
    output.draw(_lines(content))
    for line in content.lines:
        if line.covered is not None and line.agreed is not None:
            output.paragraph(part_of_month(line.kind, Decimal(line.agreed), content.currency, line.covered))
    if content.waived.requests or content.review.requests:
        output.draw(_apart(content))
    if content.unrated:
        output.draw(_unrated(content))
    if not late.is_nothing:
        output.paragraph(_late(late))
    output.facts([("SHA-256", found.content_hash.hex())])


def _late(late: LateUsage) -> str:
    """What came after the close and what it would add: usage, or fees alone of plans that began since an early one."""
    requests = "1 request" if late.requests == 1 else f"{output.count(late.requests)} requests"
    used = f"{requests} with {in_all(late.tokens, late.units)} came after the close and"
    found = used if late.requests else "Fees and minimums since the close"
    return f"{found} would add {output.amount(late.amount, late.currency)} {late.currency}: {LATE}."


def _lines(content: Content) -> output.Sheet:
    shows_version = len({(line.plan, line.plan_version) for line in content.lines}) > 1
    prices = ["Prices"] if shows_version else []
    columns = quantity.titles(line.component or "" for line in content.lines)
    sheet = output.Sheet(
        "Model*", "What*", *prices, *columns, "Price>", "Exact>", "Amount>", title=content.label
    )
    exact = output.amounts([Decimal(line.amount_exact) for line in content.lines], content.currency)
    for line, amount in zip(content.lines, exact, strict=True):
        version = [f"{line.plan} v{line.plan_version}"] if shows_version else []
        used = ("",) * len(columns)
        if line.quantity is not None:
            used = quantity.cells(line.quantity, line.component or "", columns)
        sheet.add(line.model or "", _what(line), *version, *used, _price(line), amount, line.amount)
    sheet.rule()
    subtotal = output.amount(Decimal(content.subtotal), content.currency)
    blank = [""] * (len(prices) + len(columns))
    sheet.add("Total", content.currency, *blank, "", subtotal, f"{Decimal(content.total):,}", bold=True)
    return sheet


def part_of_month(kind: str, agreed: Decimal, currency: str, covered: tuple[str, str, str]) -> str:
    """What a fee or a minimum is of when it is not of a whole month: the arithmetic, and the time."""
    fraction, start, end = covered
    return (
        f"{output.words(kind).capitalize()}: {output.amount(agreed, currency)} {currency} a month × {fraction} of its quarters "
        f"of an hour, from {start} to {end}."
    )


def _what(line: Line) -> str:
    if line.component is None:
        return output.words(line.kind) if line.covered is None else f"{output.words(line.kind)}, in part"
    name = output.words(line.component)
    if line.kind == "included":
        return f"{name}, included"
    return name if line.tier is None else f"{name}, tier {line.tier + 1}"


def _price(line: Line) -> str:
    if line.price is None or line.per is None:
        return ""
    return "free" if line.price == "0" else f"{line.price} per {output.count(line.per)}"


def _apart(content: Content) -> output.Sheet:
    endings = [("waived", each) for each in content.waived.endings]
    endings += [("under review", each) for each in content.review.endings]
    has_units = any(each.units for _, each in endings)
    units = ["Units"] if has_units else []
    sheet = output.Sheet("Not billed", "Outcome", "Provenance", "Requests>", "Tokens>", *units, "Worth>")
    for what, each in endings:
        sheet.add(
            what,
            output.words(each.outcome),
            output.provenance(each.provenance),
            output.count(each.requests),
            output.count(each.tokens),
            *([_units(each)] if has_units else []),
            each.worth or "unknown",
        )
    return sheet


def _units(ending: Ending) -> tuple[str, ...]:
    """A line of the cell for each unit."""
    return tuple(counted(number, word) for word, number in (ending.units or {}).items())


def _unrated(content: Content) -> output.Sheet:
    columns = quantity.titles(each.component for each in content.unrated)
    sheet = output.Sheet("Unrated*", "Component", *columns, "Why")
    for each in content.unrated:
        used = quantity.cells(each.quantity, each.component, columns)
        sheet.add(each.model, output.words(each.component), *used, each.reason)
    return sheet


@click.command("verify")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every issued invoice.")
@output.json_option
@click.pass_context
def verify(ctx: click.Context, numbers: tuple[str, ...], all_: bool, as_json: bool) -> None:
    """Compute issued invoices again and compare them byte for byte; fails when one differs."""
    if bool(numbers) == all_:
        raise click.UsageError("Name the invoices, or say --all.")
    context: Context = ctx.obj
    found = context.run(lambda services: _verified(services, numbers))
    if as_json:
        output.document(
            [
                {"number": each.number, "is_same": each.is_same, "differences": each.differences}
                for each in found
            ]
        )
    else:
        _draw_verified(found)
    ctx.exit(0 if all(each.is_same for each in found) else 1)


def _draw_verified(found: "Sequence[Verification]") -> None:
    for each in found:
        for difference in each.differences:
            output.line(f"{each.number}: {difference}")
    same = sum(each.is_same for each in found)
    output.line(f"{same} of {len(found)} invoices are what they were.")


async def _verified(services: "Services", numbers: Sequence[str]) -> "list[Verification]":
    """Those of the numbers, or of every issued invoice, page by page."""
    if numbers:
        return [await services.invoicing.verify(number) for number in numbers]
    found = []
    after = None
    while page := await services.invoicing.invoices(after=after, rows_max=VERIFY_PAGE):
        found += [await services.invoicing.verify(each.number) for each in page if each.number is not None]
        after = page[-1].id
    return found
