from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.pricing.billable import Disposition
from billing.pricing.parse import parse
from billing.pricing.plan import resolve
from billing.pricing.unit import UnitPrice
from billing.tokens.components import Component
from tests.invoice_kit import at

EXAMPLES = Path(__file__).parents[3] / "examples/plans"
PLAN = """\
plan: demo
currency: USD
label: Demo prices, per 1,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - model: golden
        input: "0.50"
        cached_input: 0.05
        output: "1.50"
        reasoning: "1.00"
      - model: "*"
        input: 0.10
        output: free
"""


def version(rates: str, per: str = "per: 1", effective: str = "2026-01-01T00:00:00Z") -> str:
    body = "\n".join(f"      {line}" for line in rates.splitlines())
    return (
        f"plan: demo\ncurrency: USD\nversions:\n  - effective: {effective}\n    {per}\n    rates:\n{body}\n"
    )


def test_a_plan_is_read_whole() -> None:
    plan = parse(PLAN)
    assert (plan.name, plan.currency, len(plan.versions)) == ("demo", "USD", 1)
    only = plan.versions[0]
    assert only.effective_us == at("2026-01-01T00:00:00Z")
    assert only.content.label == "Demo prices, per 1,000 tokens"
    assert [entry.model for entry in only.content.rates] == ["golden", "*"]
    assert only.content.rates[0].prices == {
        Component.UNCACHED_INPUT: UnitPrice(Decimal("0.5"), 1_000),
        Component.CACHED_INPUT: UnitPrice(Decimal("0.05"), 1_000),
        Component.CACHE_WRITE: UnitPrice(Decimal("0.5"), 1_000),
        Component.ANSWER_OUTPUT: UnitPrice(Decimal("1.5"), 1_000),
        Component.REASONING: UnitPrice(Decimal(1), 1_000),
    }


def test_a_price_is_the_decimal_that_was_written_and_never_a_float() -> None:
    text = version("- model: a\n  input: 0.1\n  output: 0.30000000000000004")
    prices = parse(text).versions[0].content.rates[0].prices
    assert str(prices[Component.UNCACHED_INPUT].price) == "0.1"
    assert str(prices[Component.ANSWER_OUTPUT].price) == "0.30000000000000004"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("- {model: a, input: 0.5}", '- {model: a, input: "0.50"}', id="0.5 is 0.50"),
        pytest.param("- {model: a, input: free}", "- {model: a, input: 0}", id="free is 0"),
        pytest.param(
            "- {model: a, input: free}", "- {model: a, per: 1000, input: free}", id="free per anything"
        ),
        pytest.param(
            "- {model: a, input: 1}\n- {model: b, input: 2}",
            "- {model: b, input: 2}\n- {model: a, input: 1}",
            id="any order",
        ),
        pytest.param(
            "- {model: a, input: 1, output: 2}",
            "- {model: a, uncached_input: 1, cached_input: 1, cache_write: 1, answer_output: 2, reasoning: 2}",
            id="shorthands are their parts",
        ),
    ],
)
def test_the_same_prices_are_the_same_content(one: str, other: str) -> None:
    assert parse(version(one)).versions == parse(version(other)).versions


def test_versions_are_sorted_by_their_instant_and_may_have_labels_and_units_of_their_own() -> None:
    plan = parse(
        "plan: a\ncurrency: JPY\nlabel: one\nversions:\n"
        "  - {effective: 2026-03-01T09:00:00+09:00, per: 1000000, label: two, rates: [{model: a, input: 1}]}\n"
        "  - {effective: 2026-01-01T00:15:00Z, rates: [{model: a, per: 1000, input: 2}]}\n"
    )
    assert [(v.effective_us, v.content.label) for v in plan.versions] == [
        (at("2026-01-01T00:15:00Z"), "one"),
        (at("2026-03-01T00:00:00Z"), "two"),
    ]


BILL, REVIEW, WAIVE = Disposition.BILL, Disposition.REVIEW, Disposition.WAIVE


