from decimal import Decimal

import msgspec

from billing.dashboard.trace_view import trace_page
from billing.invoicing.trace import Cost, Parties, Trace, trace
from billing.metering.stored import StoredCount
from billing.pricing.billable import Disposition
from billing.pricing.term import Unpriced
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.dashboard_kit import stored_record
from tests.invoice_kit import at

NOW = at("2026-11-24T12:00:00Z")
PARTIES = Parties("acme", "Acme Ltd", "web", "sk-1", "laptop", "gpu-1", "http://gpu-1")


def traced(*costs: Cost) -> Trace:
    return msgspec.structs.replace(trace(stored_record(NOW), PARTIES, []), costs=costs, currency="USD")


def priced(component: Component, quantity: int, price: str, **kind: object) -> Cost:
    unit = UnitPrice(Decimal(price), 1_000)
    cost = Cost(component, quantity, unit, "demo", 2, "gold*", component.value, unit.amount(quantity))
    return msgspec.structs.replace(cost, **kind)


def test_facts_stand_in_the_order_of_the_request_s_way() -> None:
    facts = dict(trace_page(traced()).facts)
    assert list(facts) == [
        "Tenant", "Project", "Key", "End user", "Asked for", "Answered by", "Engine's name", "Response id", "Outcome",
        "Time", "Recorded",
    ]  # fmt: skip
    assert facts["Tenant"] == "acme (Acme Ltd)"
    assert facts["Answered by"] == "gpu-1 (llama.cpp, http://gpu-1)"
    assert facts["Time"] == "first token after 12.3 ms · each further token 4.1 ms · in all 230.4 ms"


def test_counts_say_how_they_are_known_and_a_guess_is_named_as_one() -> None:
    lines = trace_page(traced()).counts
    assert [(each.what, each.figure.text, each.provenance, each.method) for each in lines][:2] == [
        ("input", "1,013", "reported", "usage"),
        ("cached input", "1,008", "reported", "usage"),
    ]
    record = msgspec.structs.replace(stored_record(NOW), input=StoredCount(None, None, None))
    unknown = trace_page(trace(record, PARTIES, [])).counts
    assert [
        (each.what, each.figure.text, each.provenance) for each in unknown if each.what.startswith("input")
    ] == [
        ("input", "unknown", "–"),
        ("input, guessed", "17", "estimated"),
    ]


def test_the_arithmetic_is_shown_to_the_last_digit() -> None:
    page = trace_page(
        traced(priced(Component.UNCACHED_INPUT, 5, "0.50"), priced(Component.ANSWER_OUTPUT, 33, "1.5"))
    )
    assert [(each.quantity, each.price, each.per, each.amount, each.rate) for each in page.costs] == [
        ("5", "0.50", "1,000", "0.0025", "demo v2, gold*"),
        ("33", "1.50", "1,000", "0.0495", "demo v2, gold*"),
    ]
    assert (page.total, page.currency) == ("0.0520", "USD")
    assert page.verdict == "This request will be billed."


def test_what_has_no_rate_says_why_and_the_verdict_leaves_it_out() -> None:
    page = trace_page(traced(Cost(Component.REASONING, 20, unpriced=Unpriced.NO_RATE)))
    (line,) = page.costs
    assert (line.amount, line.price, line.rate) == ("unrated", "–", "no rate")
    assert page.total is None
    assert page.verdict == "This request will be billed, apart from what is unrated."


def test_a_marginal_price_says_where_it_is_from() -> None:
    included = priced(Component.UNCACHED_INPUT, 5, "0", is_marginal=True, included=True)
    second = priced(Component.ANSWER_OUTPUT, 5, "1", is_marginal=True, tier=1, priced_as="total")
    rates = [each.rate for each in trace_page(traced(included, second)).costs]
    assert rates == [
        "demo v2, gold*, within the allowance, what the next token costs now",
        "demo v2, gold*, as total, tier 2, what the next token costs now",
    ]


def test_what_is_not_billed_says_so() -> None:
    waived = msgspec.structs.replace(traced(), disposition=Disposition.WAIVE)
    assert trace_page(waived).verdict == "This request is waived: not billed."


def test_counts_and_costs_say_their_unit() -> None:
    record = msgspec.structs.replace(
        stored_record(NOW), parts={"second": StoredCount(12, "counted", "audio")}
    )
    page = trace_page(trace(record, PARTIES, []))
    assert [(each.what, each.unit, each.figure.text, each.provenance) for each in page.counts][-1] == (
        "second",
        "seconds",
        "12",
        "counted",
    )
    assert {each.what: each.unit for each in page.costs}["second"] == "seconds"
    counted = priced(Component.SECOND, 12, "1", is_marginal=True, tier=0)
    assert (
        trace_page(traced(counted)).costs[0].rate == "demo v2, gold*, tier 1, what the next second costs now"
    )


def test_usage_that_an_event_told_has_neither_key_nor_backend() -> None:
    record = msgspec.structs.replace(stored_record(NOW), key_id=None, backend_id=None, engine="trainer")
    nobody = msgspec.structs.replace(PARTIES, key_prefix=None, key_name=None, backend=None, backend_url=None)
    facts = dict(trace_page(trace(record, nobody, [])).facts)
    assert (facts.get("Key"), facts["Answered by"]) == (None, "trainer")
