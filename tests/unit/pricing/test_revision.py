from uuid import UUID

import msgspec
import pytest

from billing.errors import Conflict
from billing.pricing.parse import parse
from billing.pricing.plan import Content, Plan, PlanFile
from billing.pricing.revision import Change, decide, differences
from billing.tokens.components import Component

JANUARY = (
    "- {effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{model: golden, input: 0.50, output: 1.50}]}"
)
MARCH = "- {effective: 2026-03-01T00:00:00Z, per: 1000, rates: [{model: golden, input: 0.40, output: 1.50}]}"
MAY = "- {effective: 2026-05-01T00:00:00Z, per: 1000, rates: [{model: golden, input: 0.30, output: 1.50}]}"


def file(*versions: str, currency: str = "USD", label: str = "list") -> PlanFile:
    return parse(
        "\n".join(["plan: demo", f"currency: {currency}", f"label: {label}", "versions:", *versions])
    )


def stored(wanted: PlanFile | None, *numbers: int) -> Plan:
    versions = wanted.versions if wanted else ()
    numbered = [
        msgspec.structs.replace(each, number=number) for each, number in zip(versions, numbers, strict=True)
    ]
    return Plan(UUID(int=1), "demo", "USD", 0, tuple(numbered))


def changes(plan: Plan, wanted: PlanFile) -> list[tuple[int, Change]]:
    return [(step.version.number, step.change) for step in decide(plan, wanted)]


def test_the_versions_of_a_new_plan_are_numbered_by_their_instant() -> None:
    assert changes(stored(None), file(MARCH, JANUARY)) == [(1, Change.ADDED), (2, Change.ADDED)]


def test_the_same_file_again_changes_nothing() -> None:
    plan = file(JANUARY, MARCH)
    assert changes(stored(plan, 1, 2), plan) == [(1, Change.UNCHANGED), (2, Change.UNCHANGED)]


def test_a_later_version_is_added_and_one_that_the_file_leaves_out_is_kept() -> None:
    assert changes(stored(file(JANUARY), 1), file(MARCH)) == [(1, Change.KEPT), (2, Change.ADDED)]


def test_a_version_between_two_gets_the_next_number_and_stands_at_its_instant() -> None:
    plan = stored(file(JANUARY, MAY), 1, 2)
    assert changes(plan, file(MARCH)) == [(1, Change.KEPT), (3, Change.ADDED), (2, Change.KEPT)]


def test_a_stored_version_never_changes() -> None:
    with pytest.raises(Conflict) as refused:
        decide(
            stored(file(JANUARY), 1),
            file(JANUARY.replace("0.50", "0.60").replace("output: 1.50", "output: free")),
        )
    assert str(refused.value) == (
        "plan demo has other prices from 2026-01-01T00:00:00Z already (version 1): golden answer_output 1.5 per 1,000 → "
        "free; golden cache_write 0.5 per 1,000 → 0.6 per 1,000; golden cached_input 0.5 per 1,000 → 0.6 per 1,000; golden "
        "reasoning 1.5 per 1,000 → free; golden uncached_input 0.5 per 1,000 → 0.6 per 1,000. A version never changes: add "
        "one with a later effective instant"
    )


def test_many_differences_are_counted() -> None:
    other = JANUARY.replace("golden", "silver")
    with pytest.raises(Conflict, match=r"; and 5 more\. A version never changes"):
        decide(stored(file(JANUARY), 1), file(other))


def test_a_plan_keeps_its_currency() -> None:
    with pytest.raises(
        Conflict, match="plan demo is in USD and stays so; the file says EUR: give the plan in another"
    ):
        decide(stored(file(JANUARY), 1), file(JANUARY, currency="EUR"))


def test_a_difference_names_what_was_and_what_would_be() -> None:
    before, after = file(JANUARY).versions[0].content, file(JANUARY, label="new").versions[0].content
    assert differences(before, after) == ["label 'list' → 'new'"]
    fewer = file(JANUARY.replace(", output: 1.50", ""), label="list").versions[0].content
    assert differences(before, fewer) == [
        f"golden {Component.ANSWER_OUTPUT} 1.5 per 1,000 → absent",
        f"golden {Component.REASONING} 1.5 per 1,000 → absent",
    ]


def test_every_kind_of_difference_is_named() -> None:
    def content(rates: str, more: str = "") -> Content:
        return (
            file(f"- {{effective: 2026-01-01T00:00:00Z, per: 1, {more} rates: [{{model: a, {rates}}}]}}")
            .versions[0]
            .content
        )

    plain = content("answer_output: 1")
    for other, expected in (
        (content("answer_output: {price: 1, allowance: 5}"), "a answer_output 1 per 1 → 1 per 1, 5 included"),
        (content("answer_output: {tiers: [{up_to: 5, price: 1}, {price: 2}]}"), "a answer_output 1 per 1 → 1 per 1 to 5, then 2 per 1"),
        (content("answer_output: 1", "monthly_fee: 500,"), "monthly_fee absent → 500"),
        (content("answer_output: 1", "minimum: 1000.00,"), "minimum absent → 1000"),
        (content("answer_output: 1", "billable: {truncated: {reported: bill}},"), "billable truncated reported absent → bill"),
    ):  # fmt: skip
        assert differences(plain, other) == [expected]
    assert differences(content("total: 1, second: 1"), content("total: 1, request: 2")) == [
        "a request absent → 2 per 1",
        "a second 1 per 1 → absent",
    ]
    assert differences(content("total: 1"), content("total: 2")) == ["a total 1 per 1 → 2 per 1"]
    together = content("output: {price: 1, allowance: 5}")
    apart = content("answer_output: {price: 1, allowance: 5}, reasoning: {price: 1, allowance: 5}")
    assert differences(together, apart)[0] == (
        "a answer_output 1 per 1, 5 included (counted with all output) → 1 per 1, 5 included"
    )
