import json
from decimal import Decimal
from uuid import UUID

import pytest

from billing.cli import output
from billing.tokens.components import Component
from tests.invoice_kit import at


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        ("1234567.5", "USD", "1,234,567.50"),
        ("0.0000006", "USD", "0.0000006"),
        ("1E-18", "USD", "0.000000000000000001"),
        ("5", "JPY", "5"),
        ("5.5", "JPY", "5.5"),
        ("1", "KWD", "1.000"),
        ("-0.05", "USD", "-0.05"),
    ],
)
def test_an_amount_is_exact_with_at_least_its_currency_s_decimals(
    value: str, currency: str, text: str
) -> None:
    assert output.amount(Decimal(value), currency) == text


def test_amounts_of_a_column_line_up_and_none_is_rounded() -> None:
    values = [Decimal("6.1725"), Decimal(100), Decimal("0.05")]
    assert output.amounts(values, "USD") == ["6.1725", "100.0000", "0.0500"]
    assert output.amounts([], "USD") == []


def test_json_has_decimals_and_ids_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.document(
        {"amount": Decimal("1E-7"), "id": UUID(int=1), "component": Component.REASONING, "none": None, "ö": 1}
    )
    printed = capsys.readouterr().out
    assert json.loads(printed) == {
        "amount": "0.0000001", "id": str(UUID(int=1)), "component": "reasoning", "none": None, "ö": 1,
    }  # fmt: skip
    with pytest.raises(TypeError, match="bytes has no JSON form here"):
        output.document(b"secret")


SHEET_WIDE = """\

Title
 Model                              Tokens         Amount
 ────────────────────────────────────────────────────────
 a-model-with-[a]-long-name   1,234,567.00   10,367.15255
 b                                       1              2

 All                                     3              4
"""
SHEET_NARROW = """\

Title
 Model            Tokens         Amount
 ──────────────────────────────────────
 a-model-   1,234,567.00   10,367.15255
 with-[a]
 -long-na
 me
 b                     1              2

 All                   3              4
"""


@pytest.mark.parametrize(
    ("columns", "expected"), [("80", SHEET_WIDE), ("10", SHEET_NARROW)], ids=["wide", "narrow"]
)
def test_a_table_folds_names_and_never_cuts_a_number(
    columns: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    sheet = output.Sheet("Model*", "Tokens>", "Amount>", title="Title")
    sheet.add("a-model-with-[a]-long-name", "1,234,567.00", "10,367.15255")
    sheet.add("b", "1", "2")
    sheet.rule()
    sheet.add("All", "3", "4", bold=True)
    output.draw(sheet)
    assert capsys.readouterr().out == expected
    assert repr(sheet) == "<Sheet 3 columns, 3 rows>"


def test_a_list_says_when_there_is_more_and_what_to_do_when_there_is_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.listing(("Name",), ["a", "b", "c"], lambda name: (name,), rows_max=2, empty="none")
    shown = capsys.readouterr()
    assert shown.out.split() == ["Name", "────", "a", "b"]
    assert shown.err == "More than 2: ask for more with --limit.\n"
    output.listing(("Name",), [], lambda name: (name,), rows_max=2, empty="Make one: billing …")
    assert capsys.readouterr().out == "Make one: billing …\n"


def test_facts_fold_beside_their_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.facts([("Key", "sk-abc"), ("Long name", "word word word")])
    assert capsys.readouterr().out == "\nKey        sk-abc\nLong name  word word\n           word\n"


def test_instants_are_utc_for_people_and_for_machines() -> None:
    instant = at("2026-11-24T10:00:00.123456Z")
    assert output.when(instant) == "2026-11-24 10:00"
    assert output.when(None) == "–"
    assert output.moment(instant) == "2026-11-24 10:00:00.123"
    assert output.timestamp(instant) == "2026-11-24T10:00:00.123456Z"
    assert output.timestamp(None) is None
    assert output.day(instant) == "2026-11-24"


def test_words_of_the_code_are_words_for_people() -> None:
    assert output.words("uncached_input") == "uncached input"
    assert output.provenance("none") == "unknown"
    assert output.provenance("running") == "running"
    assert output.count(1_234_567) == "1,234,567"


HOSTILE = "a\x1b[2Jb\x9b1mc\x07d\re\x7ff\u202eg\u2066h\u200fi\nj\ud800k\U000e0041"
ESCAPED = r"a\x1b[2Jb\x9b1mc\x07d\re\x7ff\u202eg\u2066h\u200fi\nj\ud800k\U000e0041"


def test_what_a_terminal_would_obey_is_shown_on_every_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output.line(HOSTILE)
    output.note(HOSTILE)
    output.error(HOSTILE)
    output.paragraph(HOSTILE)
    output.heading(HOSTILE, HOSTILE)
    output.facts([("Response id", HOSTILE)])
    output.listing(("Name*",), [HOSTILE], lambda name: (name,), rows_max=1, empty="")
    sheet = output.Sheet("One", "Several", title=HOSTILE)
    sheet.add(HOSTILE, (HOSTILE, "second line"))
    output.draw(sheet)
    shown = capsys.readouterr()
    assert shown.out.count(ESCAPED) == 9
    assert shown.err == f"{ESCAPED}\nerror: {ESCAPED}\n"
    assert (shown.out + shown.err).replace("\n", "").isprintable()


def test_lines_keep_their_ends_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    output.lines("one\n\x1b]0;two\n")
    assert capsys.readouterr().out == "one\n\\x1b]0;two\n\n"


def test_json_escapes_what_is_not_printable_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({HOSTILE: [HOSTILE, "ö 漢字 é"]})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {HOSTILE: [HOSTILE, "ö 漢字 é"]}
    assert printed.replace("\n", "").isprintable()
    assert r"\u007f" in printed
    assert r"\u009b" in printed
    assert r"\u202e" in printed
    assert "ö 漢字 é" in printed


def test_letters_and_spaces_of_every_script_stay() -> None:
    for text in ("Zoë – 東京　支店", "مرحبا", "100\N{NO-BREAK SPACE}%", "🙂", "back\\slash"):
        assert output.printable(text) == text
