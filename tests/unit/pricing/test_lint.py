from pathlib import Path

import pytest

from billing.pricing.lint import lint, lint_change, may_share_a_month
from billing.pricing.parse import parse
from tests.invoice_kit import at

EXAMPLES = Path(__file__).parents[3] / "examples/plans"


def warnings(rates: str, more: str = "") -> list[str]:
    text = f"plan: a\ncurrency: USD\nversions:\n- {{effective: 2026-01-01T00:00:00Z, per: 1, {more} rates: [{rates}]}}"
    return [str(each) for each in lint(parse(text))]


FROM = "from 2026-01-01T00:00:00Z, "
PER = (
    "the price is for 1,000,000 {unit}, as the entry's per says; to price each one, leave per to the version, where it is for "
    "tokens only"
)


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
        pytest.param(
            "{model: a, second: {tiers: [{up_to: 10, price: 2}, {price: 1}], allowance: 20}}", "",
            f"{FROM}a second: the allowance of 20 is larger than the first tier, to 10; tiers count after the allowance, so "
            "that the first ends at 30 seconds", id="the same of a unit",
        ),
        pytest.param("{model: a, per: 1000000, second: 1}", "", f"{FROM}a second: {PER}".format(unit="seconds"), id="a unit by the million"),
        pytest.param("{model: a, per: 1000000, input: 1, character: 15}", "", f"{FROM}a character: {PER}".format(unit="characters"), id="characters by the million beside tokens"),
        pytest.param("{model: a, per: 1000000, request: {tiers: [{up_to: 5, price: free}, {price: 1}]}}", "", f"{FROM}a request: {PER}".format(unit="requests"), id="requests by the million in a tier"),
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
        pytest.param("{model: a, per: 1000000, character: 15}", "", id="characters are sold by the million"),
        pytest.param("{model: a, per: 1000, image: 40}, {model: b, second: 1, request: 1}", "", id="units that nobody else prices"),
        pytest.param('{model: a, second: 1, training: 2}, {model: "*", total: 2}', "", id="an entry of units alone leaves tokens to others"),
        pytest.param('{model: a, input: free, output: 1}, {model: "*", total: free}', "minimum: 10,", id="one price is not free"),
    ],
)  # fmt: skip
def test_what_is_meant_is_not_warned_of(rates: str, more: str) -> None:
    assert warnings(rates, more) == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_no_example_is_warned_of(path: Path) -> None:
    assert lint(parse(path.read_text("utf-8"))) == ()


COUNTED = 'input: {price: "0.4", allowance: 1000}'
TIERS = "output: {tiers: [{up_to: 10, price: 2}, {price: 1}]}"
ONCE_MORE, START_AGAIN = "1,000 tokens are included once more", "the tiers start again"


def changes(before: str, after: str) -> list[tuple[str, str]]:
    """The prices that a version from the 15th makes count anew, and what begins again."""
    text = "plan: a\ncurrency: USD\nversions:" + "".join(
        f"\n- {{effective: 2026-01-{day:02}T00:00:00Z, per: 1, rates: [{rates}]}}"
        for day, rates in ((1, before), (15, after))
    )
    earlier, later = parse(text).versions
    found = lint_change(earlier, later)
    assert all(each.where.startswith("from 2026-01-15T00:00:00Z, ") for each in found)
    return [
        (each.where.partition(", ")[2], each.text.partition("goes on then ")[2].partition(". ")[0])
        for each in found
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(f'{{model: "llama*", {COUNTED}, {TIERS}}}', f'{{model: "llama-*", {COUNTED}, {TIERS}}}', [("llama-* input", ONCE_MORE), ("llama-* output", START_AGAIN)], id="a narrower pattern"),
        pytest.param(f'{{model: "llama-*", {TIERS}}}', f'{{model: "llama*", {TIERS}}}', [("llama* output", START_AGAIN)], id="a broader pattern"),
        pytest.param(f'{{model: "a*", {TIERS}}}', f'{{model: "*b", {TIERS}}}', [("*b output", START_AGAIN)], id="a pattern that overlaps"),
        pytest.param(f"{{model: a, {COUNTED}}}", '{model: a, uncached_input: {price: "0.4", allowance: 1000}}', [("a uncached_input", ONCE_MORE)], id="another word"),
        pytest.param('{model: "a*", second: {price: 1, allowance: 1}}', "{model: a, second: {price: 1, allowance: 60}}", [("a second", "60 seconds are included once more")], id="a unit"),
        pytest.param('{model: "a*", request: {price: 1, allowance: 5}}', "{model: a, request: {price: 1, allowance: 1}}", [("a request", "1 request is included once more")], id="requests"),
        pytest.param(f"{{model: a, {TIERS}}}", f"{{model: a, {TIERS}, audio_output: {{price: 1, allowance: 7}}}}", [("a audio_output", "7 tokens are included once more")], id="a kind gets a price of its own"),
        pytest.param(f'{{model: "*", {TIERS}}}', f'{{model: "*", {TIERS}}}, {{model: a, {TIERS}}}', [("a output", START_AGAIN)], id="an entry of its own"),
        pytest.param(f'{{model: "*", {TIERS}}}, {{model: a, {TIERS}}}', f'{{model: "*", {TIERS}}}', [("* output", START_AGAIN)], id="an entry that is dropped"),
    ],
)  # fmt: skip
def test_a_version_that_counts_usage_elsewhere_is_warned_of(
    before: str, after: str, expected: list[tuple[str, str]]
) -> None:
    assert changes(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(f"{{model: a, {COUNTED}}}", '{model: a, input: {price: "0.3", allowance: 5}}', id="another price"),
        pytest.param("{model: a, input: 1}", '{model: "a*", input: 1}', id="nothing is counted"),
        pytest.param(f"{{model: a, {TIERS}}}", f"{{model: b, {TIERS}}}", id="another model"),
        pytest.param(f"{{model: a, {TIERS}}}", '{model: "a*", output: 1}', id="nothing is counted any more"),
    ],
)  # fmt: skip
def test_a_version_that_counts_on_is_not_warned_of(before: str, after: str) -> None:
    assert changes(before, after) == []


