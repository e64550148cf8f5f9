"""What engines write in Anthropic's shapes is read as far as it fits, and nothing that does not fit costs the rest."""

import time
from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.anthropic_payload import (
    CacheCreation,
    Counted,
    Iteration,
    OutputDetails,
    ServerToolUse,
    Usage,
    advanced,
    decode_event,
    decode_message,
    decode_told,
    known_sum,
    replaced,
)
from billing.tokens.salvage import DEPTH_MAX
from billing.tokens.usage import COUNT_MAX


def usage_told(**members: Any) -> Usage | None:
    event = decode_event(msgspec.json.encode({"type": "message_delta", "usage": members}))
    return event.usage if event else None


SECONDS_MAX = 3.0
NO_NUMBERS: list[Any] = [True, False, None, -1, COUNT_MAX + 1, 2**70, 1.5, "7", [], {}, [7]]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_count_is_missing_and_costs_nothing_beside_it(value: Any) -> None:
    raw = msgspec.json.encode(value) if value != 2**70 else b"%d" % value
    told = decode_event(b'{"type":"message_delta","usage":{"input_tokens":%b,"output_tokens":6}}' % raw)
    assert told is not None
    assert told.usage == Usage(output_tokens=6)


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"1e400", b"-0.0"])
def test_numbers_that_are_none_are_missing(raw: bytes) -> None:
    told = decode_message(b'{"id":"m","usage":{"input_tokens":%b,"output_tokens":6}}' % raw)
    assert told is not None
    assert (told.id, told.usage) == ("m", Usage(output_tokens=6))


def test_a_detail_of_the_wrong_shape_costs_only_itself() -> None:
    told = usage_told(
        input_tokens=5, cache_creation=7, output_tokens_details=[], server_tool_use={"web_search_requests": "x"},
        iterations=[5, {"type": 7, "input_tokens": 3}, None],
    )  # fmt: skip
    assert told == Usage(
        input_tokens=5, server_tool_use=ServerToolUse(), iterations=[Iteration(input_tokens=3)]
    )


def test_whole_details_are_read() -> None:
    told = usage_told(
        cache_creation={"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        output_tokens_details={"thinking_tokens": 4}, service_tier="standard",
    )  # fmt: skip
    assert told == Usage(cache_creation=CacheCreation(1, 2), output_tokens_details=OutputDetails(4))


def test_text_that_is_no_unicode_does_not_cost_the_counts() -> None:
    told = decode_message(b'{"id":"\xff","content":[{"text":"\\ud800"}],"usage":{"output_tokens":6}}')
    assert told is not None
    assert told.usage == Usage(output_tokens=6)


@pytest.mark.parametrize("depth", [DEPTH_MAX, 500, 200_000])
def test_a_tool_call_nested_deeper_than_readers_go_does_not_hide_the_usage(depth: int) -> None:
    nested = b'{"a":[' * depth + b"]}" * depth
    told = decode_message(
        b'{"id":"a \\" }, {","content":[{"type":"tool_use","input":%b}],"usage":{"input_tokens":5,"output_tokens":6}}'
        % nested
    )
    assert told is not None
    assert (told.id, told.usage) == ('a " }, {', Usage(input_tokens=5, output_tokens=6))


@pytest.mark.parametrize("raw", [b'{"a":' + b"[" * 5_000, b"5", b""])
def test_quotes_in_a_text_without_an_end_are_read_once(raw: bytes) -> None:
    begin = time.process_time()
    told = decode_message(raw + b'"' + b'\\"' * 1_000_000)
    assert told is None
    assert time.process_time() - begin < SECONDS_MAX


def test_a_number_of_a_million_digits_costs_only_itself() -> None:
    told = decode_message(b'{"usage":{"input_tokens":%b,"output_tokens":6}}' % (b"1" * 1_000_000))
    assert told is not None
    assert told.usage == Usage(output_tokens=6)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"5", b'"x"', b"hello", b'{"usage":', b"\xff\xfe"])
def test_what_is_no_object_is_nothing(raw: bytes) -> None:
    assert decode_event(raw) is None
    assert decode_message(raw) is None
    assert decode_told(raw) is None


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"a":' * 200_000, b'{"a":"' + b"\\" * 200_001])
def test_nesting_without_an_end_is_no_crash(raw: bytes) -> None:
    told = decode_message(raw)
    assert told is None or told.usage is None


ERRORS = {
    "Anthropic's": b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
    "OpenAI's": b'{"error":{"message":"x"}}',
    "one that is a text": b'{"error":"x"}',
    "llama.cpp's, bare": b'{"code":500,"message":"x","type":"server_error"}',
}


@pytest.mark.parametrize("raw", ERRORS.values(), ids=ERRORS)
def test_errors_are_known(raw: bytes) -> None:
    told = decode_event(raw)
    assert told is not None
    assert told.is_error


@pytest.mark.parametrize("raw", [b'{"type":"ping"}', b'{"type":"message_stop","error":null}', b'{"type":7}'])
def test_other_events_are_no_errors(raw: bytes) -> None:
    told = decode_event(raw)
    assert told is not None
    assert not told.is_error


def test_the_whole_prompt_is_what_was_read_and_written_and_the_rest() -> None:
    assert Counted(3, 0, 1111, 418).input_total == 1532
    assert Counted(3, cache_creation=CacheCreation(400, 18)).input_total == 421
    assert Counted(0, cache_read_input_tokens=9).input_total == 9


def test_a_prompt_of_0_tokens_or_of_an_unknown_rest_is_not_known() -> None:
    assert Counted(0, 7).input_total is None
    assert Counted(cache_read_input_tokens=9).input_total is None
    assert Counted(0).tells_no_input
    assert not Counted().tells_no_input


def test_later_fields_replace_and_missing_ones_do_not() -> None:
    begun = Usage(100, None, 55_096, 0, CacheCreation(0, 0))
    assert replaced(begun, Usage(181, 8, 0)) == Usage(181, 8, 0, 0, CacheCreation(0, 0))
    assert replaced(None, Usage(181)) == Usage(181)


def test_an_input_of_0_for_want_of_a_number_replaces_nothing() -> None:
    begun = Usage(1, None, 23)
    assert replaced(begun, Usage(0, 6, 0, 0)) == Usage(1, 6, 23)


def test_cumulative_numbers_never_go_down() -> None:
    earlier = Usage(5, 9, server_tool_use=ServerToolUse(2))
    assert advanced(earlier, Usage(4, 12, server_tool_use=ServerToolUse(1, 1))) == Usage(
        5, 12, server_tool_use=ServerToolUse(2, 1)
    )
    assert advanced(earlier, Usage()) == earlier


def test_a_sum_of_nothing_known_is_unknown() -> None:
    assert known_sum(None, None) is None
    assert known_sum(None, 0) == 0
    assert known_sum(2, None, 3) == 5
