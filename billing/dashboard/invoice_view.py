"""Invoices as the first page lists them, and each on a page of its own. Pure."""

from decimal import Decimal

import msgspec

from billing import money
from billing.dashboard import format as written
from billing.invoicing.content import INCLUDED, Content, Ending, Line, Unpriced
from billing.invoicing.draft import Draft
from billing.invoicing.invoice import InvoiceDocument, InvoiceSummary
from billing.invoicing.late import LateUsage
from billing.invoicing.service import Preview
from billing.metering.rollup import NO_PROVENANCE
from billing.pricing.measure import counted, in_all

SO_FAR = "so far"


class InvoiceRow(msgspec.Struct, frozen=True):
    """One line of the panel. ``number`` is empty while nothing is issued; ``notes`` are what somebody should look at."""

    key: str
    number: str
    tenant: str
    tenant_name: str
    month: str
    is_early: bool
    total: str
    currency: str
    status: str
    notes: tuple[str, ...]


class InvoiceLine(msgspec.Struct, frozen=True):
    """One line of an invoice in text; what a kind of line has not is empty."""

    what: str
    source: str
    quantity: str
    price: str
    exact: str
    amount: str


class ApartLine(msgspec.Struct, frozen=True):
    """Usage that is not billed, and why."""

    what: str
    ending: str
    requests: str
    used: str
    worth: str


class InvoicePage(msgspec.Struct, frozen=True):
    """Everything about one issued invoice."""

    number: str
    tenant: str
    tenant_name: str
    issuer: str
    month: str
    issued: str
    facts: tuple[tuple[str, str], ...]
    note: str
    lines: tuple[InvoiceLine, ...]
    currency: str
    subtotal: str
    total: str
    apart: tuple[ApartLine, ...]
    late: str
    hash: str


def preview_row(found: Preview) -> InvoiceRow:
    """What a tenant's present month comes to so far."""
    draft = found.draft
    return InvoiceRow(
        key=f"{SO_FAR} {found.tenant.slug}",
        number="",
        tenant=found.tenant.slug,
        tenant_name=found.tenant.name,
        month=str(draft.period),
        is_early=False,
        total="no plan" if draft.total is None else written.amount(draft.total, draft.currency),
        currency=draft.currency or "",
        status=SO_FAR,
        notes=_apart_notes(draft),
    )


def _apart_notes(draft: Draft) -> tuple[str, ...]:
    """What is used and not in the total."""
    notes = [_unrated(draft)] if draft.billed.unrated else []
    for section, why in ((draft.review, "under review"), (draft.waived, "waived")):
        if section.requests:
            notes.append(f"{written.counted(section.requests, 'request')} {why}")
    return tuple(notes)


def _unrated(draft: Draft) -> str:
    used = in_all(draft.billed.tokens_unrated, draft.billed.units_unrated)
    risks = [each.at_risk for each in draft.billed.unrated]
    known = [risk for risk in risks if risk is not None]
    if not known:
        return f"{used} unrated"
    least = "at least " if len(known) < len(risks) else ""
    return f"{used} unrated, {least}{written.amount(money.total(known), draft.currency)} {draft.currency or ''} at risk"


def issued_row(found: InvoiceSummary, late: LateUsage | None) -> InvoiceRow:
    """An invoice in the list; ``late`` is what came after it."""
    return InvoiceRow(
        key=str(found.id),
        number=found.number or "",
        tenant=found.tenant,
        tenant_name=found.tenant_name,
        month=found.period.month,
        is_early=found.is_early,
        total=written.UNKNOWN if found.total is None else f"{found.total:,f}",
        currency=found.currency,
        status=found.status.value,
        notes=() if late is None or late.is_nothing else (_late(late),),
    )


def _late(late: LateUsage) -> str:
    if not late.requests:
        return f"Fees and minimums since its close: {late.amount:,f} {late.currency}"
    requests, used = written.counted(late.requests, "request"), in_all(late.tokens, late.units)
    return f"Late usage: {requests}, {used}, {late.amount:,f} {late.currency}"