def test_a_version_has_a_fee_a_minimum_and_a_say_in_what_is_billed() -> None:
    more = (
        'per: 1\n    monthly_fee: "500.00"\n    minimum: 1000\n'
        "    billable: {truncated: review, complete: {none: waive, estimated: bill}}"
    )
    content = parse(version("- {model: a, input: 1}", more)).versions[0].content
    assert (str(content.monthly_fee), content.minimum) == ("500", Decimal(1000))
    assert content.billable == {
        "complete": {"estimated": BILL, "none": WAIVE},
        "truncated": dict.fromkeys(("reported", "running", "counted", "estimated", "none"), REVIEW),
    }


def test_no_fee_no_minimum_and_no_say_are_left_out() -> None:
    more = "per: 1\n    monthly_fee: 0\n    minimum: 0.00\n    billable: {complete: {}}"
    plain = parse(version("- {model: a, input: 1}")).versions
    assert parse(version("- {model: a, input: 1}", more)).versions == plain
    # What is stored of a plan without them is what it was before there were any, and so is its hash.
    assert msgspec.json.encode(plain[0].content, order="sorted").startswith(
        b'{"label":"","rates":[{"model":"a","prices":{'
    )
    assert b"pools" not in msgspec.json.encode(plain[0].content)


def test_a_shorthand_whose_parts_all_have_prices_is_known_to_price_nothing() -> None:
    rates = "- {model: a, input: 1}\n- {model: b, output: 1, answer_output: 2, reasoning: 3}"
    assert parse(version(rates)).unused == ("versions[0].rates[1].output",)


