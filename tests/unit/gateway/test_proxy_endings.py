"""However an exchange ends, it leaves exactly one record of what is known, and a caller who is still there can read why."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from billing.errors import BillingError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from billing.settings import GatewaySettings
from billing.tokens.usage import NOTHING_USED, Outcome, Provenance, TokenUsage
from tests.gateway.fakes import NOW_US, FakeReply, World, json_reply

DONE = b"data: [DONE]\n\n"
BODY = b'{"model":"tiny","messages":[]}'
STREAM = b'{"model":"tiny","messages":[],"stream":true}'
ROLE = b'data: {"id":"c-1","choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"timings":{"cache_n":3,"prompt_n":1,"predicted_n":1}}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":3}}}\n\n'
WHOLE = b'{"id":"c-1","choices":[{"index":0,"message":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":5}}'
BROKEN = UpstreamBroken("the reply broke off")
SILENT = UpstreamTimeout("no body for 300 s")


def said(text: str, tokens: int) -> bytes:
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}],"timings":{"cache_n":3,"prompt_n":1,"predicted_n":%d}}\n\n'
        % (text.encode(), tokens)
    )


PIECES = (ROLE, said("a", 2), said("b", 3), said("c", 4), FINISH, USED, DONE)


def values(usage: TokenUsage) -> tuple[int | None, ...]:
    return tuple(part.value for part in (usage.input, usage.cached_input, usage.output, usage.reasoning))


def events(body: bytes) -> list[Any]:
    """What a client's parser makes of a stream: the data of each event, which must be JSON or the end mark."""
    parts = body.split(b"\n\n")
    assert parts.pop() == b"", "the stream ends inside an event"
    found = [part.removeprefix(b"data: ") for part in parts]
    return [data if data == b"[DONE]" else msgspec.json.decode(data) for data in found]


async def finished(world: World, body: bytes) -> World:
    """The world after one request; whatever its transport raised has been raised."""
    async with asyncio.timeout(5):
        await world.serve(body)
    assert world.journal.names.count("open") == world.journal.names.count("close") == 1, world.journal
    return world


async def lines_of(make: Callable[[], World], body: bytes) -> int:
    return len((await finished(make(), body)).journal.lines)


SENDING = {
    "unreachable": (UpstreamUnreachable("no connection"), 502, NOTHING_USED),
    "no head in time": (UpstreamTimeout("no reply within 600 s"), 504, TokenUsage()),
    "a broken head": (UpstreamBroken("not a reply"), 502, TokenUsage()),
}


@pytest.mark.parametrize("body", [STREAM, BODY], ids=["stream", "whole"])
@pytest.mark.parametrize(("fault", "status", "usage"), SENDING.values(), ids=SENDING)
async def test_an_engine_that_gives_no_reply(
    fault: BillingError, status: int, usage: TokenUsage, body: bytes
) -> None:
    world = await finished(World(fault), body)
    assert (world.record.outcome, world.record.status, world.record.error) == (
        Outcome.UPSTREAM_ERROR,
        status,
        fault.kind,
    )
    assert world.record.usage == usage
    assert (world.client.status, world.error["code"]) == (status, fault.kind)
    assert str(fault) not in world.error["message"], "addresses and reasons are for the operator's log"
    assert world.journal.names.index("synced") < world.journal.names.index("end")


@pytest.mark.parametrize("fault", [BROKEN, SILENT], ids=lambda fault: fault.kind)
@pytest.mark.parametrize("count", range(len(PIECES)))
async def test_an_engine_that_breaks_off_a_stream(count: int, fault: BillingError) -> None:
    world = await finished(World(FakeReply(*PIECES[:count], fault)), STREAM)
    assert (world.record.outcome, world.record.status, world.record.error) == (
        Outcome.TRUNCATED,
        200,
        fault.kind,
    )
    output = {0: None, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 5}[count]
    assert values(world.record.usage)[:3] == ((4, 3, output) if count else (None, None, None))
    assert events(world.client.body)[-1]["error"]["code"] == fault.kind
    assert world.client.ended


@pytest.mark.parametrize("fault", [BROKEN, SILENT, None], ids=lambda fault: fault and fault.kind)
@pytest.mark.parametrize("cut", [1, 5, 6, 7, 40, len(said("b", 3)) - 2, len(said("b", 3)) - 1])
async def test_a_stream_that_breaks_inside_an_event_still_ends_with_an_error_that_can_be_read(
    cut: int, fault: BillingError | None
) -> None:
    steps = [ROLE, said("a", 2), said("b", 3)[:cut], *([fault] if fault else [])]
    world = await finished(World(FakeReply(*steps, whole=False)), STREAM)
    assert events(world.client.body)[-1]["error"]["code"] == (fault.kind if fault else "upstream_broken")
    assert world.record.outcome is Outcome.TRUNCATED


