import csv
import io
from decimal import Decimal

import msgspec
import pytest

from billing.exports.invoice_csv import COLUMNS, harmless, invoice_csv
from billing.exports.invoice_json import invoice_json
from billing.invoicing.content import Content
from tests.issue_kit import content, document, part_content


def rows_of(made: Content | None = None) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(invoice_csv(document(made)), newline="")))


def test_each_line_is_a_row_and_nothing_else_is() -> None:
    rows = rows_of()
    assert [row["line"] for row in rows] == [str(number) for number in range(1, 8)]
    assert tuple(rows[0]) == COLUMNS
    assert [row["kind"] for row in rows] == ["included", *["usage"] * 4, "fee", "minimum"]
    assert rows[3] == {
        "invoice_number": "INV-000017", "issued_at": "2026-12-01T00:00:01Z", "tenant": "acme",
        "tenant_name": "Acme Ltd", "month": "2026-11", "period_start": "2026-11-01T00:00:00Z",
        "period_end": "2026-12-01T00:00:00Z", "line": "4", "kind": "usage", "plan": "graduated", "plan_version": "1",
        "model": "golden", "component": "answer_output", "tier": "1", "quantity": "50", "price": "1.2", "per": "1000",
        "amount_exact": "0.06", "amount": "0.06", "amount_minor": "6", "currency": "USD",
        "agreed": "", "fraction": "", "covered_start": "", "covered_end": "", "unit": "tokens",
    }  # fmt: skip
    assert (rows[5]["model"], rows[5]["quantity"], rows[5]["amount"], rows[5]["agreed"]) == (
        "",
        "",
        "20.00",
        "20",
    )


def test_a_part_of_a_month_is_said_with_its_fraction_and_where_it_lies() -> None:
    *_, fee, _minimum = rows_of(part_content())
    assert {name: fee[name] for name in ("kind", "agreed", "fraction", "covered_start", "covered_end", "amount")} == {
        "kind": "fee", "agreed": "20", "fraction": "720/2880", "covered_start": "2026-11-01T00:00:00Z",
        "covered_end": "2026-11-08T12:00:00Z", "amount": "5.00",
    }  # fmt: skip


def test_the_rows_add_up_to_the_total_of_the_json() -> None:
    envelope = msgspec.json.decode(invoice_json(document()))
    assert sum(Decimal(row["amount"]) for row in rows_of()) == Decimal(envelope["content"]["total"])
    assert sum(int(row["amount_minor"]) for row in rows_of()) == envelope["content"]["total_minor"]


def test_every_line_ends_with_cr_lf_and_quotes_what_needs_them() -> None:
    text = invoice_csv(document(msgspec.structs.replace(content(), tenant_name='Acme, "the" first')))
    assert text.count("\r\n") == text.count("\n") == 8
    assert '"Acme, ""the"" first"' in text
    assert (
        rows_of(msgspec.structs.replace(content(), tenant_name=" Acme\r\nLtd"))[0]["tenant_name"]
        == " Acme\r\nLtd"
    )


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\uff1d1+1",
        "\u200b=1",
        "\ufeff=1",
        '=HYPERLINK("x")',
    ],
)
def test_a_name_that_is_a_formula_is_written_as_text(text: str) -> None:
    assert harmless(text) == f"'{text}"
    made = msgspec.structs.replace(content(), tenant_name=text, tenant=text)
    assert rows_of(made)[0]["tenant_name"] == f"'{text}"


@pytest.mark.parametrize("text", ["", "Acme", "a=b", "gpt-4", "Ünïcode", "1-2"])
def test_other_names_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_an_amount_below_0_stays_a_number() -> None:
    line = msgspec.structs.replace(content().lines[1], amount="-0.56", amount_minor=-56, amount_exact="-0.56")
    row = rows_of(msgspec.structs.replace(content(), lines=(line,)))[0]
    assert (row["amount"], row["amount_minor"]) == ("-0.56", "-56")


def test_every_quantity_has_its_unit() -> None:
    made = content()
    used = msgspec.structs.replace(made.lines[1], component="search", unit="searches")
    rows = rows_of(msgspec.structs.replace(made, lines=(used, *made.lines[2:])))
    assert [row["unit"] for row in rows] == ["searches", "tokens", "tokens", "tokens", "", ""]
    assert COLUMNS[-1] == "unit"
