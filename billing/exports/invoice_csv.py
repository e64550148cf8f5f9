"""An invoice as CSV (RFC 4180, UTF-8): a row a line, fees, minimums and what is included among them, no row of totals.

The amounts of the rows add up to the invoice's total (billing-rules.md I18). Names come from operators and callers: one
that a spreadsheet would run as a formula is written with an apostrophe before it.
"""

import re

from billing.invoicing.content import Line
from billing.invoicing.invoice import InvoiceDocument
from billing.invoicing.period import instant

COLUMNS = (
    "invoice_number", "issued_at", "tenant", "tenant_name", "month", "period_start", "period_end", "line", "kind",
    "plan", "plan_version", "model", "component", "tier", "quantity", "price", "per", "amount_exact", "amount",
    "amount_minor", "currency", "agreed", "fraction", "covered_start", "covered_end", "unit",
)  # fmt: skip
"""What each means stands in the README; what a kind of line has not is empty."""

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$')
_FORMULA = re.compile(r"[\s\u200b\ufeff]*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""What spreadsheets take for the beginning of a formula, also after spaces and in full width."""


def invoice_csv(document: InvoiceDocument) -> str:
    """The header and a row a line, each ended by CR LF."""
    rows = [
        list(COLUMNS),
        *(_row(document, number, line) for number, line in enumerate(document.content.lines, 1)),
    ]
    return "".join(f"{','.join(map(_quoted, row))}\r\n" for row in rows)


def harmless(text: str) -> str:
    """Text that no spreadsheet runs."""
    return f"'{text}" if _FORMULA.match(text) else text


def _row(document: InvoiceDocument, number: int, line: Line) -> list[str]:
    content = document.content
    return [
        harmless(document.number),
        instant(document.issued_us),
        harmless(content.tenant),
        harmless(content.tenant_name),
        content.month,
        content.start,
        content.end,
        str(number),
        line.kind,
        harmless(line.plan),
        str(line.plan_version),
        harmless(line.model or ""),
        line.component or "",
        _number(line.tier),
        _number(line.quantity),
        line.price or "",
        _number(line.per),
        line.amount_exact,
        line.amount,
        str(line.amount_minor),
        content.currency,
        line.agreed or "",
        *(line.covered or ("", "", "")),
        line.counted_in,
    ]


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def _quoted(cell: str) -> str:
    return '"{}"'.format(cell.replace('"', '""')) if _NEEDS_QUOTES.search(cell) else cell
