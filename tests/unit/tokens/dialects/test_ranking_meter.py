"""What rerankers, scorers and classifiers report, in each of their shapes."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.ranking_meter import RankingReplyMeter
from billing.tokens.fixed import NOTHING_GENERATED
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage
from tests.native_kit import corpus, counts, expected, found

CASES = corpus("rerank", "classify")


def usage(body: Any, documents: int = 0) -> TokenUsage:
    return RankingReplyMeter(msgspec.json.encode(body), documents).usage()


SHAPES: dict[str, tuple[Any, int | None, str]] = {
    "llama.cpp": ({"results": [], "usage": {"prompt_tokens": 36, "total_tokens": 36}}, 36, "usage.prompt_tokens"),
    "old vLLM, Jina": ({"results": [], "usage": {"total_tokens": 56}}, 56, "usage.total_tokens"),
    "NIM": ({"rankings": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9, "usage.prompt_tokens"),
    "scores": ({"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}}, 9, "usage.prompt_tokens"),
    "Cohere with tokens": ({"meta": {"tokens": {"input_tokens": 40.0}, "billed_units": {"search_units": 1}}}, 40, "meta.tokens.input_tokens"),
    "Cohere with billed tokens": ({"meta": {"billed_units": {"input_tokens": 12}}}, 12, "meta.billed_units.input_tokens"),
    "a placeholder": ({"usage": {"prompt_tokens": 0, "total_tokens": 0}}, None, ""),
    "no usage": ({"results": [], "usage": None}, None, ""),
    "no object": (5, None, ""),
    "without counts": ([{"index": 0, "score": 0.5}, {"index": 1, "score": 0.1}], None, ""),
    "an empty list": ([], None, ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "tokens", "method"), SHAPES.values(), ids=SHAPES)
def test_each_shape_tells_its_input_and_nothing_is_generated(
    body: Any, tokens: int | None, method: str
) -> None:
    got = usage(body)
    assert got.input == (UNKNOWN if tokens is None else Count(tokens, Provenance.REPORTED, method))
    assert got.output.value == 0


def test_search_units_are_searches_and_a_fraction_counts_whole() -> None:
    for units, searches in ((1, 1), (2.0, 2), (1.5, 2), (0, 0)):
        part = usage({"meta": {"billed_units": {"search_units": units}}}).parts[Part.SEARCH]
        assert part == Count(searches, Provenance.REPORTED, "meta.billed_units.search_units")
    for units in ("1", True, -1, None, 1e300):
        assert usage({"meta": {"billed_units": {"search_units": units}}}).parts == {}
    assert RankingReplyMeter(b'{"meta":{"billed_units":{"search_units":1e999}}}').usage().parts == {}


def test_sglang_tells_the_tokens_of_each_document() -> None:
    listed = [
        {"score": 0.5, "index": n, "meta_info": {"id": "a", "prompt_tokens": 7 + n, "cached_tokens": 1}}
        for n in range(3)
    ]
    assert counts(usage(listed, 3)) == (24, 3, 0, None)
    assert counts(usage(listed)) == (24, 3, 0, None)
    assert usage(listed, 3).output is NOTHING_GENERATED


def test_documents_that_were_left_out_of_the_reply_were_read_all_the_same() -> None:
    listed = [{"score": 0.5, "index": 2, "meta_info": {"prompt_tokens": 7}}]
    assert usage(listed, 3).input == UNKNOWN


def test_who_answered_is_told() -> None:
    meter = RankingReplyMeter(b'{"id":"rerank-1","model":"weights","usage":{"total_tokens":5}}')
    assert (meter.response_id, meter.response_model) == ("rerank-1", "weights")
    assert (RankingReplyMeter(b"[]").response_id, RankingReplyMeter(b"{").response_model) == (None, None)


def test_cached_tokens_are_within_the_input() -> None:
    details = {"prompt_tokens": 5, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}
    assert counts(usage({"usage": details}))[:2] == (5, 5)


BROKEN: dict[str, Any] = {
    "a text for a count": {"usage": {"prompt_tokens": "5", "total_tokens": 56}},
    "true for a count": {"usage": {"prompt_tokens": True, "total_tokens": 56}},
    "a negative count": {"usage": {"prompt_tokens": -5, "total_tokens": 56}},
    "an absurd count": {"usage": {"prompt_tokens": 2**60, "total_tokens": 56}},
    "details of another kind": {"usage": {"total_tokens": 56, "prompt_tokens_details": [5]}},
    "a number for the id": {"id": 5, "model": ["x"], "usage": {"total_tokens": 56}},
    "another kind of meta": {"meta": "x", "usage": {"total_tokens": 56}},
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_member_costs_no_other_count(body: Any) -> None:
    assert usage(body).input.value == 56


@pytest.mark.parametrize(
    "body", [b"", b"null", b"\xff", b"{", b"[", b"[" * 100_000, b'{"usage":' + b"[" * 100_000]
)
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    assert counts(RankingReplyMeter(body, 3).usage()) == (None, None, 0, None)


def test_the_corpus_yields_its_counts(subtests: pytest.Subtests) -> None:
    for case in CASES:
        documents = len((case["request"] or {}).get("documents", []))
        with subtests.test(case["name"]):
            assert found(case, RankingReplyMeter(case["raw"].encode(), documents).usage()) == expected(case)
