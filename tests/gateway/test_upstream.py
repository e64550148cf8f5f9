"""Pooling and the one retry: which connection serves which request, and when none may."""

import asyncio
import os
import socket
from collections.abc import Iterable

import pytest

from billing.errors import UpstreamBroken, UpstreamUnreachable
from billing.gateway.forward import Destination
from tests.gateway.scripted_engine import (
    Close,
    Hold,
    Received,
    Reset,
    ScriptedEngine,
    Send,
    Stall,
    Step,
    chunk,
    chunked,
    chunked_head,
    in_turn,
    sized,
)
from tests.gateway.upstream_kit import BODY, HEAD, ask, both_loops, pool_with, until

OK = [Send(sized(b"ok"))]
ONE_IDLE = "<UpstreamPool 0 active, 1 idle>"
NONE = "<UpstreamPool 0 active, 0 idle>"


def echo(received: Received) -> Iterable[Step]:
    return [Stall(0.002), Send(sized(received.body))]


# Reuse.


@both_loops
async def test_a_connection_is_used_again_when_its_reply_was_read_to_the_end() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"ok"
        assert repr(pool) == ONE_IDLE
        assert repr(reply) == "<Reply 200 complete, 0 bytes unread>"
        assert await reply.read() == b""
        assert await ask(pool, engine.origin) == b"ok"
        assert [received.connection for received in engine.requests] == [0, 0]
        assert [(received.head, received.body) for received in engine.requests] == [(HEAD, BODY)] * 2
        assert pool.connections_opened == 1


@both_loops
async def test_repr_tells_the_state_of_each_part() -> None:
    script = in_turn([Send(chunked_head() + chunk(b"a")), Hold()])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        (connection,) = pool._open
        where = f"127.0.0.1:{engine.port}"
        assert repr(pool) == "<UpstreamPool 1 active, 0 idle>"
        assert repr(connection) == f"<Connection {where} reading, 1 requests>"
        assert await reply.read() == b"a"
        assert repr(reply) == "<Reply 200 open, 0 bytes unread>"
        reply.expire(9)
        assert repr(reply) == "<Reply 200 ending, 0 bytes unread>"
        reply.close()
        assert repr(reply) == "<Reply 200 ended, 0 bytes unread>"
        assert repr(connection) == f"<Connection {where} closed, 1 requests>"
        assert repr(pool) == NONE


@both_loops
async def test_the_newest_connection_is_used_first() -> None:
    def slow_by_name(received: Received) -> Iterable[Step]:
        return [Stall(int(received.body) * 0.03), Send(sized(b"ok"))]

    async with ScriptedEngine(slow_by_name) as engine, pool_with() as pool:
        head = HEAD.replace(b"2", b"1")
        await asyncio.gather(*(ask(pool, engine.origin, head, body) for body in (b"2", b"3", b"1")))
        assert repr(pool) == "<UpstreamPool 0 active, 3 idle>"
        last = next(received.connection for received in engine.requests if received.body == b"3")
        await ask(pool, engine.origin, head, b"0")
        assert engine.requests[-1].connection == last


@both_loops
async def test_the_number_of_idle_connections_is_bounded_for_each_origin() -> None:
    async with (
        ScriptedEngine(echo) as engine,
        ScriptedEngine(echo) as other,
        pool_with(connections_idle_max=2) as pool,
    ):
        await asyncio.gather(*(ask(pool, engine.origin) for _ in range(5)), ask(pool, other.origin))
        assert repr(pool) == "<UpstreamPool 0 active, 3 idle>"
        await until(lambda: sum(log.ended == "eof" for log in engine.connections) == 3)


@both_loops
async def test_idle_connections_expire_and_then_the_pool_sleeps() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with(connection_idle_s=0.05) as pool:
        await ask(pool, engine.origin)
        assert repr(pool) == ONE_IDLE
        await until(lambda: engine.connections[0].ended == "eof")
        assert repr(pool) == NONE
        await until(lambda: pool._sweeper is None)
        assert pool._open == set()


@both_loops
async def test_a_connection_that_the_engine_closes_while_idle_is_forgotten() -> None:
    async with ScriptedEngine(in_turn([*OK, Close()], OK)) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        await until(lambda: repr(pool) == NONE)
        assert await ask(pool, engine.origin) == b"ok"
        assert pool.retries == 0


ONE_USE = {
    "connection: close": sized(b"ok", "200 OK", "Connection: close"),
    "HTTP/1.0": sized(b"ok").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 with chunks": chunked(b"ok").replace(b"1.1 200 OK", b"1.0 200 OK\r\nConnection: keep-alive"),
}


@pytest.mark.parametrize("answer", ONE_USE.values(), ids=ONE_USE)
@both_loops
async def test_a_connection_whose_engine_does_not_keep_it_is_closed(answer: bytes) -> None:
    async with ScriptedEngine(in_turn([Send(answer)])) as engine, pool_with() as pool:
        assert await ask(pool, engine.origin) == b"ok"
        assert repr(pool) == NONE
        await until(lambda: engine.connections[0].ended == "eof")


