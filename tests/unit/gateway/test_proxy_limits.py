"""Limits stand between a decision and its first effect: what is refused leaves no record, what is admitted is settled once."""

import msgspec
import pytest

from billing.errors import BillingError, LimitReached, LimitsUnavailable, Unavailable
from billing.limits.limit import Meter
from tests.gateway.fakes import FakeReply, World, json_reply, limit, snapshot
from tests.unit.gateway.test_proxy import DONE, FINISH, STREAM, USED, WHOLE, body, said

LIMITS = (limit(), limit(Meter.TOKENS, 1_000))
TOLD = [(b"x-ratelimit-remaining-requests", b"49")]
REACHED = LimitReached(
    "Rate limit reached: 50 requests a minute", meter="requests", retry_after_us=1_200_000, headers=TOLD
)


async def test_a_caller_without_limits_asks_nobody() -> None:
    world = World(json_reply(WHOLE))
    await world.serve(body())
    assert "admit" not in world.journal.names
    assert "settle" not in world.journal.names


async def test_limits_are_asked_before_anything_is_written_and_settled_with_what_was_used() -> None:
    world = World(json_reply(WHOLE), limits=LIMITS, admission=TOLD)
    await world.serve(body())
    names = world.journal.names
    assert names.index("admit") < names.index("open") < names.index("send") < names.index("settle")
    assert world.journal.values("settle") == [4 + 3]
    assert world.client.headers[b"x-ratelimit-remaining-requests"] == b"49"


async def test_a_stream_tells_its_limits_in_its_head_and_is_settled_at_its_end() -> None:
    world = World(FakeReply(said("a", 2), FINISH, USED, DONE), limits=LIMITS, admission=TOLD)
    await world.serve(STREAM)
    assert world.client.headers[b"x-ratelimit-remaining-requests"] == b"49"
    assert world.journal.values("settle") == [4 + 3]


@pytest.mark.parametrize(
    ("members", "bound"),
    [({}, 1024), ({"max_tokens": 9}, 9), ({"max_completion_tokens": 9}, 9), ({"max_tokens": None}, 1024)],
)
async def test_what_is_reserved_is_the_bodys_size_and_the_output_asked_for(
    members: dict[str, object], bound: int
) -> None:
    world = World(json_reply(WHOLE), limits=LIMITS)
    sent = body(**members)
    await world.serve(sent)
    assert world.journal.values("admit") == [len(sent) // 4 + bound]


@pytest.mark.parametrize("fault", [REACHED, LimitsUnavailable("cannot be checked")])
async def test_a_refusal_leaves_no_record_and_nothing_to_settle(fault: BillingError) -> None:
    world = World(limits=LIMITS, admission=fault)
    await world.serve(STREAM)
    assert world.journal.names == ["admit", "head", "end"]
    assert world.proxy.counts == {f"refused_{fault.kind}": 1}


async def test_a_429_says_which_limit_and_when_to_come_back() -> None:
    world = World(limits=LIMITS, admission=REACHED)
    await world.serve(body())
    assert world.client.status == 429
    assert world.error == {
        "message": "Rate limit reached: 50 requests a minute",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    headers = world.client.headers
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"2", b"1200")
    assert headers[b"x-ratelimit-remaining-requests"] == b"49"
    assert b"x-request-id" in headers


async def test_what_the_log_has_no_room_for_gives_back_what_it_reserved() -> None:
    world = World(limits=LIMITS, full=("open",))
    await world.serve(body())
    assert (world.client.status, world.journal.values("settle")) == (503, [0])


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (Unavailable("gone"), None),
        (json_reply(b"{}", status=500), 0),
        (json_reply(b"{}", status=400), 0),
        (FakeReply(b"<html>", headers=[(b"content-type", b"text/html")]), None),
    ],
    ids=["no reply", "its own trouble", "refused", "a page"],
)
async def test_however_it_ends_it_is_settled_once(answer: FakeReply | Exception, used: int | None) -> None:
    world = World(answer, limits=LIMITS)
    await world.serve(body())
    assert world.journal.values("settle") == [used]


async def test_a_request_that_breaks_inside_this_process_is_settled_too() -> None:
    world = World(FakeReply(said("a", 2)), limits=LIMITS, breaks_at="chunk")
    with pytest.raises(ConnectionResetError):
        await world.serve(STREAM)
    assert len(world.journal.values("settle")) == 1


async def test_an_unknown_model_costs_nothing() -> None:
    world = World(limits=LIMITS)
    await world.serve(msgspec.json.encode({"model": "other", "messages": []}))
    assert (world.client.status, world.journal.names) == (404, ["head", "end"])


async def test_a_capped_answer_is_told_of_in_the_reply() -> None:
    for sent, told in ((body(max_tokens=900), b"50"), (body(max_tokens=9), None), (STREAM, b"50")):
        reply = json_reply(WHOLE) if sent is not STREAM else FakeReply(said("a", 2), FINISH, USED, DONE)
        world = World(reply, directory=snapshot(output_cap=50))
        await world.serve(sent)
        assert world.client.headers.get(b"x-billing-output-cap") == told