FAULTS = [
    ("versions[0].rates[0].input: a price cannot be negative, got -0.25", version("- {model: a, input: -0.25}")),
    ("versions[0].rates[1].output: 'NaN' is not a decimal number; write for example \"0.25\"", version("- {model: a, input: 1}\n- {model: b, output: NaN}")),
    ("versions[0].rates[0].input: '1e-6' is not a decimal number; write for example \"0.25\"", version("- {model: a, input: 1e-6}")),
    ("versions[0].rates[0].input: empty", version("- {model: a, input: }")),
    ("versions[0].rates[0].input: expected one value, got a list", version("- {model: a, input: [1]}")),
    ("versions[0].rates[0].inptu: unknown key; did you mean input?", version("- {model: a, inptu: 1}")),
    ("versions[0].rates[0].Cached_Inputs: unknown key; did you mean cached_input?", version("- {model: a, Cached_Inputs: 1}")),
    ("versions[0].rates[0].zzz: unknown key; known keys are model, per, input, output, uncached_input, cached_input, cache_write, answer_output, reasoning, audio_input, image_input, video_input, audio_output, image_output, training, image, second, gpu_second, character, search, total, request", version("- {model: a, zzz: 1}")),
    ("versions[0].rates[0].model: missing", version("- {input: 1}")),
    ("versions[0].rates[0]: no price; give for example input and output, or say output: free", version("- {model: a}")),
    ("versions[0].rates[0]: expected keys (model, per, input, output, …), got 'golden'", version("- golden")),
    ("versions[0].rates[0].model: 'a b' is not a model name or pattern; write for example llama-3.1-8b or \"llama-*\"", version("- {model: a b, input: 1}")),
    ("versions[0].rates[1].model: a has its rates at versions[0].rates[0] already", version("- {model: a, input: 1}\n- {model: a, output: 1}")),
    ("versions[0].per: a price is for 1, 1000 or 1000000 tokens, got '500'", version("- {model: a, input: 1}", "per: 500")),
    ("versions[0].per: a price is for 1, 1000 or 1000000 tokens, got '1_000'", version("- {model: a, input: 1}", "per: 1_000")),
    ("versions[0].rates[0].per: say how many tokens a price is for: 1, 1000 or 1000000", version("- {model: a, input: 1}", "label: x")),
    ("versions[0].effective: '2026-01-01' is not an instant with a time zone; write for example 2026-01-01T00:00:00Z", version("- {model: a, input: 1}", effective="2026-01-01")),
    ("versions[0].effective: 'soon' is not an instant with a time zone; write for example 2026-01-01T00:00:00Z", version("- {model: a, input: 1}", effective="soon")),
    ("versions[0].effective: 2026-01-01T00:10:00Z is not a multiple of 15 minutes; write for example 2026-01-01T00:00:00Z", version("- {model: a, input: 1}", effective="2026-01-01T00:10:00Z")),
    ("versions[0].effective: 0001-01-01T00:00:00Z lies outside the years 2000 to 2200 in UTC; write for example 2026-01-01T00:00:00Z", version("- {model: a, input: 1}", effective="0001-01-01T00:00:00Z")),
    ("versions[0].effective: 0001-01-01T00:00:00+14:00 lies outside the years 2000 to 2200 in UTC; write for example 2026-01-01T00:00:00Z", version("- {model: a, input: 1}", effective="0001-01-01T00:00:00+14:00")),
    ("versions[1].effective: the same instant as versions[0]", "plan: a\ncurrency: USD\nversions:\n- {effective: 2026-01-01T00:00:00Z, per: 1, rates: [{model: a, input: 1}]}\n- {effective: 2026-01-01T01:00:00+01:00, per: 1, rates: [{model: a, input: 2}]}"),
    ("versions: expected 1 to 200 entries, got 0", "plan: a\ncurrency: USD\nversions: []"),
    ("versions: expected a list (lines that begin with -), got keys", "plan: a\ncurrency: USD\nversions: {a: 1}"),
    ("versions: expected a list (lines that begin with -), got nothing", "plan: a\ncurrency: USD\nversions:"),
    ("versions[0].rates: missing", "plan: a\ncurrency: USD\nversions: [{effective: 2026-01-01T00:00:00Z}]"),
    ("versions: missing", "plan: a\ncurrency: USD"),
    ("plan: missing", "currency: USD\nversions: [{effective: 2026-01-01T00:00:00Z, per: 1, rates: [{model: a, input: 1}]}]"),
    ("plan: 'My Plan' is not a plan name; write small letters, digits and hyphens, beginning with a letter", PLAN.replace("plan: demo", "plan: My Plan")),
    ("currency: 'usd' is not a currency code; write three capital letters, for example USD", PLAN.replace("USD", "usd")),
    ("currency: ZZZ is no active currency code of ISO 4217, as USD is", PLAN.replace("USD", "ZZZ")),
    ("curency: unknown key; did you mean currency?", PLAN.replace("currency", "curency")),
    ("the file: expected keys (plan, currency, label, versions, …), got a list", "- a"),
    ("label: expected at most 200 printable characters on one line", PLAN.replace("Demo prices", "x" * 200)),
    ("versions[0].monthly_fee: a price cannot be negative, got -1", version("- {model: a, input: 1}", "per: 1\n    monthly_fee: -1")),
    ("versions[0].minimum: 'lots' is not a decimal number; write for example \"0.25\"", version("- {model: a, input: 1}", "per: 1\n    minimum: lots")),
    ("versions[0].billable: expected keys (complete, client_closed, upstream_error, truncated, …), got 'bill'", version("- {model: a, input: 1}", "per: 1\n    billable: bill")),
    ("versions[0].billable.interupted: unknown key; did you mean interrupted?", version("- {model: a, input: 1}", "per: 1\n    billable: {interupted: bill}")),
    ("versions[0].billable.complete.guessed: unknown key; known keys are reported, running, counted, estimated, none", version("- {model: a, input: 1}", "per: 1\n    billable: {complete: {guessed: bill}}")),
    ("versions[0].billable.complete.estimated: usage is to bill, waive or review, got 'pay'", version("- {model: a, input: 1}", "per: 1\n    billable: {complete: {estimated: pay}}")),
    ("versions[0].rates[0].input.tiers[0].up_to: missing; only the last tier goes on without an end", version("- model: a\n  input:\n    tiers:\n    - price: 1\n    - price: 2")),
    ("line 9, column 9: the key 'input' is there twice", version("- model: a\n  input: 1\n  input: 2")),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), FAULTS, ids=[fault[:60] for fault, _ in FAULTS])
def test_what_is_wrong_is_said_with_its_path(fault: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert str(refused.value) == fault


def test_a_message_repeats_no_more_than_a_line() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(version(f"- {{model: a, input: {'9' * 10_000}}}"))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_plan_that_prices_all_of_its_models(path: Path) -> None:
    plan = parse(path.read_text("utf-8"))
    for each in plan.versions:
        for entry in each.content.rates:
            model = entry.model.replace("*", "x")
            served = [component for component in Component if component.is_served]
            priced = [bool(resolve(each.content.rates, model, component)) for component in served]
            has_tokens = entry.total is not None or any(part in entry.prices for part in served)
            assert priced == [has_tokens] * len(served)
