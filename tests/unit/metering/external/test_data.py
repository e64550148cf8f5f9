"""What an event says was used, and what is refused because it contradicts itself or is not understood."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InvalidInput
from billing.metering.external.data import COUNTS, PARTS, UsageData, kind_of, read_data, usage_of
from billing.tenants.api_key import TAGS_MAX
from billing.tokens.components import Component, components
from billing.tokens.operation import Operation
from billing.tokens.usage import COUNT_MAX, Count, Outcome, Part, Provenance, total_tokens, weakest

LEAST = {"model": "golden", "training": 1}


def read(**members: Any) -> UsageData:
    return read_data({"model": "golden", **members}, "data")


def refused(value: object) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as caught:
        read_data(value, "[3].data")
    return str(caught.value), caught.value.param


def test_what_is_not_told_has_its_default() -> None:
    data = read(training=4_096)
    assert (data.operation, data.outcome, data.service_tier, data.estimated) == (
        Operation.TRAINING, Outcome.COMPLETE, "standard", False,
    )  # fmt: skip
    assert (data.project, data.end_user, data.tags, data.input, data.training) == (
        None,
        None,
        {},
        None,
        4_096,
    )
    assert read(training=1, input=None, project=None, end_user=None) == read(training=1)


def test_every_count_and_part_can_be_told_but_hidden_ones() -> None:
    names = {*COUNTS, *PARTS}
    told = {"model", "operation", "project", "outcome", "end_user", "tags", "service_tier", "estimated"}
    assert set(UsageData.__struct_fields__) == names | told
    assert set(Part) - set(PARTS) == {Part.HIDDEN}
    assert {each.value for each in Component} - names == {"uncached_input", "answer_output"}


def test_counts_are_reported_by_their_source() -> None:
    usage = usage_of(read(input=10, cached_input=4, output=0, second=3), "/jobs/1")
    assert usage.input == Count(10, Provenance.REPORTED, "event of /jobs/1")
    assert (usage.cached_input.value, usage.output.value, usage.reasoning.value) == (4, 0, None)
    assert usage.parts == {Part.SECOND: Count(3, Provenance.REPORTED, "event of /jobs/1")}
    assert weakest(usage) is Provenance.REPORTED
    assert weakest(usage_of(read(training=5, estimated=True), "/jobs/1")) is Provenance.ESTIMATED


MISSING = "missing beside {}; tell 0 if there was none"


@pytest.mark.parametrize(
    ("members", "param", "sentence"),
    [
        ({"outptu": 5}, ".outptu", "unknown; counts are input, cached_input"),
        ({"hidden": 5}, ".hidden", "unknown"),
        ({"a\nb": 5}, ".a\nb", r"unknown"),
        ({"training": -1}, ".training", "Expected `int` >= 0"),
        ({"training": COUNT_MAX + 1}, ".training", "Expected `int` <= 9007199254740992"),
        ({"training": 10**40}, ".training", "Expected `int` <= 9007199254740992"),
        ({"training": True}, ".training", "got `bool`"),
        ({"training": 1.0}, ".training", "got `float`"),
        ({"training": "1"}, ".training", "got `str`"),
        ({"training": [1]}, ".training", "got `array`"),
        ({"training": None}, "", "holds no count"),
        ({}, "", "holds no count"),
        ({"input": 5}, ".output", MISSING.format("input")),
        ({"output": 5}, ".input", MISSING.format("output")),
        ({"input": 5, "training": 5}, ".output", MISSING.format("input")),
        ({"search": 5}, ".input", MISSING.format("search")),
        ({"cached_input": 5}, ".input", "missing; it contains cached_input"),
        ({"reasoning": 5, "training": 1}, ".output", "missing; it contains reasoning"),
        (
            {"cache_write_1h": 5, "input": 9, "output": 0},
            ".cache_write",
            "missing; it contains cache_write_1h",
        ),
        (
            {"input": 5, "cached_input": 6, "output": 0},
            ".cached_input",
            "are 6, and input, which contains them, 5",
        ),
        ({"input": 5, "cached_input": 3, "cache_write": 3, "output": 0}, ".cached_input", "together are 6"),
        ({"input": 5, "audio_input": 3, "video_input": 3, "output": 0}, ".audio_input", "together are 6"),
        ({"input": 5, "output": 4, "reasoning": 2, "audio_output": 3}, ".reasoning", "together are 5"),
        ({"operation": "chatting", "training": 1}, ".operation", "Invalid enum value 'chatting'"),
        ({"outcome": "fine", "training": 1}, ".outcome", "Invalid enum value 'fine'"),
        ({"estimated": 1, "training": 1}, ".estimated", "Expected `bool`"),
        ({"model": None, "training": 1}, ".model", "missing"),
        ({"model": "", "training": 1}, ".model", "is not a model name"),
        ({"model": "two words", "training": 1}, ".model", "is not a model name"),
        ({"model": "m" * 129, "training": 1}, ".model", "is not a model name"),
        ({"project": "No Slug", "training": 1}, ".project", "is not a slug"),
        ({"service_tier": "", "training": 1}, ".service_tier", "is no tier"),
        ({"service_tier": "x" * 64, "training": 1}, ".service_tier", "is no tier"),
        ({"end_user": "u" * 257, "training": 1}, ".end_user", "257 characters long"),
        ({"end_user": "a\x1bb", "training": 1}, ".end_user", "control character"),
        ({"tags": {"team": 1}, "training": 1}, ".tags[...]", "Expected `str`"),
        ({"tags": {"1": "x"}, "training": 1}, ".tags", "is not a tag name"),
        ({"tags": {"team": "x" * 129}, "training": 1}, ".tags.team", "at most 128 printable bytes"),
        (
            {"tags": {f"t{n}": "" for n in range(TAGS_MAX + 1)}, "training": 1},
            ".tags",
            "at most 16 tags, got 17",
        ),
    ],
)
def test_what_is_refused_is_named_by_its_path(members: dict[str, Any], param: str, sentence: str) -> None:
    reason, found = refused({"model": "golden"} | members)
    assert found == f"[3].data{param}"
    assert sentence in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "missing"), ([], "an array"), ("x", "text"), (7, "a number")]
)
def test_data_is_an_object(value: object, kind: str) -> None:
    reason, param = refused(value)
    assert (param, kind in reason) == ("[3].data", True)


def test_kinds_are_named_for_people() -> None:
    assert [kind_of(each) for each in (None, True, 1, 1.5, "x", [], {})] == [
        "null", "a boolean", "a number", "a number", "text", "an array", "an object",
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from([*COUNTS, *PARTS]), st.integers(0, 20)))
def test_what_is_taken_is_known_whole_and_its_components_add_up(counts: dict[str, int]) -> None:
    try:
        data = read(**{str(name): count for name, count in counts.items()})
    except InvalidInput:
        return
    usage = usage_of(data, "/jobs/1")
    assert weakest(usage) is Provenance.REPORTED
    made = components(usage)
    assert made.total == (total_tokens(usage) or 0) + counts.get("training", 0)
    for name in {*COUNTS, *PARTS} - {
        "input",
        "output",
        "cache_write_1h",
        "audio_input",
        "image_input",
        "video_input",
    }:
        assert getattr(made, name) == counts.get(name, 0)
