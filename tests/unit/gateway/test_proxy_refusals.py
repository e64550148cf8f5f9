"""What is refused, by us or by the engine: told precisely, counted, and never billed."""

from typing import Any

import pytest

from billing.errors import Forbidden, Unauthenticated, Unavailable
from billing.tokens.usage import Outcome
from tests.gateway.fakes import KEY, FakeReply, World, json_reply, snapshot
from tests.gateway.recordings import recording
from tests.unit.gateway.test_proxy import STREAM, body, values

REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str | None]] = {
    "no key": ({}, {"authorization": None}, 401, "invalid_api_key"),
    "another key": ({}, {"authorization": b"Bearer sk-other"}, 401, "invalid_api_key"),
    "a revoked key": ({"callers": {KEY: Unauthenticated("revoked")}}, {}, 401, "invalid_api_key"),
    "a suspended tenant": ({"callers": {KEY: Forbidden("acme is suspended")}}, {}, 403, "forbidden"),
    "a stale directory": ({"callers": {KEY: Unavailable("try again")}}, {}, 503, "unavailable"),
    "a path that is not served": ({}, {"path": "/slots"}, 404, "unknown_url"),
    "an unknown model": ({}, {"body": body(model="other")}, 404, "model_not_found"),
    "no JSON": ({}, {"body": b"hello"}, 400, None),
    "text that is no UTF-8": ({}, {"body": b'{"model":"\xff","messages":[]}'}, 400, None),
    "a compressed body": ({}, {"headers": {b"content-encoding": b"gzip"}}, 400, None),
    "a model that nothing serves": ({"directory": snapshot(served=False)}, {}, 503, "unavailable"),
    "a full log": ({"full": ("open",)}, {}, 503, "spool_full"),
    "several choices": ({"engine": "ollama"}, {"body": body(n=2)}, 400, None),
    "several choices by another name": ({"engine": "ollama"}, {"body": body(n_cmpl=2)}, 400, None),
    "a backend that is nowhere": ({"directory": snapshot(url="nowhere")}, {}, 500, "misconfigured"),
    "a backend without a port": (
        {"directory": snapshot(url="http://engine:99999")},
        {},
        500,
        "misconfigured",
    ),
}


@pytest.mark.parametrize(("made", "asked", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_request_leaves_no_record_and_reaches_no_engine(
    made: dict[str, Any], asked: dict[str, Any], status: int, code: str | None
) -> None:
    world = World(**made)
    await world.serve(**({"body": body()} | asked))
    assert world.journal.names == ["head", "end"]
    assert (world.client.status, world.error["code"]) == (status, code)
    assert world.client.headers[b"content-type"] == b"application/json"
    assert world.client.headers[b"content-length"] == str(len(world.client.body)).encode()
    assert sum(world.proxy.counts.values()) == 1


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("DELETE", "/v1/models")])
async def test_the_wrong_method_is_a_405(method: str, path: str) -> None:
    world = World()
    await world.serve(method=method, path=path)
    assert (world.client.status, world.error["type"]) == (405, "invalid_request_error")
    assert world.journal.names == ["head", "end"]


async def test_several_choices_are_refused_where_they_are_not_counted_and_the_sentence_says_what_to_do() -> (
    None
):
    world = World(engine="ollama")
    await world.serve(body(n=3))
    assert world.error["param"] == "n"
    assert world.error["message"] == (
        "n must be 1 for tiny: its engine (Ollama) does not count several in one reply; send one request for each"
    )


REFUSED_BY_ENGINE = [
    ("llamacpp", "error_badjson"), ("vllm", "error_context_overflow"), ("vllm", "chat_nonstream_tools"),
]  # fmt: skip
OPERATORS_BUSINESS = [("llamacpp", "error_no_auth"), ("vllm", "error_wrong_model")]


@pytest.mark.parametrize(("engine", "name"), REFUSED_BY_ENGINE)
@pytest.mark.parametrize("sent", [STREAM, body()], ids=["stream", "whole"])
async def test_an_engines_refusal_passes_unchanged_and_counts_nothing(
    engine: str, name: str, sent: bytes
) -> None:
    recorded = recording(engine, name)
    world = World(
        json_reply(recorded.body, status=recorded.status),
        engine={"llamacpp": "llama.cpp"}.get(engine, engine),
    )
    await world.serve(sent)
    assert (world.client.status, world.client.body) == (recorded.status, recorded.body)
    assert (world.record.outcome, world.record.status) == (Outcome.UPSTREAM_ERROR, recorded.status)
    assert world.record.error == "upstream_refused"
    assert values(world.record.usage) == (0, None, 0, None)


@pytest.mark.parametrize(("engine", "name"), OPERATORS_BUSINESS)
@pytest.mark.parametrize("sent", [STREAM, body()], ids=["stream", "whole"])
async def test_an_engines_401_or_404_is_told_as_our_own_fault_and_counts_nothing(
    engine: str, name: str, sent: bytes
) -> None:
    recorded = recording(engine, name)
    world = World(
        json_reply(recorded.body, status=recorded.status),
        engine={"llamacpp": "llama.cpp"}.get(engine, engine),
    )
    await world.serve(sent)
    assert (world.client.status, world.error["code"]) == (502, "upstream_refused")
    assert recorded.body not in world.client.body
    assert (world.record.outcome, world.record.status) == (Outcome.UPSTREAM_ERROR, 502)
    assert (world.record.error, values(world.record.usage)) == ("upstream_refused", (0, None, 0, None))
    assert str(recorded.status) in world.record.usage.input.method


@pytest.mark.parametrize(("status", "told", "code"), [(500, 502, "upstream_refused"), (503, 503, "upstream_overloaded"),
                                                      (302, 502, "upstream_refused"), (403, 502, "upstream_refused")])  # fmt: skip
async def test_an_engines_own_trouble_is_told_without_its_words(status: int, told: int, code: str) -> None:
    world = World(json_reply(b'{"error":"Bearer engine-secret at 10.0.0.5"}', status=status))
    await world.serve(STREAM)
    assert (world.client.status, world.error["code"], world.record.error) == (told, code, code)
    assert b"secret" not in world.client.body


async def test_a_page_of_html_in_place_of_an_answer_is_not_one() -> None:
    for sent in (STREAM, body()):
        world = World(FakeReply(b"<html>", headers=[(b"content-type", b"text/html")]))
        await world.serve(sent)
        assert (world.client.status, world.error["code"]) == (502, "upstream_broken")
        assert (world.record.outcome, values(world.record.usage)) == (Outcome.TRUNCATED, (None,) * 4)


async def test_a_compressed_answer_is_refused_because_it_cannot_be_counted() -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")]
    world = World(FakeReply(b"\x1f\x8b", headers=headers))
    await world.serve(STREAM)
    assert (world.client.status, world.error["code"]) == (502, "upstream_broken")
    assert (world.record.outcome, values(world.record.usage)) == (Outcome.UPSTREAM_ERROR, (None,) * 4)


@pytest.mark.parametrize("status", [400, 413, 422, 429])
async def test_a_refusal_that_is_a_stream_or_no_json_passes_unchanged_too(status: int) -> None:
    for reply in (
        FakeReply(b'data: {"error":{"message":"no"}}\n\n', status=status),
        json_reply(b"<html>\xff", status=status),
    ):
        world = World(reply)
        await world.serve(STREAM)
        assert world.client.status == status
        assert world.client.body in {b'data: {"error":{"message":"no"}}\n\n', b"<html>\xff"}
        assert world.record.outcome is Outcome.UPSTREAM_ERROR
        assert values(world.record.usage) == (0, None, 0, None)