async def test_a_stream_that_just_stops_is_truncated_and_the_record_says_what_the_client_was_told() -> None:
    world = await finished(World(FakeReply(ROLE, said("a", 2))), STREAM)
    assert world.record.outcome is Outcome.TRUNCATED
    assert events(world.client.body)[-1]["error"]["code"] == "upstream_broken"
    assert world.record.error == "upstream_broken"


async def test_a_finished_stream_without_an_end_mark_is_complete() -> None:
    world = await finished(World(FakeReply(ROLE, said("a", 2), FINISH)), STREAM)
    assert (world.record.outcome, world.record.error) == (Outcome.COMPLETE, None)
    assert [event for event in events(world.client.body) if "error" in event] == []


async def test_an_end_mark_that_lacks_its_last_line_end_when_the_engine_breaks_off_is_an_end_mark() -> None:
    world = await finished(World(FakeReply(ROLE, FINISH, USED + DONE[:-1], BROKEN)), STREAM)
    assert world.record.outcome is Outcome.COMPLETE
    assert b"error" not in world.client.body
    assert world.client.body.rstrip(b"\n").endswith(b"data: [DONE]")


async def test_an_error_in_the_stream_is_the_engines_and_passes_once() -> None:
    error = b'data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":500}}\n\n'
    for steps in ([ROLE, said("a", 2), error, DONE], [ROLE, said("a", 2), error]):
        world = await finished(World(FakeReply(*steps)), STREAM)
        assert (world.record.outcome, world.record.error) == (Outcome.UPSTREAM_ERROR, "upstream_error")
        assert values(world.record.usage)[:3] == (4, 3, 2)
        assert world.client.body.count(b'"error"') == 1


async def test_what_follows_the_end_mark_is_read_so_that_the_connection_can_serve_others() -> None:
    world = await finished(World(FakeReply(*PIECES, b": bye\n\n")), STREAM)
    names = world.journal.names
    last_read = len(names) - 1 - names[::-1].index("read")
    assert names.index("synced") < names.index("expire") < last_read < names.index("end")
    assert names.index("end") < names.index("released")
    assert set(world.journal.values("expire")) == {GatewaySettings().drain_after_finish_s}


@pytest.mark.parametrize("apart", [True, False])
async def test_what_follows_the_end_mark_is_the_clients_however_the_bytes_come(*, apart: bool) -> None:
    last, tail = PIECES[-1], b": bye\n\n"
    pieces = [*PIECES, tail] if apart else [*PIECES[:-1], last + tail]
    world = await finished(World(FakeReply(*pieces)), STREAM)
    assert world.client.body.endswith(DONE + tail)
    assert world.client.ended
    assert world.record.outcome is Outcome.COMPLETE


async def test_an_engine_that_breaks_after_the_end_mark_changes_nothing() -> None:
    world = await finished(World(FakeReply(*PIECES, BROKEN)), STREAM)
    assert (world.record.outcome, world.record.error) == (Outcome.COMPLETE, None)
    assert events(world.client.body)[-1] == b"[DONE]"


@pytest.mark.parametrize("steps", [(BROKEN,), (WHOLE[:30], SILENT)])
async def test_a_whole_reply_that_breaks_off_is_not_sent(steps: tuple[Any, ...]) -> None:
    world = await finished(World(FakeReply(*steps, headers=[])), BODY)
    assert (world.record.outcome, values(world.record.usage)) == (Outcome.TRUNCATED, (None,) * 4)
    assert world.record.error == world.error["code"] == steps[-1].kind
    assert world.record.status == world.client.status


async def test_a_whole_reply_above_the_largest_size_is_not_sent_and_not_read_to_its_end() -> None:
    reply = FakeReply(b"x" * 600, b"x" * 600, b"x" * 600, headers=[])
    world = await finished(World(reply, reply_body_bytes_max=1_000), BODY)
    assert (world.record.outcome, world.client.status) == (Outcome.TRUNCATED, 502)
    assert world.error["code"] == "upstream_broken"
    assert world.journal.names.count("read") == 2
    assert reply.closed


async def test_an_empty_whole_reply_is_one_that_the_engine_gave_up() -> None:
    world = await finished(World(json_reply(b"")), BODY)
    assert (world.record.outcome, values(world.record.usage)) == (Outcome.TRUNCATED, (None,) * 4)


