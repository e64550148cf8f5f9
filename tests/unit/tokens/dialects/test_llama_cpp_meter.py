"""llama.cpp's native replies are counted, streamed and whole, one answer and several, and reduced to what was asked for."""

from typing import Any

import msgspec
import pytest

from billing.tokens.call import Asked
from billing.tokens.dialects.llama_cpp_fields import COUNT_FIELDS, View
from billing.tokens.dialects.llama_cpp_meter import (
    NativeReplyMeter,
    NativeStreamMeter,
    embedding_reply_meter,
)
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.meter import Edit
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage
from tests.gateway.recordings import recording
from tests.native_kit import corpus, counts, expected, found, metered, relayed, sse

PATHS_OF = {"llamacpp.completion": "/completion", "llamacpp.infill": "/infill"}
CASES = corpus(*PATHS_OF)


def partial(
    predicted: int, index: int = 0, content: str = "x", evaluated: int = 4, **members: Any
) -> dict[str, Any]:
    return {
        "index": index, "content": content, "tokens": [7], "stop": False, "id_slot": -1,
        "tokens_predicted": predicted, "tokens_evaluated": evaluated, **members,
    }  # fmt: skip


def final(
    predicted: int, index: int = 0, evaluated: int = 4, cached: int = 3, **members: Any
) -> dict[str, Any]:
    return {
        "index": index, "content": "", "tokens": [], "stop": True, "model": "weights", "tokens_predicted": predicted,
        "tokens_evaluated": evaluated, "tokens_cached": 99, "timings": timed(predicted, evaluated - cached, cached),
        **members,
    }  # fmt: skip


def timed(predicted: int, prompt: int = 1, cached: int = 3) -> dict[str, Any]:
    return {"cache_n": cached, "prompt_n": prompt, "prompt_ms": 0.5, "predicted_n": predicted}


def stream(
    *events: object, choices: int = 1, prompts: int = 1, view: View | None = None
) -> NativeStreamMeter:
    meter = NativeStreamMeter(choices, prompts, view or View())
    for number, event in enumerate(events):
        meter.see(msgspec.json.encode(event), 1_000 + 100 * number)
    return meter


def reply(body: object, choices: int = 1, prompts: int = 1, view: View | None = None) -> NativeReplyMeter:
    return NativeReplyMeter(msgspec.json.encode(body), choices, prompts, view or View())


def test_nothing_seen_is_nothing_known() -> None:
    meter = stream()
    assert meter.usage() == TokenUsage()
    assert (meter.done, meter.finished, meter.failed, meter.response_model) == (False, False, False, None)


def test_the_final_event_ends_the_stream_and_its_counts_are_reported() -> None:
    meter = stream(partial(1), partial(2), final(2))
    assert (meter.done, meter.finished, meter.response_model) == (True, True, "weights")
    assert meter.usage() == TokenUsage(
        input=Count(4, Provenance.REPORTED, "tokens_evaluated"), cached_input=Count(3, Provenance.REPORTED, "timings.cache_n"),
        output=Count(2, Provenance.REPORTED, "tokens_predicted"),
    )  # fmt: skip


def test_a_broken_off_stream_is_known_to_its_last_event() -> None:
    meter = stream(partial(1, timings=timed(1)), partial(2, timings=timed(2)))
    assert counts(meter.usage()) == (4, 3, 2, None)
    assert meter.usage().output.provenance is Provenance.RUNNING
    assert not meter.done


def test_the_size_of_the_slot_is_no_cache() -> None:
    assert stream(final(2, timings=None, tokens_cached=9)).usage().cached_input == UNKNOWN


def test_what_an_old_build_does_not_say_its_timings_do() -> None:
    meter = stream({"content": "x", "stop": True, "timings": timed(5, 2, 3)})
    assert counts(meter.usage()) == (5, 3, 5, None)


def test_more_from_the_cache_than_was_read_is_cut() -> None:
    assert stream(final(2, evaluated=4, timings=timed(2, 0, 50))).usage().cached_input.value == 4


def test_a_stream_of_several_answers_is_done_when_all_are() -> None:
    events = [partial(1, 0), partial(1, 1, evaluated=6), final(2, 1, 6, 1), partial(2, 0), final(3, 0)]
    meter = stream(None, *events[:-1], prompts=2)
    assert (meter.done, counts(meter.usage())[:3]) == (False, (10, None, 4))
    meter = stream(None, *events, prompts=2)
    assert (meter.done, counts(meter.usage())[:3]) == (True, (10, 4, 5))


