"""A response says what it used, and what it only seems to say is unknown."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.openai_responses_payload import (
    Item,
    Response,
    believed,
    counted,
    event_of,
    items,
    reasoning_text,
    response_of,
)
from billing.tokens.engines import LLAMA_CPP, OLLAMA, OPENAI, VLLM, Engine
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage

USAGE = {"input_tokens": 9, "output_tokens": 8, "total_tokens": 17, "input_tokens_details": {"cached_tokens": 0},
         "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip


def response(**members: Any) -> Response:
    got = response_of(msgspec.json.encode(members))
    assert got is not None
    return got


def calls(*types: str) -> list[dict[str, str]]:
    return [{"type": kind} for kind in types]


@pytest.mark.parametrize(
    ("engine", "reasons", "cached", "reasoning"),
    [
        (OPENAI, False, 0, 0), (OPENAI, True, 0, 0), (VLLM, False, 0, 0), (VLLM, True, 0, None),
        (LLAMA_CPP, False, 0, None), (OLLAMA, False, None, None),
    ],
)  # fmt: skip
def test_a_zero_that_nobody_counted_is_unknown(
    engine: Engine, *, reasons: bool, cached: int | None, reasoning: int | None
) -> None:
    got = counted(response(usage=USAGE), engine, reasons=reasons)
    assert (got.input.value, got.output.value) == (9, 8)
    assert (got.cached_input.value, got.reasoning.value) == (cached, reasoning)


def test_counts_above_zero_are_believed() -> None:
    usage = TokenUsage(
        cached_input=Count(1, Provenance.REPORTED, "c"), reasoning=Count(2, Provenance.REPORTED, "r")
    )
    assert believed(usage, OLLAMA, reasons=True) is usage


def test_a_usage_of_zeros_says_nothing_unless_the_response_failed() -> None:
    zeros = {"input_tokens": 0, "output_tokens": 0}
    assert counted(response(usage=zeros), OPENAI, reasons=False) == TokenUsage()
    assert counted(response(usage=zeros, status="failed"), OPENAI, reasons=False).output.value == 0
    assert counted(response(usage=None), OPENAI, reasons=False) == TokenUsage()


@pytest.mark.parametrize(
    ("output", "billed", "searches"),
    [
        (calls("message"), None, None),
        (calls("web_search_call", "message", "web_search_call", "code_interpreter_call"), None, 2),
        (calls("web_search_call", "file_search_call"), None, 2),
        (calls("web_search_call", "web_search_call", "file_search_call"), 1, 2),
        (calls("web_search_call"), 0, 0),
        ([], 0, None),
        (calls("web_search_call"), -3, 1),
    ],
)
def test_searches(output: list[dict[str, str]], billed: int | None, searches: int | None) -> None:
    tools = None if billed is None else {"web_search": {"num_requests": billed}, "image_gen": {}}
    got = counted(response(usage=USAGE, output=output, tool_usage=tools), OPENAI, reasons=False)
    assert got.parts.get(Part.SEARCH, UNKNOWN).value == searches
    assert got.input.value == 9


def test_an_item_that_is_none_costs_no_other() -> None:
    output = [None, 5, {"type": 7}, {"type": "web_search_call"}]
    got = counted(response(usage=USAGE, output=output), OPENAI, reasons=False)
    assert got.parts[Part.SEARCH].value == 1


def test_images_of_a_hosted_tool() -> None:
    got = counted(response(usage=USAGE, output=calls("image_generation_call")), OPENAI, reasons=False)
    assert got.parts == {Part.IMAGE: Count(1, Provenance.REPORTED, "output items of its type")}
    assert items([Item(type="message")], "image_generation_call") == UNKNOWN


def test_reasoning_text_or_its_summary() -> None:
    output = [
        {
            "type": "reasoning",
            "content": [{"text": "a"}, {"text": None}, {"text": "b"}],
            "summary": [{"text": "no"}],
        },
        {"type": "message", "content": [{"text": "answer"}]},
        {"type": "reasoning", "content": [], "summary": [{"text": "c"}]},
        {"type": "reasoning"},
    ]
    assert reasoning_text(response(output=output)) == "abc"


def test_what_is_no_object_is_none() -> None:
    assert (response_of(b"[]"), response_of(b"{"), event_of(b"null"), event_of(b"5")) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    "damage",
    [b'"output":5', b'"output":[null,5,{"type":7}]', b'"id":[1]', b'"status":true', b'"x":"\xff"', b'"id":"\xed\xa0\x80"', b'"x":NaN',
     b'"x":' + b"9" * 5000, b'"status":"\\ud800"', b'"x":' + b"[" * 3000 + b"]" * 3000, b'"tool_usage":{"web_search":[]}'],
)  # fmt: skip
def test_damage_costs_no_count_beside_it(damage: bytes) -> None:
    got = response_of(b'{%b,"usage":%b}' % (damage, msgspec.json.encode(USAGE)))
    assert got is not None
    assert counted(got, OPENAI, reasons=False).output.value == 8


@pytest.mark.parametrize("value", [b"true", b"null", b"-1", b'"8"', b"1e999", b"8.5", b"9" * 30, b"[]"])
def test_a_count_that_is_none_is_unknown_and_costs_no_other(value: bytes) -> None:
    got = response_of(
        b'{"usage":{"input_tokens":9,"output_tokens":%b,"input_tokens_details":{"cached_tokens":%b}}}'
        % (value, value)
    )
    assert got is not None
    usage = counted(got, OPENAI, reasons=False)
    assert (usage.input.value, usage.output.value, usage.cached_input.value) == (9, None, None)