async def test_a_whole_reply_of_the_largest_size_is_sent() -> None:
    world = await finished(
        World(FakeReply(b"x" * 600, b"x" * 400, headers=[]), reply_body_bytes_max=1_000), BODY
    )
    assert (world.record.outcome, world.client.body) == (Outcome.COMPLETE, b"x" * 1_000)


@pytest.mark.parametrize(
    ("body", "reply"),
    [(STREAM, FakeReply(*PIECES)), (BODY, json_reply(WHOLE)), (BODY, UpstreamUnreachable("no"))],
)
async def test_a_log_without_room_for_the_close_ends_the_reply_with_an_error(body: bytes, reply: Any) -> None:
    world = World(reply, full=("close",))
    await world.serve(body)
    assert [len(world.spool.opened), len(world.spool.closed)] == [
        1,
        0,
    ]  # the recorder will find the open entry
    assert b"[DONE]" not in world.client.body
    assert WHOLE not in world.client.body
    last = world.client.body.rstrip(b"\n").rsplit(b"data: ", 1)[-1]
    assert msgspec.json.decode(last)["error"]["code"] == "spool_full"
    assert world.proxy.counts["unrecorded_spool_full"] == 1


async def test_a_client_who_leaves_before_the_finish_hangs_up_on_the_engine_and_pays_what_ran() -> None:
    world = World()
    reply = FakeReply(ROLE, said("a", 2), world.client.leave, said("never", 9), after_hang_up=(said("b", 3),))
    world.upstream._answers.append(reply)
    await finished(world, STREAM)
    assert world.journal.values("hang_up") == [GatewaySettings().hang_up_grace_s]
    assert (world.record.outcome, world.record.status) == (Outcome.CLIENT_CLOSED, 200)
    assert values(world.record.usage)[:3] == (4, 3, 3)
    assert world.record.usage.output.provenance is Provenance.RUNNING
    assert not world.client.ended


async def test_a_client_who_leaves_after_the_finish_does_not_cost_the_usage_that_is_on_its_way() -> None:
    world = World()
    world.upstream._answers.append(FakeReply(*PIECES[:5], world.client.leave, *PIECES[5:]))
    await finished(world, STREAM)
    assert "hang_up" not in world.journal.names
    assert world.journal.values("expire")[0] == GatewaySettings().drain_after_finish_s
    assert (world.record.outcome, world.record.usage.output.provenance) == (
        Outcome.CLIENT_CLOSED,
        Provenance.REPORTED,
    )
    assert values(world.record.usage)[:3] == (4, 3, 5)


async def test_a_client_who_leaves_a_whole_reply_hangs_up_and_its_counts_are_unknown() -> None:
    world = World()
    world.upstream._answers.append(FakeReply(WHOLE[:20], world.client.leave, WHOLE[20:], headers=[]))
    await finished(world, BODY)
    assert "hang_up" in world.journal.names
    assert (world.record.outcome, world.record.status) == (Outcome.CLIENT_CLOSED, 499)
    assert values(world.record.usage) == (None,) * 4


async def test_no_engine_works_for_a_client_who_left_before_it_was_asked() -> None:
    world = World(FakeReply(*PIECES))
    world.client.leave()
    await world.serve(STREAM)
    assert "open" not in world.journal.names
    assert "send" not in world.journal.names
    assert world.proxy.counts == {"left_before_open": 1}
    assert world.client.body == b""


@pytest.mark.parametrize(("body", "reply"), [(STREAM, FakeReply(*PIECES)), (BODY, json_reply(WHOLE))])
async def test_a_client_who_leaves_after_the_end_hangs_up_on_nobody(body: bytes, reply: FakeReply) -> None:
    world = await finished(World(reply), body)
    lines = len(world.journal.lines)
    world.client.leave()
    assert len(world.journal.lines) == lines


WORLDS: dict[str, tuple[Callable[[], World], bytes]] = {
    "a stream": (lambda: World(FakeReply(*PIECES, after_hang_up=(said("late", 9),))), STREAM),
    "a stream in one piece": (lambda: World(FakeReply(b"".join(PIECES))), STREAM),
    "a stream that breaks": (lambda: World(FakeReply(*PIECES[:3], BROKEN)), STREAM),
    "a whole reply": (lambda: World(json_reply(WHOLE)), BODY),
    "a whole reply with reasoning": (
        lambda: World(json_reply(WHOLE.replace(b'"content":"a"', b'"reasoning_content":"because"'))), BODY,
    ),
    "no reply": (lambda: World(UpstreamUnreachable("no connection")), BODY),
}  # fmt: skip