BETWEEN = [
    pytest.param("{model: a, input: 1, output: 1}", True, id="a version that counts nothing"),
    pytest.param("{model: b, input: 1}", True, id="a version without the model"),
    pytest.param(f'{{model: golem, {COUNTED}}}, {{model: "*", input: 1}}', True, id="one that counts some of it"),
    pytest.param(f'{{model: "*", {COUNTED}}}', False, id="one that counts it"),
    pytest.param(f'{{model: "gol*", {COUNTED}}}, {{model: "*", input: 1}}', False, id="one that counts what the later one counts"),
]  # fmt: skip


@pytest.mark.parametrize(("between", "is_warned"), BETWEEN)
@pytest.mark.parametrize(("before", "after"), [("*", "gol*"), ("gol*", "*")])
def test_usage_is_followed_over_versions_that_do_not_count_it(
    before: str, after: str, between: str, *, is_warned: bool
) -> None:
    rates = (f'{{model: "{before}", {COUNTED}}}', between, f'{{model: "{after}", {COUNTED}}}')
    first, middle, last = parse(
        "plan: a\ncurrency: USD\nversions:"
        + "".join(
            f"\n- {{effective: 2026-01-{day:02}T00:00:00Z, per: 1, rates: [{each}]}}"
            for day, each in zip((1, 10, 20), rates, strict=True)
        )
    ).versions
    found = [each.where for each in lint_change(first, last, [middle])]
    assert found == ([f"from 2026-01-20T00:00:00Z, {after} input"] if is_warned else [])


def test_patterns_that_overlap_are_followed_too() -> None:
    steps = ((1, "a*", TIERS), (5, "*", "output: 1"), (9, "*", TIERS), (13, "*b", TIERS))
    first, plain, counting, last = parse(
        "plan: a\ncurrency: USD\nversions:"
        + "".join(
            f'\n- {{effective: 2026-01-{day:02}T00:00:00Z, per: 1, rates: [{{model: "{model}", {price}}}]}}'
            for day, model, price in steps
        )
    ).versions
    assert len(lint_change(first, last, [plain])) == 1
    assert lint_change(first, last, [plain, counting]) == ()


MONTHS = [
    ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", False),
    ("2026-02-01T00:30:00Z", "2026-03-01T00:00:00Z", True),
    ("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", False),
    ("2026-01-31T23:45:00Z", "2026-02-28T10:00:00Z", True),
    ("2026-02-28T10:15:00Z", "2026-03-01T00:00:00Z", True),
    ("2026-03-10T00:00:00Z", "2026-03-20T00:00:00Z", True),
    ("2025-12-15T00:00:00Z", "2026-03-20T00:00:00Z", False),
]


@pytest.mark.parametrize(("ended", "starts", "shared"), MONTHS)
def test_a_month_is_shared_in_some_time_zone_or_in_none(ended: str, starts: str, *, shared: bool) -> None:
    assert may_share_a_month(at(ended), at(starts)) is shared


def test_the_warning_names_both_rates_and_what_to_do() -> None:
    text = (
        "plan: a\ncurrency: USD\nversions:\n"
        f'- {{effective: 2026-01-01T00:00:00Z, per: 1, rates: [{{model: "llama*", {COUNTED}}}]}}\n'
        f'- {{effective: 2026-01-15T00:00:00Z, per: 1, rates: [{{model: "llama-*", {COUNTED}}}]}}\n'
    )
    before, after = parse(text).versions
    [warning] = lint_change(before, after)
    assert str(warning) == (
        "from 2026-01-15T00:00:00Z, llama-* input: what llama* input has counted before does not count here: in a month that "
        "goes on then 1,000 tokens are included once more. Keep the model pattern and the word as they were to count on"
    )
