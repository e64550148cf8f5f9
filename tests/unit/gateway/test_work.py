"""What is decided about a request is decided without waiting, and its open entry says who and what."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput, NotFound
from billing.gateway.ports import Request
from billing.gateway.work import decide
from billing.limits.expectation import Expectation
from billing.limits.limit import Limit
from tests.call_kit import CHAT
from tests.gateway.fakes import BACKEND_ID, CALLER, KEY, NOW_US, USAGE_ID, FakeDirectory, limit, snapshot


def request(**members: object) -> Request:
    body = msgspec.json.encode({"model": "small", "messages": [], **members})
    return Request(USAGE_ID, NOW_US, "POST", "/v1/chat/completions", {}, body)


def directory(*limits: Limit) -> FakeDirectory:
    return FakeDirectory({KEY: CALLER}, snapshot(), limits)


def test_an_alias_is_the_model_and_its_limits_are_found() -> None:
    work = decide(directory(limit()), request(max_tokens=7), CALLER, CHAT)
    assert (work.model, work.limits, work.target.backend.id) == ("tiny", (limit(),), BACKEND_ID)
    assert work.need(Expectation(1000, 4)).total == len(work.request.body) // 4 + 7
    assert work.permit is None


@pytest.mark.parametrize(
    ("members", "most", "answers"),
    [({}, None, 1), ({"max_tokens": 7}, 7, 1), ({"max_tokens": 7, "n": 3, "user": "alice"}, 21, 3)],
)
def test_what_a_request_needs_at_worst(members: dict[str, Any], most: int | None, answers: int) -> None:
    work = decide(directory(limit()), request(**members), CALLER, CHAT)
    need = work.need(Expectation(5, 4))
    assert (need.input_most, need.output_most, need.answers) == (len(work.request.body), most, answers)
    assert (need.output, need.end_user, need.output_member) == (
        5 * answers,
        members.get("user", ""),
        "max_tokens",
    )


def test_the_open_entry() -> None:
    opened = decide(directory(), request(stream=True, user="u"), CALLER, CHAT).opened()
    assert (opened.id, opened.tenant_id, opened.key_id) == (USAGE_ID, CALLER.tenant_id, CALLER.key_id)
    assert (opened.model, opened.engine, opened.operation, opened.stream) == (
        "tiny",
        "llama.cpp",
        "chat",
        True,
    )
    assert (opened.end_user, opened.tags) == ("u", CALLER.tags)


@pytest.mark.parametrize(
    ("members", "fault"), [({"model": "other"}, NotFound), ({"best_of": 2}, InvalidInput)]
)
def test_what_cannot_be_served_is_refused(members: dict[str, object], fault: type[Exception]) -> None:
    with pytest.raises(fault):
        decide(directory(), request(**members), CALLER, CHAT)


@pytest.mark.parametrize("engine", ["ollama", "generic"])
def test_an_engine_that_folds_names_is_sent_one_spelling_only(engine: str) -> None:
    folding = FakeDirectory({KEY: CALLER}, snapshot(engine), ())
    with pytest.raises(InvalidInput, match="write stream in lower case"):
        decide(folding, request(Stream=True), CALLER, CHAT)
    assert decide(directory(), request(Stream=True), CALLER, CHAT).call.stream is False


def long(**lengths: int) -> FakeDirectory:
    return FakeDirectory({KEY: CALLER}, snapshot(**lengths))


def test_a_cap_is_asked_for_in_place_of_more_and_known() -> None:
    capped = decide(long(output_cap=50), request(max_tokens=700), CALLER, CHAT)
    assert (capped.cap, capped.call.output_max) == (50, 50)
    assert msgspec.json.decode(capped.body)["max_tokens"] == 50
    assert decide(long(output_cap=50), request(max_tokens=7), CALLER, CHAT).cap is None


def test_a_context_bounds_what_may_be_used() -> None:
    need = decide(long(context_tokens=40), request(n=2), CALLER, CHAT).need(Expectation(5_000, 4))
    assert (need.input, need.output, need.output_most) == (len(request(n=2).body) // 4, 80, 80)
    short = decide(long(context_tokens=40), request(max_tokens=7), CALLER, CHAT).need(Expectation(5_000, 4))
    assert (short.output, short.output_most, short.input_most) == (7, 7, 40)