def test_choices_read_their_prompt_once() -> None:
    meter = stream(partial(1, 1), partial(1, 0), final(3, 0), final(3, 1), choices=2)
    assert (meter.done, counts(meter.usage())[:3]) == (True, (4, 3, 6))


def test_a_final_event_that_comes_twice_ends_no_other_answer() -> None:
    assert not stream(final(3, 0), final(3, 0), choices=2).done


def test_progress_of_the_prompt_tells_the_input_and_is_no_text() -> None:
    meter = stream(partial(0, content="", evaluated=250, prompt_progress={"total": 250, "processed": 100}))
    assert (counts(meter.usage())[0::2], meter.first_token_us) == ((250, 0), None)


def test_latencies_are_of_text_only() -> None:
    meter = stream(partial(1), partial(2, content=""), partial(3), final(3))
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us, meter.gap_max_us) == (
        1_000,
        1_000,
        1_200,
        200,
    )
    assert meter.itl_us() == 100


def test_an_error_in_the_stream_fails_it_and_keeps_the_counts() -> None:
    meter = stream(partial(1), {"error": {"code": 500, "message": "x", "type": "server_error"}})
    assert (meter.failed, meter.done, counts(meter.usage())[2]) == (True, False, 1)


BROKEN: dict[str, dict[str, Any]] = {
    "true for a count": {"tokens_predicted": True}, "a text for a count": {"tokens_predicted": "9"},
    "a negative count": {"tokens_predicted": -1}, "an absurd count": {"tokens_predicted": 2**60},
    "no count": {"tokens_predicted": None}, "a smaller count": {"tokens_predicted": 1}, "no index": {"index": "a"},
    "a list for a text": {"content": ["x"]}, "a word for the end": {"stop": "yes"}, "timings of another kind": {"timings": 5},
    "an odd name": {"model": 5}, "a cache of a half": {"timings": {"cache_n": 1.5}}, "a negative index": {"index": -1},
}  # fmt: skip


@pytest.mark.parametrize("member", BROKEN.values(), ids=BROKEN)
def test_a_broken_member_costs_no_other_count(member: dict[str, Any]) -> None:
    meter = stream(partial(5, timings=timed(5)), partial(5, timings=timed(5)) | member)
    assert counts(meter.usage())[:3] == (4, 3, 5)


@pytest.mark.parametrize("data", [b"null", b"5", b"[]", b"{", b"\xff\xfe", b"", b"[" * 100_000])
def test_what_is_no_event_passes(data: bytes) -> None:
    meter = stream(partial(5))
    assert (meter.see(data, 0), meter.strip(data)) == (Edit.KEEP, data)
    assert counts(meter.usage())[0::2] == (4, 5)


