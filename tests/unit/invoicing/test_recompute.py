import msgspec
import pytest

from billing.invoicing.content import digest, encode
from billing.invoicing.inputs import Inputs
from billing.invoicing.recompute import Issued, compute, counted, differences, redraft
from billing.pricing.term import Term
from tests.invoice_kit import at, rollup_row
from tests.issue_kit import PLAN, PLANS, ROWS, TERMS, Components, content, drafted, inputs_of, part_content

COLLECTION = 1
LATER = msgspec.structs.replace(ROWS[0], collection=2)
OUTSIDE = rollup_row("2026-12-01T00:00:00Z", Components(9_999))


def issued(**changes: object) -> Issued:
    data = encode(content())
    ledger = {"receivable": 2_500, "revenue": -2_500}
    return msgspec.structs.replace(Issued(data, digest(data), 2_500, ledger), **changes)


def test_what_came_later_or_lies_outside_does_not_count() -> None:
    assert counted([*ROWS, LATER, OUTSIDE], inputs_of(), COLLECTION) == ROWS
    assert redraft(inputs_of(), PLANS, [*ROWS, LATER, OUTSIDE], COLLECTION) == drafted()


def test_an_early_invoice_counts_up_to_its_end() -> None:
    early = counted(ROWS, inputs_of(end="2026-11-02T00:15:00Z"), COLLECTION)
    assert early == [row for row in ROWS if row.bucket_us <= ROWS[2].bucket_us]


def test_computed_again_it_is_the_same_bytes() -> None:
    computed = compute(inputs_of(), PLANS, [LATER, *ROWS[::-1]], COLLECTION)
    assert computed == encode(content())
    assert differences(issued(), computed) == ()


PART_OF_NOVEMBER = [Term(TERMS[0].starts_us, at("2026-11-08T12:00:00Z"), PLAN)]


def test_an_invoice_of_the_first_format_is_the_bytes_that_the_program_of_its_time_made() -> None:
    stored = msgspec.to_builtins(inputs_of(terms=PART_OF_NOVEMBER)) | {"format": 1}
    del stored["quarters"]
    computed = compute(msgspec.convert(stored, Inputs), PLANS, ROWS, COLLECTION)
    # Made by the program that knew no other format: the fee and the minimum in full.
    assert digest(computed).hex() == "05012cada7f28c5ba2ca44384cd8017b415ebb9867f21a96fca5cab00c7701b8"


def test_an_invoice_of_a_part_of_a_month_is_computed_again_with_its_part() -> None:
    inputs = inputs_of(terms=PART_OF_NOVEMBER)
    assert compute(inputs, PLANS, ROWS, COLLECTION) == encode(part_content())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content_hash": b"0" * 32}, "the stored content is not the one that its hash names"),
        ({"ledger": {}}, "the ledger says nothing for it, not {'receivable': 2500, 'revenue': -2500}"),
        ({"total_minor": 0}, "the ledger says {'receivable': 2500, 'revenue': -2500} for it, not nothing"),
    ],
)
def test_what_is_wrong_with_what_is_stored_is_said(changes: dict[str, object], said: str) -> None:
    assert differences(issued(**changes), encode(content())) == (said,)


def test_what_differs_in_the_content_is_named() -> None:
    computed = compute(inputs_of(), PLANS, [*ROWS, msgspec.structs.replace(LATER, collection=1)], COLLECTION)
    assert differences(issued(), computed) == (
        "computed again, it says something else: lines, requests, tokens",
    )
    spaced = encode(content()).replace(b":", b": ", 1)
    assert (
        "the bytes alone"
        in differences(issued(content=spaced, content_hash=digest(spaced)), encode(content()))[0]
    )
    assert (
        "it cannot be read"
        in differences(issued(content=b"{", content_hash=digest(b"{")), encode(content()))[0]
    )
