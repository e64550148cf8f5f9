from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from billing.invoicing.trace import Cost, Parties, Trace, operation_of, spans_of, trace
from billing.metering.stored import StoredCount, StoredRecord
from billing.pricing.billable import Disposition
from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.plan import Content, ModelRates, Plan, Version
from billing.pricing.rating import Pool
from billing.pricing.term import Term, Unpriced
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import BACKEND, KEY, TENANT, at, usage_id

UNCACHED, CACHED, WRITE, ANSWER, REASONING, *_ = Component
PARTIES = Parties(
    "acme", "Acme Inference Ltd", "web", "sk-abcdefgh", "laptop", "local", "http://127.0.0.1:8080"
)
INPUT, OUTPUT, ALL = (UnitPrice(Decimal(price), 1_000) for price in ("0.50", "1.50", "0.10"))
START = at("2026-11-01T00:00:00Z")
PLAN = Plan(
    UUID(int=1), "demo", "USD", 0,
    (Version(START, Content("", (ModelRates("golden", {UNCACHED: INPUT, ANSWER: OUTPUT}), ModelRates("*", {UNCACHED: ALL}))), 3),),
)  # fmt: skip
TERMS = [Term(START, None, PLAN)]
UNKNOWN = StoredCount(None, None, None)


def known(value: int, provenance: str = "reported", method: str = "usage") -> StoredCount:
    return StoredCount(value, provenance, method)


def stored(
    input_: StoredCount, output: StoredCount, cached: StoredCount = UNKNOWN, reasoning: StoredCount = UNKNOWN, *,
    model: str = "golden", outcome: str = "complete", provenance: str = "reported",
) -> StoredRecord:  # fmt: skip
    return StoredRecord(
        TENANT, usage_id("2026-11-24T10:00:00.123Z"), None, KEY, model, BACKEND, "llama.cpp", "chat", True, "standard", outcome,
        200, provenance, input_, cached, UNKNOWN, output, reasoning, 17, 12_345, 4_190, 230_456, None, None, None, None, None,
        {}, 1, b"", None, at("2026-11-24T10:00:01Z"),
    )  # fmt: skip


def traced(record: StoredRecord, terms: list[Term] | None = None) -> Trace:
    return trace(record, PARTIES, TERMS if terms is None else terms)


def test_vector_9_of_1013_prompt_tokens_1008_are_cached_and_5_are_not() -> None:
    found = traced(stored(known(1_013), known(53), known(1_008), known(20, method="counter of timings")))
    assert found.costs == (
        Cost(UNCACHED, 5, INPUT, "demo", 3, "golden", UNCACHED, Decimal("0.0025")),
        Cost(CACHED, 1_008, INPUT, "demo", 3, "golden", UNCACHED, Decimal("0.504")),
        Cost(ANSWER, 33, OUTPUT, "demo", 3, "golden", ANSWER, Decimal("0.0495")),
        Cost(REASONING, 20, OUTPUT, "demo", 3, "golden", ANSWER, Decimal("0.03")),
    )
    assert (found.amount, found.currency, found.disposition) == (Decimal("0.586"), "USD", Disposition.BILL)
    assert found.at_us == at("2026-11-24T10:00:00.123Z")


def test_counts_say_how_they_are_known_and_absent_parts_are_left_out() -> None:
    found = traced(
        stored(known(18), known(53, "running", "timings"), reasoning=known(20, "counted", "/tokenize"))
    )
    assert found.counts == (
        ("input", known(18)),
        ("output", known(53, "running", "timings")),
        ("reasoning", known(20, "counted", "/tokenize")),
    )


def test_what_is_not_known_is_unknown_and_its_cost_too() -> None:
    found = traced(stored(UNKNOWN, UNKNOWN, outcome="interrupted", provenance="none"))
    assert found.counts == (("input", UNKNOWN), ("output", UNKNOWN))
    assert (found.costs, found.amount, found.disposition) == ((), None, Disposition.WAIVE)
    assert traced(stored(known(0), known(0))).amount == Decimal(0)
    assert traced(stored(UNKNOWN, known(2))).amount == Decimal("0.003")


@pytest.mark.parametrize(
    ("terms", "model", "reason"),
    [([], "golden", Unpriced.NO_PLAN), (TERMS, "silver", Unpriced.NO_RATE)],
    ids=["a tenant without a plan", "a model without an output price"],
)
def test_what_has_no_rate_is_unrated_and_not_free(terms: list[Term], model: str, reason: Unpriced) -> None:
    found = traced(stored(known(0), known(53), model=model), terms)
    assert found.costs == (Cost(ANSWER, 53, unpriced=reason),)
    assert (found.amount, found.currency) == (None, "USD" if terms else None)


