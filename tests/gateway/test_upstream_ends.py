"""Deadlines, cancellation, closing, many at once: however an exchange ends, nothing leaks and no reply shifts."""

import asyncio
import random
import time
from collections.abc import Iterable

import pytest

from billing.errors import BillingError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from billing.gateway.upstream import SWEEP_INTERVAL_S
from tests.gateway.scripted_engine import (
    AwaitEof,
    Hold,
    Received,
    ScriptedEngine,
    Send,
    Stall,
    Step,
    chunk,
    chunked_head,
    in_turn,
    sized,
)
from tests.gateway.upstream_kit import BODY, HEAD, ask, both_loops, pool_with, read_all, until

OK = [Send(sized(b"ok"))]
ONE_IDLE = "<UpstreamPool 0 active, 1 idle>"
NONE = "<UpstreamPool 0 active, 0 idle>"


def echo(received: Received) -> Iterable[Step]:
    return [Stall(0.002), Send(sized(received.body))]


# Deadlines.


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@both_loops
async def test_a_reply_that_does_not_come_times_out_without_a_retry(*, reused: bool) -> None:
    script = in_turn(OK, [Hold()]) if reused else in_turn([Hold()])
    async with ScriptedEngine(script) as engine, pool_with(head_timeout_s=0.05) as pool:
        if reused:
            await ask(pool, engine.origin)
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout, match=r"no reply within 0.05 s"):
            await pool.send(engine.origin, HEAD, BODY)
        assert 0.05 <= time.monotonic() - began < 0.05 + 5 * SWEEP_INTERVAL_S
        assert repr(pool) == NONE
        await until(lambda: engine.connections[0].ended == "eof")
        assert len(engine.requests) == 1 + reused


@both_loops
async def test_an_engine_that_falls_silent_times_out() -> None:
    script = in_turn([Send(chunked_head() + chunk(b"a")), Stall(0.1), Send(chunk(b"b")), Hold()])
    async with ScriptedEngine(script) as engine, pool_with(idle_timeout_s=0.3) as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert [await reply.read(), await reply.read()] == [b"a", b"b"]
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(UpstreamTimeout, match=r"no body for 0.3 s"):
                await reply.read()
        assert 0.3 <= time.monotonic() - began < 0.3 + 5 * SWEEP_INTERVAL_S
        assert not reply.complete
        assert repr(pool) == NONE


@both_loops
async def test_a_slow_reader_is_not_a_silent_engine() -> None:
    script = in_turn(
        [
            *(Send(chunked_head()), Stall(0.02), Send(chunk(b"a")), Stall(0.02), Send(chunk(b"b"))),
            *(Stall(0.6), Send(chunk(b"c") + b"0\r\n\r\n")),
        ]
    )
    async with ScriptedEngine(script) as engine, pool_with(idle_timeout_s=0.25) as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        await asyncio.sleep(0.25 + 3 * SWEEP_INTERVAL_S)
        assert await read_all(reply) == [b"b", b"c"]
        assert reply.complete


@both_loops
async def test_a_hang_up_has_its_whole_grace_after_a_slow_reader() -> None:
    script = in_turn([Send(chunked_head()), Stall(0.02), Send(chunk(b"a")), AwaitEof(), Stall(0.3), *OK])
    async with ScriptedEngine(script) as engine, pool_with(idle_timeout_s=0.05) as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        await asyncio.sleep(0.1)
        began = time.monotonic()
        reply.hang_up(0.2)
        assert await read_all(reply) == []
        assert time.monotonic() - began >= 0.2


# Cancellation and closing.


@both_loops
async def test_cancelling_send_closes_the_connection() -> None:
    async with ScriptedEngine(in_turn([Hold()], OK)) as engine, pool_with() as pool:
        sending = asyncio.ensure_future(pool.send(engine.origin, HEAD, BODY))
        await until(lambda: bool(engine.requests))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert repr(pool) == NONE
        await until(lambda: engine.connections[0].ended == "eof")
        assert await ask(pool, engine.origin) == b"ok"


