"""A request to rank, score or classify becomes a call; none of them streams."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.ranking import RankingCall
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP, NIM, SGLANG, VLLM
from billing.tokens.operation import Dialect, Operation

RERANK = {"query": "q", "documents": ["a", "b", "c"]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/rerank": RERANK, "/rerank": RERANK, "/v2/rerank": RERANK,
    "/v1/ranking": {"query": {"text": "q"}, "passages": [{"text": "a"}]},
    "/v1/score": {"text_1": "a", "text_2": ["b"]}, "/score": {"query": "q", "items": ["a"], "label_token_ids": [1]},
    "/classify": {"input": "a"},
}  # fmt: skip


def call(path: str = "/v1/rerank", **members: Any) -> RankingCall:
    body = BODIES[path] | {"model": "ranker"} | members
    raw = msgspec.json.encode({name: value for name, value in body.items() if value is not ...})
    asked = PATHS[path].parse(Asked(PATHS[path].operation, path, raw))
    assert isinstance(asked, RankingCall)
    return asked


@pytest.mark.parametrize("path", BODIES)
def test_each_path_is_served_by_the_engines_that_have_it(path: str) -> None:
    asked = call(path)
    route = PATHS[path]
    assert (asked.operation, asked.dialect, asked.path) == (route.operation, route.dialect, path)
    assert (asked.dialect, asked.operation) in VLLM.serves
    assert (asked.stream, asked.output_bound(1000), asked.model) == (False, 0, "ranker")


def test_rerankers_are_served_by_four_kinds_of_engine() -> None:
    assert all(
        (Dialect.COHERE, Operation.RERANK) in engine.serves for engine in (LLAMA_CPP, VLLM, SGLANG, NIM)
    )


def test_a_body_goes_out_as_it_came_but_for_the_name_of_the_model() -> None:
    raw = b'{ "query":"q", "documents":["a"], "model":"ranker", "top_n":1 }'
    asked = PATHS["/v1/rerank"].parse(Asked(Operation.RERANK, "/v1/rerank", raw))
    assert asked.upstream_body(VLLM, "ranker", stream=False) is raw
    assert asked.upstream_body(VLLM, "weights", stream=False) == (
        b'{"query":"q","documents":["a"],"model":"weights","top_n":1}'
    )


def test_a_model_may_be_left_out() -> None:
    assert call(model=...).model == ""
    assert (
        msgspec.json.decode(call(model=...).upstream_body(VLLM, "weights", stream=False))["model"]
        == "weights"
    )


@pytest.mark.parametrize(
    ("members", "documents"),
    [
        ({}, 3),
        ({"documents": ..., "texts": ["a", "b"]}, 2),
        ({"texts": ["a"]}, 3),
        ({"documents": {"content": []}}, 0),
    ],
)
def test_documents_are_counted_where_they_are_a_list(members: dict[str, Any], documents: int) -> None:
    assert call(**members).documents == documents


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no query": ("/v1/rerank", {"query": ...}, "query"),
    "no documents": ("/v1/rerank", {"documents": ...}, "documents"),
    "no passages": ("/v1/ranking", {"passages": ...}, "documents"),
    "nothing to classify": ("/classify", {"input": ...}, "input"),
    "a stream": ("/v1/score", {"stream": True}, "stream"),
    "a model that is a number": ("/v1/rerank", {"model": 5}, "model"),
    "a user that is a number": ("/v1/rerank", {"user": 5}, "user"),
}


@pytest.mark.parametrize(("path", "members", "param"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_member_is_refused_by_its_name(path: str, members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call(path, **members)
    assert refusal.value.param == param
    assert param in str(refusal.value)


def test_its_reply_is_counted_and_a_stream_of_it_is_not() -> None:
    asked = call(user="u-1")
    assert asked.end_user == "u-1"
    assert asked.reply_meter(VLLM, b'{"usage":{"total_tokens":56}}').usage().input.value == 56
    assert asked.stream_meter(VLLM).usage().input.value is None
    partly = b'[{"score":0.5,"index":1,"meta_info":{"prompt_tokens":7}}]'
    assert asked.reply_meter(SGLANG, partly).usage().input.value is None