TIERS = GraduatedPrice((Tier(Decimal(2), 1_000, 1_000), Tier(Decimal(1), 1_000)), allowance=500)
COUNTED = Content(
    "",
    (ModelRates("*", {UNCACHED: TIERS, ANSWER: OUTPUT}, pools={UNCACHED: "input"}),),
    billable={"truncated": {"reported": Disposition.BILL}},
)
POOL = Pool("globex", "*", "input")
COUNTED_TERMS = [Term(START, None, Plan(UUID(int=1), "globex", "USD", 0, (Version(START, COUNTED, 1),)))]


@pytest.mark.parametrize(
    ("position", "price", "tier", "included", "amount"),
    [
        pytest.param(0, UnitPrice(Decimal(0), 1), None, True, "0", id="within the allowance"),
        pytest.param(500, UnitPrice(Decimal(2), 1_000), 0, False, "0.2", id="100 × 2 / 1,000"),
        pytest.param(1_500, UnitPrice(Decimal(1), 1_000), 1, False, "0.1", id="100 × 1 / 1,000"),
    ],
)
def test_a_price_that_counts_over_a_period_is_shown_as_the_next_token_costs(
    position: int, price: UnitPrice, tier: int | None, included: bool, amount: str
) -> None:
    found = trace(stored(known(100), known(0)), PARTIES, COUNTED_TERMS, {POOL: position})
    cost = Cost(
        UNCACHED, 100, price, "globex", 1, "*", "uncached_input", Decimal(amount), None, True, tier, included
    )
    assert found.costs == (cost,)
    assert found.amount == Decimal(amount)


def test_a_unit_price_beside_it_is_exact() -> None:
    found = trace(stored(known(0), known(53)), PARTIES, COUNTED_TERMS, {POOL: 7})
    assert [(each.is_marginal, each.amount) for each in found.costs] == [(False, Decimal("0.0795"))]


def test_the_version_in_force_says_what_becomes_of_a_request() -> None:
    record = stored(known(1), known(1), outcome="truncated")
    assert trace(record, PARTIES, COUNTED_TERMS).disposition is Disposition.BILL
    assert trace(record, PARTIES, TERMS).disposition is Disposition.WAIVE


UNITS = Content(
    "",
    (
        ModelRates(
            "*",
            {UNCACHED: INPUT, ANSWER: OUTPUT, Component.SECOND: UnitPrice(Decimal("0.0001"), 1)},
            request=UnitPrice(Decimal("0.01"), 1),
        ),
    ),
)
UNITS_TERMS = [Term(START, None, Plan(UUID(int=1), "units", "USD", 0, (Version(START, UNITS, 1),)))]


def with_parts(record: StoredRecord, **parts: StoredCount) -> StoredRecord:
    return msgspec.structs.replace(record, parts=parts)


def test_parts_are_counts_with_their_provenance_and_have_a_cost_each() -> None:
    record = with_parts(
        stored(known(1_000), known(0)),
        second=known(12, "counted", "length of the audio"),
        audio_input=known(400),
    )
    found = traced(record, UNITS_TERMS)
    assert found.counts == (
        ("input", known(1_000)),
        ("output", known(0)),
        ("audio_input", known(400)),
        ("second", known(12, "counted", "length of the audio")),
    )
    assert [
        (each.component, each.quantity, each.unit, each.priced_as, str(each.amount)) for each in found.costs
    ] == [
        ("uncached_input", 600, "tokens", "uncached_input", "0.30000"),
        ("audio_input", 400, "tokens", "uncached_input", "0.20000"),
        ("second", 12, "seconds", "second", "0.0012"),
        ("request", 1, "requests", "request", "0.01"),
    ]
    assert found.amount == Decimal("0.5112")


def test_a_unit_without_a_rate_is_shown_unrated_and_the_request_without_a_price_is_not() -> None:
    found = traced(with_parts(stored(UNKNOWN, UNKNOWN), search=known(3)))
    assert found.costs == (Cost(Component.SEARCH, 3, unpriced=Unpriced.NO_RATE),)
    assert found.amount is None


def test_a_request_whose_units_are_known_to_be_none_costs_nothing() -> None:
    assert traced(with_parts(stored(UNKNOWN, UNKNOWN), image=known(0))).amount == Decimal(0)


def test_a_request_says_its_times_and_in_whose_words_it_asked() -> None:
    record = msgspec.structs.replace(
        stored(UNKNOWN, UNKNOWN),
        overhead_us=400,
        ttft_us=90_000,
        ttfa_us=150_000,
        itl_us=11_000,
        gap_max_us=None,
        duration_us=1_000_000,
    )
    assert spans_of(record) == [
        ("sent to the engine after", 400), ("first token after", 90_000), ("first of the answer after", 150_000),
        ("each further token", 11_000), ("in all", 1_000_000),
    ]  # fmt: skip
    at_once = msgspec.structs.replace(record, ttfa_us=90_000)
    assert "first of the answer after" not in dict(spans_of(at_once))
    assert operation_of(record) == "chat"
    assert operation_of(msgspec.structs.replace(record, dialect="ollama")) == "chat in ollama's dialect"