@pytest.mark.parametrize(("make", "body"), WORLDS.values(), ids=WORLDS)
async def test_the_client_may_leave_at_any_point(make: Callable[[], World], body: bytes) -> None:
    for line in range(1, await lines_of(make, body)):
        world = make()
        world.journal.after(line, world.client.leave)
        await finished(world, body)
        left_before_close = "close" not in world.journal.names[:line]
        assert (world.record.outcome is Outcome.CLIENT_CLOSED) == left_before_close, (line, world.journal)
        assert world.record.usage.output.value in {None, 0, 1, 2, 3, 4, 5, 9}


@pytest.mark.parametrize(("make", "body"), WORLDS.values(), ids=WORLDS)
async def test_the_process_may_stop_at_any_point_and_what_ran_is_on_record(
    make: Callable[[], World], body: bytes
) -> None:
    for line in range(1, await lines_of(make, body)):
        world = make()
        task = asyncio.create_task(world.serve(body))
        world.journal.after(line, task.cancel)
        await asyncio.wait([task], timeout=5)
        assert task.done()
        before = world.journal.names[:line]
        assert world.journal.names.count("open") == world.journal.names.count("close") == 1, (
            line,
            world.journal,
        )
        reads = [piece for name, piece in world.journal.lines[:line] if name == "read"]
        if body == STREAM and "close" not in before and reads and before[-1] != "read":
            assert world.record.usage.output.value is not None, (line, world.journal)


@pytest.mark.parametrize("write", ["head", "chunk", "end"])
@pytest.mark.parametrize(("make", "body"), WORLDS.values(), ids=WORLDS)
async def test_a_client_transport_that_raises_does_not_cost_the_record(
    make: Callable[[], World], body: bytes, write: str
) -> None:
    world = make()
    world.client._breaks_at = write
    await asyncio.gather(world.serve(body), return_exceptions=True)
    assert len(world.spool.opened) == len(world.spool.closed) == 1
    if "broke" not in world.journal.names and body == STREAM and write == "chunk":
        assert world.record.usage.output.value is not None


@pytest.mark.parametrize("body", [STREAM, BODY], ids=["stream", "whole"])
async def test_a_fault_that_nobody_foresaw_does_not_cost_the_record(body: bytes) -> None:
    def fail() -> None:
        raise RuntimeError("nobody foresaw this")

    for answer in (FakeReply(ROLE, fail), RuntimeError("nobody foresaw this")):
        world = World(answer)
        await asyncio.gather(world.serve(body), return_exceptions=True)
        assert len(world.spool.opened) == len(world.spool.closed) == 1


HOSTILE = {
    "half an object of a wrong type": b'data: {"id":5,"x":\n\n',
    "content that is no UTF-8": b'data: {"choices":[{"index":0,"delta":{"content":"\xc3"}}]}\n\n',
    "a member name that is no UTF-8": b'data: {"\xff":1,"choices":[],"usage":{"prompt_tokens":1}}\n\n',
    "a count of 5,000 digits": b'data: {"usage":{"prompt_tokens":' + b"9" * 5_000 + b"}}\n\n",
    "nesting without end": b'data: {"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
    "half a surrogate for an id": b'data: {"id":"\\ud800","choices":[7]}\n\n',
}


@pytest.mark.parametrize("event", HOSTILE.values(), ids=HOSTILE)
async def test_no_event_of_an_engine_breaks_the_exchange(event: bytes) -> None:
    world = await finished(World(FakeReply(ROLE, event, *PIECES[1:])), STREAM)
    assert (world.record.outcome, values(world.record.usage)[:3]) == (Outcome.COMPLETE, (4, 3, 5))


@pytest.mark.parametrize("event", HOSTILE.values(), ids=HOSTILE)
async def test_no_whole_reply_of_an_engine_breaks_the_exchange(event: bytes) -> None:
    reply = event[6:-2]
    world = await finished(World(json_reply(reply)), BODY)
    assert (world.client.status, world.client.body) == (200, reply)


async def test_a_clock_that_is_set_back_gives_no_negative_duration() -> None:
    world = World()
    steps = (lambda: setattr(world.clock, "now_us", NOW_US - 5_000_000), *PIECES)
    world.upstream._answers.append(FakeReply(*steps))
    await finished(world, STREAM)
    assert (world.record.duration_us, world.record.ttft_us) == (0, 0)


async def test_outcomes_are_counted() -> None:
    world = World(FakeReply(*PIECES))
    await finished(world, STREAM)
    assert dict(world.proxy.counts) == {"complete": 1}
    assert repr(world.proxy) == "<Proxy {<Outcome.COMPLETE: 'complete'>: 1}>"
