import msgspec
import pytest

from billing.invoicing.content import digest, encode
from billing.invoicing.recompute import Issued, compute, counted, differences, redraft
from tests.invoice_kit import rollup_row
from tests.issue_kit import PLANS, ROWS, Components, content, drafted, inputs_of

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