def invoice_page(found: InvoiceDocument, late: LateUsage) -> InvoicePage:
    """The page of an issued invoice."""
    content = found.content
    return InvoicePage(
        number=found.number,
        tenant=content.tenant,
        tenant_name=content.tenant_name,
        issuer=content.issuer,
        month=found.summary.period.title,
        issued=f"{written.minute(found.issued_us)} UTC",
        facts=_facts(content),
        note=content.note or "",
        lines=_lines(content),
        currency=content.currency,
        subtotal=written.amount(Decimal(content.subtotal), content.currency),
        total=f"{Decimal(content.total):,f}",
        apart=_apart_lines(content),
        late=""
        if late.is_nothing
        else f"{_late(late)}. It is no part of this invoice; a later one bills it.",
        hash=found.content_hash.hex(),
    )


def _facts(content: Content) -> tuple[tuple[str, str], ...]:
    zone = "" if content.time_zone == "UTC" else f" (months of {content.time_zone})"
    every = (
        ("Billed to", f"{content.tenant_name} ({content.tenant})"),
        ("Period", f"{content.start} to {content.end}{zone}"),
        ("Prices", content.label),
        (
            "Billed",
            f"{written.counted(content.requests, 'request')}, {in_all(content.tokens, content.units or {})}",
        ),
    )
    return tuple((name, text) for name, text in every if text)


def _lines(content: Content) -> tuple[InvoiceLine, ...]:
    exact = written.amounts([Decimal(each.amount_exact) for each in content.lines], content.currency)
    return tuple(_line(each, text, content.currency) for each, text in zip(content.lines, exact, strict=True))


def _line(line: Line, exact: str, currency: str) -> InvoiceLine:
    return InvoiceLine(
        what=_what(line),
        source=f"{line.plan} v{line.plan_version}",
        quantity="" if line.quantity is None else counted(line.quantity, line.component or ""),
        price=_price(line, currency),
        exact=exact,
        amount=f"{Decimal(line.amount):,f}",
    )


def _what(line: Line) -> str:
    if line.model is None:
        return {"fee": "Fee for the period", "minimum": "Up to the agreed minimum"}.get(line.kind, line.kind)
    parts = [f"{line.model} · {written.words(line.component or '')}"]
    if line.kind == INCLUDED:
        parts.append("included")
    if line.tier is not None:
        parts.append(f"tier {line.tier + 1}")
    return ", ".join(parts)


def _price(line: Line, currency: str) -> str:
    if line.kind == INCLUDED:
        return "included"
    if line.price is None or line.per is None:
        return (
            ""
            if line.agreed is None
            else f"{written.amount(Decimal(line.agreed), currency)} agreed{_part(line)}"
        )
    price = Decimal(line.price)
    return f"{written.amount(price, currency)} per {written.count(line.per)}" if price else "free"


def _part(line: Line) -> str:
    """Which part of a month a fee or a minimum is for, in quarters of an hour; nothing for a whole one."""
    return "" if line.covered is None else f" × {line.covered[0]}"


def _apart_lines(content: Content) -> tuple[ApartLine, ...]:
    """What was used and is not billed, and what it would have cost as far as somebody can say."""
    endings = [("waived", each) for each in content.waived.endings]
    endings += [("under review", each) for each in content.review.endings]
    worths = [each.worth for _, each in endings] + [each.at_risk for each in content.unrated]
    figures = iter(
        written.amounts([Decimal(worth) for worth in worths if worth is not None], content.currency)
    )
    texts = iter([None if worth is None else next(figures) for worth in worths])
    return (
        *(_ending(what, each, next(texts)) for what, each in endings),
        *(_unpriced(each, next(texts)) for each in content.unrated),
    )


def _ending(what: str, found: Ending, worth: str | None) -> ApartLine:
    is_unknown = found.provenance == NO_PROVENANCE and not found.tokens and not found.units
    known = written.UNKNOWN if found.provenance == NO_PROVENANCE else found.provenance
    return ApartLine(
        what=what,
        ending=f"{written.words(found.outcome)}, {known}",
        requests=written.count(found.requests),
        used=written.UNKNOWN if is_unknown else in_all(found.tokens, found.units or {}),
        worth=worth or (written.UNKNOWN if is_unknown else "unrated"),
    )


def _unpriced(found: Unpriced, at_risk: str | None) -> ApartLine:
    return ApartLine(
        what="unrated",
        ending=f"{found.model} · {written.words(found.component)}, {found.reason}",
        requests="",
        used=counted(found.quantity, found.component),
        worth=at_risk or written.UNKNOWN,
    )
