"""Triton's counts are tensors among others: added up over a stream, and hidden from who did not ask."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateway.ending import stream_outcome
from billing.gateway.relay import StreamRelay
from billing.tokens.call import Asked
from billing.tokens.dialects.triton import parse
from billing.tokens.dialects.triton_meter import INPUT, OUTPUT, TritonReplyMeter, TritonStreamMeter
from billing.tokens.engines import TRITON
from billing.tokens.meter import Edit, ReplyMeter
from billing.tokens.operation import Operation
from billing.tokens.usage import UNKNOWN, Count, Outcome, Provenance, TokenUsage

CORPUS = Path(__file__).parents[4] / "../shared/corpus"
HIDDEN = frozenset({INPUT, OUTPUT})


def reply(text: str | list[str] = "a", **members: Any) -> bytes:
    return msgspec.json.encode({"model_name": "weights", "model_version": "1", "text_output": text} | members)


def counted(output: Any = 1, told: Any = 7, text: str | list[str] = "a") -> bytes:
    return reply(text, num_input_tokens=told, num_output_tokens=output)


def metered(*events: bytes) -> TritonStreamMeter:
    meter = TritonStreamMeter(HIDDEN)
    for number, data in enumerate(events):
        meter.see(data, 1_000 * number)
    return meter


def values(usage: TokenUsage) -> tuple[int | None, int | None]:
    assert usage.cached_input == usage.reasoning == UNKNOWN
    return (usage.input.value, usage.output.value)


def test_each_event_says_what_it_adds() -> None:
    meter = metered(counted(1), counted(2), counted(0, text=""))
    assert meter.usage().input == Count(7, Provenance.REPORTED, INPUT)
    assert meter.usage().output == Count(3, Provenance.RUNNING, "num_output_tokens of the events added up")
    assert (meter.response_model, meter.response_id, meter.itl_us()) == ("weights", None, 500)


def test_several_sequences_are_added_up() -> None:
    assert values(metered(counted([1, 2]), counted([1, 0])).usage()) == (7, 4)


def test_without_counts_nothing_is_known() -> None:
    assert values(metered(reply("a"), reply("b")).usage()) == (None, None)


def test_where_some_text_came_without_its_count_the_sum_is_an_estimate() -> None:
    usage = metered(counted(2), reply("b")).usage()
    assert (usage.output.value, usage.output.provenance) == (2, Provenance.ESTIMATED)


@pytest.mark.parametrize("value", [True, "5", -1, 5.5, None, [], [1, None], {}, 10**30])
def test_a_broken_count_costs_not_the_other(value: Any) -> None:
    assert values(metered(counted(3, told=value)).usage()) == (None, 3)
    assert values(metered(counted(value)).usage()) == (7, None)
    assert values(TritonReplyMeter(counted(value), HIDDEN).usage()) == (7, None)


@pytest.mark.parametrize(
    ("events", "complete", "outcome"),
    [
        ([counted()], True, Outcome.COMPLETE), ([counted()], False, Outcome.TRUNCATED), ([], True, Outcome.TRUNCATED),
        ([counted(), b'{"error":"out of memory"}'], True, Outcome.UPSTREAM_ERROR), ([b'{"error":"no"}'], True, Outcome.UPSTREAM_ERROR),
    ],
)  # fmt: skip
def test_a_stream_is_whole_when_its_body_is_and_no_error_stood_in_it(
    events: list[bytes], outcome: Outcome, *, complete: bool
) -> None:
    assert stream_outcome(metered(*events), gone=False, complete=complete) is outcome


def test_counts_that_nobody_asked_for_are_taken_out() -> None:
    meter = TritonStreamMeter(HIDDEN)
    assert meter.see(counted(), 0) is Edit.STRIP
    assert meter.strip(counted()) == reply()
    assert meter.see(reply(), 0) is Edit.KEEP
    assert meter.strip(b"hello") == b"hello"
    only_output = TritonStreamMeter(frozenset({OUTPUT}))
    assert only_output.see(reply(num_input_tokens=7), 0) is Edit.KEEP
    assert only_output.strip(counted()) == reply(num_input_tokens=7)


def test_a_whole_reply_reports_its_counts_and_hides_them() -> None:
    meter = TritonReplyMeter(counted(3), HIDDEN)
    assert meter.usage().output == Count(3, Provenance.REPORTED, OUTPUT)
    assert values(meter.usage()) == (7, 3)
    assert meter.stripped(counted(3)) == reply()
    assert (meter.response_model, meter.response_id, meter.reasoning_text()) == ("weights", None, None)


def test_the_clients_own_id_is_not_taken_for_the_engines() -> None:
    assert TritonReplyMeter(reply(id="42"), HIDDEN).response_id is None
    assert metered(reply(id="42")).response_id is None


def asked(body: dict[str, Any], raw: bytes) -> ReplyMeter:
    data = msgspec.json.encode(body)
    return parse(Asked(Operation.GENERATE, "/v2/models/tiny/generate", data)).reply_meter(TRITON, raw)


@pytest.mark.parametrize(
    ("body", "raw", "provenance"),
    [
        ({}, counted(30, text="why? so"), Provenance.ESTIMATED),
        ({}, counted(30, text=["why? so"]), Provenance.ESTIMATED),
        ({}, counted(30, text="so"), Provenance.REPORTED),
        ({}, counted(5, text="why? so"), Provenance.REPORTED),
        ({"exclude_input_in_output": True}, counted(30, text="why? so"), Provenance.REPORTED),
        ({"parameters": {"exclude_input_in_output": True}}, counted(30, text="why? so"), Provenance.REPORTED),
    ],
)  # fmt: skip
def test_a_count_that_may_hold_the_repeated_prompt_is_an_estimate(
    body: dict[str, Any], raw: bytes, provenance: Provenance
) -> None:
    assert asked({"text_input": "why?"} | body, raw).usage().output.provenance is provenance


def test_a_prompt_that_is_no_unicode_fails_no_reply() -> None:
    call = parse(Asked(Operation.GENERATE, "/v2/models/tiny/generate", b'{"text_input":"\xff"}'))
    assert values(call.reply_meter(TRITON, counted(3)).usage()) == (7, 3)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"hello", b"{", b"\xff", b"5"])
def test_what_is_no_reply_counts_nothing_and_passes(data: bytes) -> None:
    assert values(metered(data).usage()) == (None, None)
    meter = TritonReplyMeter(data, HIDDEN)
    assert (values(meter.usage()), meter.stripped(data)) == ((None, None), data)


STREAM = b"".join(b"data: %b\n\n" % data for data in (counted(1, text="\u00e9"), counted(2, text="b")))
SHOWN = b"".join(b"data: %b\n\n" % data for data in (reply("\u00e9"), reply("b")))


@given(offsets=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_reads_cut_anywhere_give_the_same(offsets: list[int]) -> None:
    relay = StreamRelay(TritonStreamMeter(HIDDEN))
    out = b"".join([relay.feed(STREAM[a:b], 0) for a, b in pairwise([0, *sorted(offsets), len(STREAM)])])
    assert out + relay.finish(0) + relay.terminal == SHOWN
    assert values(relay.meter.usage()) == (7, 3)


@given(
    body=st.lists(
        st.binary(max_size=20) | st.sampled_from([b"data: ", b"\n\n", b"{}", b'{"text_output":[1]}']),
        max_size=9,
    )
)
def test_bytes_that_are_no_stream_reach_the_client_unchanged(body: list[bytes]) -> None:
    relay = StreamRelay(TritonStreamMeter(HIDDEN))
    assert b"".join([relay.feed(piece, 0) for piece in body]) + relay.finish(0) + relay.terminal == b"".join(
        body
    )


def test_recorded_replies_yield_their_counts(subtests: pytest.Subtests) -> None:
    cases = [msgspec.json.decode(path.read_bytes()) for path in sorted(CORPUS.glob("triton_*.json"))]
    assert bool(cases) is CORPUS.is_dir()
    for case in cases:
        with subtests.test(case["name"]):
            assert case["dialect"] == "triton.generate"
            usage = TritonReplyMeter(case["raw"].encode(), HIDDEN).usage()
            assert values(usage) == (case["expect"]["input"], case["expect"]["output"])
