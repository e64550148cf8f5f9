"""Recorded and published replies of other people's engines yield the counts that were found for them by hand.

Where the corpus is absent, these tests have nothing to go through, and one test says so. A dialect that nobody reads
fails here.
"""

import msgspec
import pytest

from billing.tokens.usage import Part
from tests.corpus_kit import CORPUS, Case, cases, relayed, usage_of
from tests.gateway.fakes import World, json_reply

CASES = cases()
# Their numbers are in no payload: the gateway asks for the counts that the client left out, and tokenizes nothing.
ASKED_UPSTREAM = "llamacpp_local_native_response_fields"
NOT_IN_THE_PAYLOAD = {ASKED_UPSTREAM, "llamacpp_local_embedding_native_no_count"}
UNDERCOUNTED = [
    case
    for case in CASES
    if case.call is not None
    and case.dialect.startswith("openai.")
    and case.call.choices * case.call.prompts > 1
    and not case.is_stream
    and not case.engine.several_counted_whole
]
COUNTED = [
    case
    for case in CASES
    if case not in UNDERCOUNTED and case.status == 200 and case.name not in NOT_IN_THE_PAYLOAD
]
COUNTS = ("input", "cached_input", "cache_write", "output")
PARTS = {
    "audio_input": Part.AUDIO_INPUT,
    "audio_output": Part.AUDIO_OUTPUT,
    "image_input": Part.IMAGE_INPUT,
    "cache_write_1h": Part.CACHE_WRITE_1H,
    "hidden": Part.HIDDEN,
    "images": Part.IMAGE,
    "audio_seconds": Part.SECOND,
    "search_units": Part.SEARCH,
    "web_search_requests": Part.SEARCH,
    "web_fetch_requests": Part.SEARCH,
    "web_search_calls": Part.SEARCH,
}


def test_the_corpus_is_whole_or_absent() -> None:
    assert len(CASES) >= (150 if CORPUS.is_dir() else 0)
    assert bool(COUNTED) == bool(UNDERCOUNTED) == CORPUS.is_dir()


def test_counts(subtests: pytest.Subtests) -> None:
    for case in COUNTED:
        with subtests.test(case.name):
            usage = usage_of(case)
            for name in COUNTS:
                if name in case.expect:
                    assert getattr(usage, name).value == case.expect[name], name
            if case.expect["reasoning"] is not None:
                assert usage.reasoning.value == case.expect["reasoning"]
            for name in PARTS.keys() & case.expect.keys():
                counted = usage.parts.get(PARTS[name])
                assert (counted.value if counted else 0) == case.expect[name], name


def test_what_the_engine_would_undercount_is_asked_for_as_a_stream(subtests: pytest.Subtests) -> None:
    for case in UNDERCOUNTED:
        with subtests.test(case.name):
            assert case.call is not None
            case.call.check(case.engine)
            assert case.call.assembler(case.engine) is not None


def test_counts_that_the_client_left_out_are_asked_for(subtests: pytest.Subtests) -> None:
    for case in [case for case in CASES if case.name == ASKED_UPSTREAM]:
        with subtests.test(case.name):
            assert case.call is not None
            sent = msgspec.json.decode(case.call.upstream_body(case.engine, "tiny", stream=False))
            assert {"content", "tokens_evaluated", "tokens_predicted"} <= set(sent["response_fields"])


async def test_a_refusal_of_the_engine_counts_nothing_and_passes(subtests: pytest.Subtests) -> None:
    for case in [case for case in CASES if case.status not in {200, 404}]:
        with subtests.test(case.name):
            assert case.call is not None
            world = World(json_reply(case.raw, status=case.status), engine=case.engine.name)
            await world.serve(case.call.body, case.call.path)
            assert (world.client.status, world.client.body) == (case.status, case.raw)
            assert world.record.usage.input.value == case.expect["input"] == 0
            assert world.record.usage.output.value == case.expect["output"] == 0


def offsets(case: Case) -> range:
    """Where a stream is cut: everywhere in a short one, at some hundreds of places in a long one."""
    return range(0, len(case.raw), 1 + len(case.raw) // 4_000)


def test_two_reads_cut_anywhere_give_the_same(subtests: pytest.Subtests) -> None:
    for case in [case for case in COUNTED if case.is_stream and case.call is not None]:
        with subtests.test(case.name):
            whole = relayed(case, case.raw)
            for offset in offsets(case):
                assert relayed(case, case.raw[:offset], case.raw[offset:]) == whole, offset
