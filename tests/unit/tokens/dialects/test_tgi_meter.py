"""TGI's counts stand in details that are taken out again, and in headers."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateway.relay import StreamRelay
from billing.tokens.dialects.tgi_meter import TgiReplyMeter, TgiStreamMeter
from billing.tokens.meter import Edit
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage

CORPUS = Path(__file__).parents[4] / "../shared/corpus"
DETAILS = {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 7}


def token(text: str, *, special: bool = False, **members: Any) -> bytes:
    made = {"id": 1, "text": text, "logprob": -0.5, "special": special}
    return msgspec.json.encode({"index": 1, "token": made, "generated_text": None, "details": None} | members)


def ended(details: object = DETAILS) -> bytes:
    return token("c", generated_text="abc", details=details)


def metered(*events: bytes, shows_details: bool = False) -> TgiStreamMeter:
    meter = TgiStreamMeter(shows_details=shows_details)
    for number, data in enumerate(events):
        meter.see(data, 1_000 * number)
    return meter


def values(usage: TokenUsage) -> tuple[int | None, int | None]:
    assert usage.cached_input == usage.reasoning == UNKNOWN
    return (usage.input.value, usage.output.value)


def test_each_event_is_a_token_until_the_last_one_says_how_many_there_were() -> None:
    meter = metered(token("a"), token("b"))
    assert meter.usage().output == Count(2, Provenance.RUNNING, "tokens in the stream's events")
    assert (meter.usage().input, meter.done) == (UNKNOWN, False)
    meter.see(ended(), 5_000)
    assert meter.usage().input == Count(7, Provenance.REPORTED, "details.input_length")
    assert meter.usage().output == Count(3, Provenance.REPORTED, "details.generated_tokens")
    assert (meter.done, meter.finished, meter.failed) == (True, True, False)
    assert meter.itl_us() == 2_500


def test_a_special_token_is_counted_and_is_no_text() -> None:
    meter = metered(token("</s>", special=True))
    assert (values(meter.usage()), meter.first_token_us) == ((None, 1), None)


def test_an_older_release_does_not_say_how_long_the_prompt_was() -> None:
    assert values(metered(token("a"), ended({"generated_tokens": 2})).usage()) == (None, 2)


def test_a_stream_that_ends_without_details_keeps_its_running_count() -> None:
    meter = metered(token("a"), ended(details=None))
    assert (values(meter.usage()), meter.done) == ((None, 2), True)


def test_an_error_in_a_stream_fails_it() -> None:
    meter = metered(token("a"), b'{"error":"Request failed during generation","error_type":"generation"}')
    assert (meter.failed, meter.done, values(meter.usage())) == (True, False, (None, 1))


def test_details_that_nobody_asked_for_become_what_they_were_without() -> None:
    meter = TgiStreamMeter(shows_details=False)
    assert meter.see(token("a"), 0) is Edit.KEEP
    assert meter.see(ended(), 0) is Edit.STRIP
    assert meter.strip(ended()) == ended(details=None)
    assert meter.strip(b"hello") == b"hello"


def test_details_that_were_asked_for_pass() -> None:
    assert TgiStreamMeter(shows_details=True).see(ended(), 0) is Edit.KEEP


ODD = {
    "wrong types": {"index": "x", "token": "c", "generated_text": 5},
    "an error that is none": {"error": None},
    "a text beyond": {"top_tokens": [[{"text": 1}]]},
}


@pytest.mark.parametrize("members", ODD.values(), ids=ODD)
def test_what_is_odd_beside_the_counts_costs_none(members: dict[str, Any]) -> None:
    meter = metered(token("a"), msgspec.json.encode(msgspec.json.decode(ended()) | members))
    assert (values(meter.usage()), meter.done) == ((7, 3), True)


@pytest.mark.parametrize("value", [True, "5", -1, 5.5, None, [], 10**30])
def test_a_broken_count_costs_not_the_other(value: Any) -> None:
    assert values(metered(ended({"generated_tokens": 3, "input_length": value})).usage()) == (None, 3)
    assert values(metered(ended({"generated_tokens": value, "input_length": 7})).usage()) == (7, 1)


def whole(**details: Any) -> bytes:
    members = {"finish_reason": "length", "generated_tokens": 10, "prefill": [], "tokens": []} | details
    return msgspec.json.encode({"generated_text": "abc", "details": members})


HEADERS = [(b"content-type", b"application/json"), (b"x-prompt-tokens", b"7"), (b"x-generated-tokens", b"10")]


def test_a_whole_reply_says_its_output_and_its_headers_the_input() -> None:
    meter = TgiReplyMeter(whole())
    assert values(meter.usage()) == (None, 10)
    meter.heard(HEADERS)
    assert meter.usage().input == Count(7, Provenance.REPORTED, "header x-prompt-tokens")
    assert values(meter.usage()) == (7, 10)
    assert (meter.response_id, meter.response_model, meter.reasoning_text()) == (None, None, None)


def test_without_details_the_header_says_the_output_too() -> None:
    meter = TgiReplyMeter(b'{"generated_text":"abc"}')
    meter.heard(HEADERS)
    assert values(meter.usage()) == (7, 10)


@pytest.mark.parametrize("value", [b"", b"-1", b"x", b"1.5", b"9" * 30, b"\xb2"])
def test_a_header_that_is_no_count_says_nothing(value: bytes) -> None:
    meter = TgiReplyMeter(whole())
    meter.heard([(b"x-prompt-tokens", value)])
    assert values(meter.usage()) == (None, 10)


def test_all_sequences_that_were_made_for_the_best_are_counted() -> None:
    others = [{"generated_tokens": 4}, {"generated_tokens": 6}]
    meter = TgiReplyMeter(whole(best_of_sequences=others), best_of=3)
    meter.heard(HEADERS)
    assert meter.usage().output == Count(20, Provenance.REPORTED, "details.generated_tokens, 3 added up")


@pytest.mark.parametrize("others", [None, [], [{"generated_tokens": 4}], [{"generated_tokens": 4}, {"generated_tokens": None}], [{}, 5]])  # fmt: skip
def test_where_one_of_them_is_not_reported_the_output_is_unknown(others: Any) -> None:
    meter = TgiReplyMeter(whole(best_of_sequences=others), best_of=3)
    meter.heard(HEADERS)
    assert values(meter.usage()) == (7, None)


def test_a_whole_reply_is_what_it_was_without_details() -> None:
    assert TgiReplyMeter(whole()).stripped(whole()) == b'{"generated_text":"abc"}'
    assert TgiReplyMeter(whole(), shows_details=True).stripped(whole()) == whole()
    untouched = b'{ "generated_text" : "abc" }'
    assert TgiReplyMeter(untouched).stripped(untouched) == untouched


def test_on_the_root_path_a_whole_reply_is_a_list_of_one() -> None:
    body = b"[" + whole() + b"]"
    meter = TgiReplyMeter(body)
    assert values(meter.usage()) == (None, 10)
    assert meter.stripped(body) == b'[{"generated_text":"abc"}]'


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[1", b"hello", b"{", b"\xff", b"[5]"])
def test_what_is_no_reply_counts_nothing_and_passes(body: bytes) -> None:
    meter = TgiReplyMeter(body)
    assert values(meter.usage()) == (None, None)
    assert meter.stripped(body) == body


STREAM = b"".join(b"data:%b\n\n" % data for data in (token("\u00e9"), token(""), token("b"), ended()))
SHOWN = b"".join(b"data:%b\n\n" % data for data in (token("\u00e9"), token(""), token("b")))


@given(offsets=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_reads_cut_anywhere_give_the_same_and_the_last_event_is_held_back(offsets: list[int]) -> None:
    relay = StreamRelay(TgiStreamMeter(shows_details=False))
    out = b"".join([relay.feed(STREAM[a:b], 0) for a, b in pairwise([0, *sorted(offsets), len(STREAM)])])
    assert out + relay.finish(0) == SHOWN
    assert relay.terminal == b"data: %b\n\n" % ended(details=None)
    assert values(relay.meter.usage()) == (7, 3)


@given(
    kept=st.integers(0, 3),
    noise=st.sampled_from([b": ping\n\n", b"data: null\n\n", b"data:\xff\n\n", b"data: {\n\n", b"\n\n"]),
)
def test_a_stream_that_breaks_off_keeps_the_tokens_it_brought(kept: int, noise: bytes) -> None:
    events = [b"data:%b\n\n" % token("a")] * kept
    relay = StreamRelay(TgiStreamMeter(shows_details=False))
    body = noise + noise.join(events)
    assert relay.feed(body, 0) + relay.finish(0) == body
    assert values(relay.meter.usage()) == (None, kept or None)


def test_recorded_replies_yield_their_counts(subtests: pytest.Subtests) -> None:
    cases = [msgspec.json.decode(path.read_bytes()) for path in sorted(CORPUS.glob("tgi_generate*.json"))]
    assert bool(cases) is CORPUS.is_dir()
    for case in cases:
        with subtests.test(case["name"]):
            assert case["dialect"] == "tgi.generate"
            usage = TgiReplyMeter(case["raw"].encode(), shows_details=True).usage()
            assert values(usage) == (case["expect"]["input"], case["expect"]["output"])


@pytest.mark.parametrize("body", [b"[null ,null]", b'[ {"generated_text" : "a"} ]', b"[]", b" [1, 2]"])
def test_a_list_of_which_nothing_is_taken_passes_as_it_was_written(body: bytes) -> None:
    assert TgiReplyMeter(body).stripped(body) == body