def test_a_final_event_nested_too_deep_is_counted_and_passes() -> None:
    data = msgspec.json.encode(final(5))[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    meter = stream(view=View(("content",)))
    assert (meter.see(data, 0), meter.done) == (Edit.STRIP, True)
    stripped = meter.strip(data)
    assert stripped.endswith(b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert b'"timings"' not in stripped
    assert counts(meter.usage())[:3] == (4, 3, 5)


def test_a_client_sees_no_timings_that_it_did_not_ask_for() -> None:
    settings = {"stream": True, "timings_per_token": True}
    body = sse(partial(1, timings=timed(1)), final(1, generation_settings=settings))
    assert relayed(NativeStreamMeter(1, 1, View(timed=True)), body) == (
        sse(partial(1, timings=timed(1))), sse(final(1, generation_settings=settings)),
    )  # fmt: skip
    assert relayed(NativeStreamMeter(1, 1, View()), body) == (
        sse(partial(1)), sse(final(1, generation_settings=settings | {"timings_per_token": False})),
    )  # fmt: skip


def test_a_client_sees_the_fields_of_the_final_event_that_it_asked_for() -> None:
    reduced = {
        "content": "",
        "index": 0,
        "stop": True,
        "tokens_predicted": 2,
        "tokens_evaluated": 4,
        "timings/cache_n": 3,
    }
    meter = NativeStreamMeter(1, 1, View(("content",)))
    assert relayed(meter, sse(partial(1), partial(2), reduced)) == (
        sse(partial(1), partial(2)),
        sse({"content": ""}),
    )
    assert counts(meter.usage()) == (4, 3, 2, None)


def test_a_whole_reply_is_counted() -> None:
    meter = reply(final(5, content="abc"))
    assert counts(meter.usage()) == (4, 3, 5, None)
    assert (meter.usage().output.provenance, meter.response_model, meter.response_id) == (
        "reported",
        "weights",
        None,
    )
    assert meter.stripped(b"x") == b"x"


def test_an_array_of_replies_adds_up() -> None:
    assert counts(reply([final(5, 0), final(6, 1)], choices=2).usage())[:3] == (4, 3, 11)
    assert counts(reply([final(5, 0), final(6, 1, 2, 1)], prompts=2).usage())[:3] == (6, None, 11)
    four = [final(5, 0), final(6, 1), final(7, 2, 2), final(8, 3, 2)]
    assert counts(reply(four, choices=2, prompts=2).usage())[:3] == (6, None, 26)


def test_an_engine_that_made_fewer_answers_is_not_believed_about_its_input() -> None:
    assert counts(reply([final(5, 0), final(6, 1)], choices=2, prompts=2).usage())[0] is None
    assert counts(reply(final(5), choices=2).usage())[:3] == (4, 3, 5)


def test_a_reply_without_counts_says_nothing() -> None:
    assert reply({"content": "x"}).usage() == TokenUsage()
    assert reply([]).usage() == TokenUsage()
    assert reply([5, None]).usage() == TokenUsage()
    for body in (b"", b"null", b"\xff", b"[" * 100_000):
        assert NativeReplyMeter(body, 1, 1, View(("content",))).usage() == TokenUsage()


def test_each_reply_of_an_array_is_reduced_to_what_was_asked_for() -> None:
    view = View(("timings/predicted_n", "content"))
    own = {"timings/predicted_n": 5, "content": "x"}
    added = {"index": 0, "stop": True, "tokens_predicted": 5, "tokens_evaluated": 4, "timings/cache_n": 3}
    for shape in (own | added, [own | added, own | added]):
        body = msgspec.json.encode(shape)
        meter = NativeReplyMeter(body, 1, 2 if isinstance(shape, list) else 1, view)
        assert msgspec.json.decode(meter.stripped(body)) == ([own, own] if isinstance(shape, list) else own)
        assert counts(meter.usage())[0::2] in {(4, 5), (8, 10)}


@pytest.mark.parametrize("body", [b"", b"null", b"[5]", b"{", b"[" * 100_000, b'{"x":' + b"[" * 100_000])
def test_a_reply_that_cannot_be_read_is_not_reduced(body: bytes) -> None:
    assert NativeReplyMeter(body, 1, 1, View(("content",))).stripped(body) == body


def test_an_embedding_generates_nothing_and_does_not_say_its_input() -> None:
    assert counts(embedding_reply_meter().usage()) == (None, None, 0, None)


def test_our_recording_is_counted_and_passes() -> None:
    recorded = recording("llamacpp", "native_completion_stream")
    meter = NativeStreamMeter(1, 1, View())
    out, terminal = relayed(meter, recorded.body)
    assert out + terminal == recorded.body
    assert b'"stop":true' in terminal
    assert counts(meter.usage()) == (4, 3, 6, None)


def test_the_corpus_yields_its_counts(subtests: pytest.Subtests) -> None:
    for case in CASES:
        body = msgspec.json.encode(case["request"] | {"stream": case["stream"]})
        path = PATHS_OF[case["dialect"]]
        call = PATHS[path].parse(Asked(PATHS[path].operation, path, body))
        usage = metered(case, call.stream_meter(LLAMA_CPP), call.reply_meter(LLAMA_CPP, case["raw"].encode()))
        with subtests.test(case["name"]):
            if case["usage_reported"]:
                assert found(case, usage) == expected(case)
            else:
                # Recorded without the fields that are now asked for.
                assert usage == TokenUsage()
                asked = msgspec.json.decode(call.upstream_body(LLAMA_CPP, "", stream=case["stream"]))
                assert set(COUNT_FIELDS) <= set(asked["response_fields"])


def test_the_corpus_of_embeddings_yields_its_output(subtests: pytest.Subtests) -> None:
    for case in corpus("llamacpp.embedding"):
        with subtests.test(case["name"]):
            # Its input can only be counted by a tokenizer: the reply does not say it.
            assert not case["usage_reported"]
            assert found(case, embedding_reply_meter().usage()) == expected(case) | {"input": None}