@both_loops
async def test_http_1_0_with_keep_alive_is_used_again() -> None:
    answer = sized(b"ok", "200 OK", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with ScriptedEngine(in_turn([Send(answer)])) as engine, pool_with() as pool:
        assert await ask(pool, engine.origin) == b"ok"
        assert repr(pool) == ONE_IDLE


# Bytes beyond a reply.

SURPLUS = {
    "a byte": b"x",
    "a line feed": b"\n",
    "a line end": b"\r\n",
    "two line ends": b"\r\n\r\n",
    "a whole reply": sized(b"poison"),
    "a whole chunked reply": chunked(b"poison"),
    "an empty reply": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a begun reply": b"HTTP/1.1 200",
}
WHOLE = {
    "sized": sized(b"mine"),
    "empty": sized(b""),
    "chunked": chunked(b"mi", b"ne"),
    "trailers": chunked_head() + chunk(b"mine") + b"0\r\nX-Sum: 4\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
}


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("cut", [0, 20, -1], ids=["at once", "head cut", "end apart"])
@both_loops
async def test_nobody_else_sees_bytes_beyond_a_reply(whole: bytes, surplus: bytes, cut: int) -> None:
    data = whole + surplus
    offsets = [cut % len(whole)]
    async with ScriptedEngine(in_turn([Send(data, offsets)], OK)) as engine, pool_with() as pool:
        assert await ask(pool, engine.origin) in {b"mine", b""}
        assert repr(pool) == NONE
        assert await ask(pool, engine.origin) == b"ok"
        assert [received.connection for received in engine.requests] == [0, 1]


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
@both_loops
async def test_bytes_that_come_while_idle_close_the_connection(surplus: bytes) -> None:
    script = in_turn([*OK, Stall(0.01), Send(surplus)], OK)
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        await until(lambda: repr(pool) == NONE)
        assert await ask(pool, engine.origin) == b"ok"
        assert engine.requests[-1].connection == 1


@both_loops
async def test_bytes_that_the_loop_has_not_seen_yet_are_not_taken_for_the_next_reply() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        os.write(engine.connections[0].fileno, sized(b"poison"))
        assert await ask(pool, engine.origin) == b"ok"
        assert [received.connection for received in engine.requests] == [0, 1]


# The retry.


@pytest.mark.parametrize("death", [Close(), Reset()], ids=["closed", "reset"])
@both_loops
async def test_a_dead_kept_connection_is_replaced_once_by_a_fresh_one(death: Step) -> None:
    def die_when_reused(received: Received) -> Iterable[Step]:
        reused = engine.connections[received.connection].requests > 1
        return [death] if reused else echo(received)

    async with ScriptedEngine(die_when_reused) as engine, pool_with() as pool:
        await asyncio.gather(*(ask(pool, engine.origin) for _ in range(3)))
        assert repr(pool) == "<UpstreamPool 0 active, 3 idle>"
        assert await ask(pool, engine.origin) == BODY
        # Two other kept connections were there; they would have died just so.
        assert [received.connection for received in engine.requests][4:] == [3]
        assert pool.retries == 1


@pytest.mark.parametrize("death", [Close(), Reset()], ids=["closed", "reset"])
@both_loops
async def test_a_fresh_connection_that_dies_is_not_retried(death: Step) -> None:
    async with ScriptedEngine(in_turn([death])) as engine, pool_with() as pool:
        with pytest.raises(UpstreamBroken, match="ended without a reply"):
            await pool.send(engine.origin, HEAD, BODY)
        assert len(engine.requests) == 1
        assert repr(pool) == NONE


@both_loops
async def test_the_retry_is_the_last_attempt() -> None:
    async with ScriptedEngine(in_turn(OK, [Close()])) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        with pytest.raises(UpstreamBroken, match="ended without a reply"):
            await pool.send(engine.origin, HEAD, BODY)
        assert [received.connection for received in engine.requests] == [0, 0, 1]


@pytest.mark.parametrize("death", [Close(), Reset()], ids=["closed", "reset"])
@both_loops
async def test_one_reply_byte_forbids_the_retry(death: Step) -> None:
    script = in_turn(OK, [Send(b"H"), Stall(0.01), death])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        with pytest.raises(UpstreamBroken):
            await pool.send(engine.origin, HEAD, BODY)
        assert len(engine.requests) == 2


# Nothing there.


@both_loops
async def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with pool_with() as pool:
            with pytest.raises(UpstreamUnreachable, match="no connection to 127"):
                await pool.send(
                    Destination("127.0.0.1", unheard.getsockname()[1], tls=False, base_path=""), HEAD, BODY
                )
            assert repr(pool) == NONE


@both_loops
async def test_a_host_that_is_no_name_is_unreachable() -> None:
    async with pool_with() as pool:
        with pytest.raises(UpstreamUnreachable):
            await pool.send(Destination("x" * 64 + ".test", 80, tls=False, base_path=""), HEAD, BODY)


@both_loops
async def test_a_connection_that_is_not_accepted_times_out() -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        async with pool_with(connect_timeout_s=0.1) as pool:
            with pytest.raises(UpstreamUnreachable, match="TimeoutError"):
                await pool.send(
                    Destination("127.0.0.1", deaf.getsockname()[1], tls=False, base_path=""), HEAD, BODY
                )
            assert pool._open == set()