@both_loops
async def test_cancelling_send_while_it_connects_leaves_nothing() -> None:
    async with ScriptedEngine(in_turn([Hold()])) as engine, pool_with() as pool:
        for turns in range(6):
            sending = asyncio.ensure_future(pool.send(engine.origin, HEAD, BODY))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await until(lambda: not pool._open)
            assert repr(pool) == NONE
        await until(lambda: all(log.ended for log in engine.connections))


@both_loops
async def test_cancelling_read_closes_the_connection() -> None:
    script = in_turn([Send(chunked_head() + chunk(b"a")), Hold()], OK)
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        reading = asyncio.ensure_future(reply.read())
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert repr(pool) == NONE
        assert await reply.read() == b""
        assert await ask(pool, engine.origin) == b"ok"
        assert engine.requests[-1].connection == 1


@both_loops
async def test_a_reply_has_one_reader() -> None:
    script = in_turn([Send(chunked_head()), Stall(0.05), Send(chunk(b"a") + b"0\r\n\r\n")])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        first = asyncio.ensure_future(read_all(reply))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await reply.read()
        assert await first == [b"a"]


@both_loops
async def test_close_ends_a_waiting_reader_and_may_be_called_again() -> None:
    script = in_turn([Send(chunked_head() + chunk(b"a")), Hold()])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        reading = asyncio.ensure_future(read_all(reply))
        await asyncio.sleep(0.01)
        reply.close()
        reply.close()
        assert await reading == [b"a"]
        assert not reply.complete
        assert repr(pool) == NONE


@both_loops
async def test_closing_a_reply_that_was_read_whole_leaves_its_connection_to_others() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await read_all(reply) == [b"ok"]
        reply.close()
        assert reply.complete
        assert repr(pool) == ONE_IDLE


@both_loops
async def test_closing_the_pool_ends_what_is_active_and_refuses_the_rest() -> None:
    script = in_turn([Send(chunked_head()), Hold()], OK)
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await ask(pool, engine.origin) == b"ok"
        assert repr(pool) == "<UpstreamPool 1 active, 1 idle>"
        await pool.close()
        assert repr(pool) == "<UpstreamPool closed, 0 open>"
        with pytest.raises(UpstreamBroken, match="closed by the gateway"):
            await reply.read()
        with pytest.raises(UpstreamUnreachable, match="pool is closed"):
            await pool.send(engine.origin, HEAD, BODY)


@both_loops
async def test_a_connection_that_stands_when_the_pool_has_closed_is_given_up() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        sending = asyncio.ensure_future(pool.send(engine.origin, HEAD, BODY))
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(UpstreamUnreachable, match="pool is closed"):
            await sending
        await until(lambda: all(log.ended == "eof" for log in engine.connections))
        assert engine.requests == []


# Many at once.


@both_loops
async def test_300_concurrent_requests_each_get_their_own_reply() -> None:
    async with ScriptedEngine(echo) as engine, pool_with(connections_idle_max=256) as pool:
        bodies = [f"{number:03}".encode() for number in range(300)]
        head = HEAD.replace(b"2", b"3")
        for _ in range(2):
            assert await asyncio.gather(*(ask(pool, engine.origin, head, body) for body in bodies)) == bodies
        assert repr(pool) == "<UpstreamPool 0 active, 256 idle>"
        assert pool.connections_opened == 344


@both_loops
async def test_cancelled_requests_shift_no_reply() -> None:
    chance = random.Random(20)

    async def maybe_cancelled(number: int) -> None:
        body = f"{number:03}".encode()
        asking = asyncio.ensure_future(ask(pool, engine.origin, HEAD.replace(b"2", b"3"), body))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.006)
            asking.cancel()
        try:
            assert await asking == body
        except asyncio.CancelledError:
            assert asking.cancelled()

    async with ScriptedEngine(echo) as engine, pool_with() as pool:
        for start in range(0, 600, 20):
            await asyncio.gather(*(maybe_cancelled(start + number) for number in range(20)))
        assert repr(pool).startswith("<UpstreamPool 0 active")


def test_every_error_of_the_client_is_a_billing_error() -> None:
    assert all(
        issubclass(one, BillingError) for one in (UpstreamBroken, UpstreamTimeout, UpstreamUnreachable)
    )
