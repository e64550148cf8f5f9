from pathlib import Path

import pytest

from billing.pricing.lint import lint
from billing.pricing.parse import parse

EXAMPLES = Path(__file__).parents[3] / "examples/plans"


def warnings(rates: str, more: str = "") -> list[str]:
    text = f"plan: a\ncurrency: USD\nversions:\n- {{effective: 2026-01-01T00:00:00Z, per: 1, {more} rates: [{rates}]}}"
    return [str(each) for each in lint(parse(text))]


FROM = "from 2026-01-01T00:00:00Z, "


@pytest.mark.parametrize(
    ("rates", "more", "expected"),
    [
        pytest.param("{model: a, output: 1}", "", f"{FROM}a: input has no price and stays unrated; to give it away write input: free", id="output without input"),
        pytest.param('{model: "a*", output: 1}, {model: ab, input: 1}', "", f"{FROM}a*: input has no price and stays unrated; to give it away write input: free", id="another entry prices only some of the models"),
        pytest.param(
            "{model: a, input: 1, output: {tiers: [{up_to: 10, price: 2}, {price: 1}], allowance: 20}}", "",
            f"{FROM}a output: the allowance of 20 is larger than the first tier, to 10; tiers count after the allowance, so "
            "that the first ends at 30 tokens", id="an allowance beyond the first tier",
        ),
        pytest.param('{model: "*", total: free}', "minimum: 10.50,", f"{FROM}minimum: every price is free, so each period costs 10.5; monthly_fee says that", id="a minimum of what is free"),
        pytest.param("{model: a, input: 1, uncached_input: 1, cached_input: 2, cache_write: 3}", "", "versions[0].rates[0].input: prices nothing: each of its parts has a price of its own", id="a shorthand without a part left"),
        pytest.param('{model: a, input: 1}, {model: "*", total: 2}', "", f"{FROM}a: answer_output is priced by the total of *", id="a part left to the total of others"),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_warned_of(rates: str, more: str, expected: str) -> None:
    assert warnings(rates, more) == [expected]


@pytest.mark.parametrize(
    ("rates", "more"),
    [
        pytest.param("{model: a, input: free, output: 1}", "", id="an output-only plan says that input is free"),
        pytest.param('{model: a, output: 1}, {model: "*", input: 1}', "", id="another entry prices the input"),
        pytest.param("{model: a, input: 1}", "", id="an embedding model has no output"),
        pytest.param("{model: a, total: {tiers: [{up_to: 10, price: 2}, {price: 1}], allowance: 10}}", "", id="an allowance as large as the first tier"),
        pytest.param('{model: a, input: free, output: 1}, {model: "*", total: free}', "minimum: 10,", id="one price is not free"),
    ],
)  # fmt: skip
def test_what_is_meant_is_not_warned_of(rates: str, more: str) -> None:
    assert warnings(rates, more) == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_no_example_is_warned_of(path: Path) -> None:
    assert lint(parse(path.read_text("utf-8"))) == ()
