import hashlib
import json
import random
from decimal import Decimal

import msgspec
import pytest

from billing.invoicing.content import content_of, decode, digest, early_note, encode
from billing.invoicing.draft import draft
from billing.pricing.term import Term
from billing.tokens.components import Components
from tests.invoice_kit import rollup_row
from tests.issue_kit import (
    NOVEMBER,
    PLAN_TEXT,
    ROWS,
    TERMS,
    content,
    drafted,
    inputs_of,
    part_content,
    plan_of,
)


def test_a_content_says_what_the_draft_says() -> None:
    made = content()
    assert [
        (line.kind, line.component, line.quantity, line.amount_exact, line.amount) for line in made.lines
    ] == [
        ("included", "uncached_input", 100, "0", "0.00"),
        ("usage", "uncached_input", 1_400, "0.56", "0.56"),
        ("usage", "answer_output", 100, "0.2", "0.20"),
        ("usage", "answer_output", 50, "0.06", "0.06"),
        ("usage", "reasoning", 20, "0.024", "0.02"),
        ("fee", None, None, "20", "20.00"),
        ("minimum", None, None, "4.156", "4.16"),
    ]
    assert (made.subtotal, made.total, made.total_minor) == ("25", "25.00", 2_500)
    assert (made.requests, made.tokens, made.tokens_unrated) == (4, 1_683, 13)
    assert (made.waived.requests, made.review.tokens) == (1, 11)
    assert [(each.model, each.quantity) for each in made.unrated] == [("embed", 13)]


def test_its_bytes_are_canonical() -> None:
    data = encode(content())
    document = json.loads(data)
    assert data == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert (document["start"], document["end"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert not any(isinstance(value, float) for value in flat(document))
    assert not set(document) & {"number", "id", "issued_at"}
    assert decode(data) == content()
    assert digest(data) == hashlib.sha256(data).digest()


def flat(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in flat(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in flat(part)]
    return [value]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_and_batching_of_rows_do_not_matter(seed: int) -> None:
    source, rows = random.Random(seed), list(ROWS)
    source.shuffle(rows)
    # One row as two collections of it.
    halves = [msgspec.structs.replace(rows[0], collection=2, requests=0, components=Components())]
    assert encode(content(rows + halves)) == encode(content())


def test_the_lines_add_up_to_the_total() -> None:
    made = content()
    assert sum(line.amount_minor for line in made.lines) == made.total_minor
    assert sum(Decimal(line.amount) for line in made.lines) == Decimal(made.total)
    assert sum(Decimal(line.amount_exact) for line in made.lines) == Decimal(made.subtotal)


def test_an_early_invoice_says_so() -> None:
    inputs = inputs_of(end="2026-11-24T10:15:00Z")
    made = content_of(draft(ROWS, TERMS, inputs.period), inputs)
    assert (made.is_early, made.end, made.note) == (True, "2026-11-24T10:15:00Z", early_note(inputs.period))
    assert content().note is None


def test_a_part_of_a_month_is_said_on_its_lines_and_nothing_of_it_on_others() -> None:
    made = part_content()
    fee, minimum = made.lines[-2:]
    assert (fee.kind, fee.agreed, fee.amount_exact, fee.amount) == ("fee", "20", "5", "5.00")
    assert fee.covered == ("720/2880", "2026-11-01T00:00:00Z", "2026-11-08T12:00:00Z")
    # A quarter of 5.00, less 900 × 0.40 / 1,000 + 100 × 2.00 / 1,000 + 10 × 1.20 / 1,000.
    assert (minimum.kind, minimum.agreed, minimum.amount_exact, minimum.covered) == (
        "minimum", "5", "0.678", fee.covered,
    )  # fmt: skip
    assert decode(encode(made)) == made
    assert b"fraction" not in encode(content())
    assert all(line.covered is None for line in made.lines[:-2])


def test_a_draft_without_a_currency_is_no_invoice() -> None:
    with pytest.raises(ValueError, match="acme 2026-11 has no currency"):
        content_of(draft(ROWS, [], NOVEMBER), inputs_of())
    unrounded = msgspec.structs.replace(
        drafted(),
        charges=tuple(msgspec.structs.replace(each, amount_minor=None) for each in drafted().charges),
    )
    with pytest.raises(ValueError, match="is not rounded"):
        content_of(unrounded, inputs_of())


def test_contents_of_tokens_alone_have_the_bytes_that_they_had_before_there_were_units() -> None:
    hashes = [digest(encode(each)).hex() for each in (content(), part_content())]
    assert hashes == [
        "17d52f575abf075d8e31a8ad143f108d615ef1c194cacdf149f0102a41d7c35f",
        "d9b53a1aeb738f7e34278c91a998a72c6870965e42f723597acff03c41933198",
    ]


def test_what_is_no_tokens_says_its_unit() -> None:
    plan = plan_of(PLAN_TEXT.replace("- model: golden", '- model: golden\n        gpu_second: "0.002"'))
    terms = [Term(TERMS[0].starts_us, None, plan)]
    rows = [
        rollup_row("2026-11-01T00:00:00Z", Components(uncached_input=200, gpu_second=1_500, image=2)),
        rollup_row("2026-11-01T00:00:00Z", Components(search=3), outcome="upstream_error"),
    ]
    made = content_of(draft(rows, terms, NOVEMBER), inputs_of(terms=terms))
    document = json.loads(encode(made))
    assert [(line["component"], line.get("unit")) for line in document["lines"] if "component" in line][
        :3
    ] == [
        ("uncached_input", None),
        ("uncached_input", None),
        ("gpu_second", "GPU seconds"),
    ]
    assert (document["units"], document["units_unrated"]) == ({"gpu_second": 1_500, "image": 2}, {"image": 2})
    assert [(each["component"], each["unit"]) for each in document["unrated"]] == [("image", "images")]
    assert document["waived"]["units"] == document["waived"]["endings"][0]["units_unrated"] == {"search": 3}
    assert "units" not in document["review"]
    assert [line.counted_in for line in made.lines] == ["tokens", "tokens", "GPU seconds", "", ""]
    assert decode(encode(made)) == made
