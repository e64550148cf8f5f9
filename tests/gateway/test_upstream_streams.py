"""Large bodies both ways, early replies, and the ends that the gateway makes: hang-up, limit, close; the same over TLS."""

import asyncio
import ssl
import time
from collections.abc import Iterable
from itertools import repeat

import pytest

from billing.errors import UpstreamBroken, UpstreamUnreachable
from billing.gateway.connection import WRITE_BYTES_MAX
from billing.gateway.ports import Exchange
from billing.gateway.reply import UNREAD_BYTES_HIGH
from billing.gateway.upstream import SWEEP_INTERVAL_S
from tests.gateway.scripted_engine import (
    LOOPBACK_PEM,
    AwaitEof,
    Close,
    EndSending,
    Hold,
    ReadBody,
    Received,
    Reset,
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
NONE = "<UpstreamPool 0 active, 0 idle>"
ONE_IDLE = "<UpstreamPool 0 active, 1 idle>"
BEGUN = Send(chunked_head() + chunk(b"a"))
MORE = Send(chunk(b"b"))
END = Send(chunk(b"c") + b"0\r\n\r\n")
LATE_S = 5 * SWEEP_INTERVAL_S

MIB = 1 << 20
SOCKET_READ_BYTES_MAX = 256 * 1024
BLOCK = b"x" * (64 * 1024)
LARGE = b"r" * (8 * MIB)
LARGE_HEAD = f"POST /v1/x HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(LARGE)}\r\n\r\n".encode()


# Back-pressure.


def fifty_mebibytes(_: Received) -> Iterable[Step]:
    yield Send(chunked_head())
    yield from repeat(Send(chunk(BLOCK)), 50 * MIB // len(BLOCK))
    yield Send(b"0\r\n\r\n")


@both_loops
async def test_a_slow_reader_slows_the_engine_and_memory_stays_bounded() -> None:
    async with ScriptedEngine(fifty_mebibytes) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        await asyncio.sleep(0.3)
        # What the kernel's two socket buffers hold is not ours; the engine stands still all the same.
        stalled_bytes = engine.connections[0].sent_bytes
        assert stalled_bytes < 25 * MIB
        await asyncio.sleep(0.05)
        assert engine.connections[0].sent_bytes == stalled_bytes
        total, reads = 0, 0
        unread_max = reply._unread_bytes
        while piece := await reply.read():
            total, reads = total + len(piece), reads + 1
            unread_max = max(unread_max, reply._unread_bytes)
            if reads % 50 == 0:
                await asyncio.sleep(0.001)
        assert total == 50 * MIB
        assert UNREAD_BYTES_HIGH < unread_max <= UNREAD_BYTES_HIGH + SOCKET_READ_BYTES_MAX
        assert reply.complete
        assert repr(pool) == ONE_IDLE


@both_loops
async def test_a_connection_reads_again_for_the_next_exchange_when_the_last_pieces_were_unread() -> None:
    body = b"z" * (UNREAD_BYTES_HIGH + 1)
    async with ScriptedEngine(in_turn([Send(sized(body))], OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        await until(lambda: repr(pool) == ONE_IDLE)
        assert await ask(pool, engine.origin) == b"ok"
        assert b"".join(await read_all(reply)) == body
        assert len(engine.connections) == 1


@both_loops
async def test_a_slow_engine_slows_the_request_and_memory_stays_bounded() -> None:
    script = in_turn([Stall(0.1), ReadBody(), *OK])
    async with ScriptedEngine(script, read_bodies=False) as engine, pool_with() as pool:
        sending = asyncio.ensure_future(pool.send(engine.origin, LARGE_HEAD, LARGE))
        await until(lambda: bool(engine.requests))
        await asyncio.sleep(0.03)
        (connection,) = pool._open
        assert connection._unsent is not None
        assert connection._transport is not None
        assert 0 < connection._transport.get_write_buffer_size() <= WRITE_BYTES_MAX + 64 * 1024
        assert await read_all(await sending) == [b"ok"]
        assert engine.requests[0].body == LARGE
        assert repr(pool) == ONE_IDLE


@pytest.mark.parametrize("length", [0, 1, WRITE_BYTES_MAX, WRITE_BYTES_MAX + 1, 3 * WRITE_BYTES_MAX])
@both_loops
async def test_a_request_of_any_size_arrives_whole(length: int) -> None:
    head = f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode()
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        for _ in range(2):
            assert await ask(pool, engine.origin, head, LARGE[:length]) == b"ok"
        assert [received.body for received in engine.requests] == [LARGE[:length]] * 2
        assert repr(pool) == ONE_IDLE


@pytest.mark.parametrize("after", [Hold(), Close()], ids=["and stops reading", "and closes"])
@both_loops
async def test_a_reply_before_the_request_is_wholly_written_is_delivered(after: Step) -> None:
    refusal = Send(sized(b"too large", "413 Content Too Large"))
    script = in_turn([refusal, Stall(0.02), after])
    async with ScriptedEngine(script, read_bodies=False) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, LARGE_HEAD, LARGE)
        assert reply.status == 413
        assert await read_all(reply) == [b"too large"]
        assert repr(pool) == NONE


# Hang-up.


@both_loops
async def test_after_a_hang_up_what_the_engine_still_says_is_delivered() -> None:
    trickle: list[Step] = [Stall(0.02), MORE]
    script = in_turn([BEGUN, AwaitEof(), *trickle * 5, END])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        reply.hang_up(2.0)
        assert b"".join(await read_all(reply)) == b"bbbbbc"
        assert reply.complete
        assert engine.connections[0].ended == "eof"
        assert repr(pool) == NONE


@both_loops
async def test_a_hang_up_reaches_a_reader_that_waits() -> None:
    script = in_turn([BEGUN, AwaitEof(), MORE, Hold()])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        reading = asyncio.ensure_future(read_all(reply))
        await asyncio.sleep(0.02)
        reply.hang_up(0.1)
        assert await reading == [b"a", b"b"]


@both_loops
async def test_a_hung_up_engine_that_never_ends_is_cut_off_after_the_grace() -> None:
    trickle: list[Step] = [Stall(0.01), MORE]
    script = in_turn([BEGUN, AwaitEof(), *trickle * 500])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        began = time.monotonic()
        reply.hang_up(0.15)
        assert set(await read_all(reply)) == {b"b"}
        assert 0.15 <= time.monotonic() - began < 0.15 + LATE_S
        assert not reply.complete
        assert repr(pool) == NONE


@pytest.mark.parametrize("death", [Close(), Reset(), EndSending()], ids=["closes", "resets", "half-closes"])
@both_loops
async def test_after_a_hang_up_every_end_is_the_end(death: Step) -> None:
    script = in_turn([BEGUN, AwaitEof(), MORE, Stall(0.01), death])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        reply.hang_up(2.0)
        assert b"".join(await read_all(reply)) == b"ab"
        assert await reply.read() == b""
        assert not reply.complete
        assert repr(pool) == NONE


@both_loops
async def test_a_hang_up_after_the_end_changes_nothing() -> None:
    async with ScriptedEngine(in_turn(OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await read_all(reply) == [b"ok"]
        reply.hang_up(0.1)
        assert reply.complete
        assert await ask(pool, engine.origin) == b"ok"
        assert len(engine.connections) == 1


@both_loops
async def test_a_hang_up_ends_a_request_that_is_still_being_written() -> None:
    script = in_turn([BEGUN, Stall(0.05), AwaitEof()])
    async with ScriptedEngine(script, read_bodies=False) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, LARGE_HEAD, LARGE)
        reply.hang_up(1.0)
        assert await read_all(reply) == [b"a"]
        assert engine.connections[0].ended == "eof"
        assert 0 < len(engine.connections[0].rest) < len(LARGE)


# Hang-up before the head.


@both_loops
async def test_a_hang_up_before_the_head_still_gets_the_reply() -> None:
    begun: list[Exchange] = []
    async with ScriptedEngine(in_turn([AwaitEof(), *OK])) as engine, pool_with() as pool:
        sending = asyncio.ensure_future(pool.send(engine.origin, HEAD, BODY, begun.append))
        await until(lambda: bool(engine.requests))
        begun[0].hang_up(2.0)
        reply = await sending
        assert await read_all(reply) == [b"ok"]
        assert reply.complete
        assert repr(pool) == NONE


@pytest.mark.parametrize("after", [Hold(), Close(), Reset()], ids=["goes on", "closes", "resets"])
@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@both_loops
async def test_a_hang_up_before_the_head_is_broken_and_never_sent_again(after: Step, *, reused: bool) -> None:
    script = in_turn(*([OK] if reused else []), [AwaitEof(), after])
    begun: list[Exchange] = []
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        if reused:
            await ask(pool, engine.origin)
        sending = asyncio.ensure_future(pool.send(engine.origin, HEAD, BODY, begun.append))
        await until(lambda: len(engine.requests) == 1 + reused)
        began = time.monotonic()
        begun[0].hang_up(0.1)
        with pytest.raises(UpstreamBroken, match="hung up"):
            await sending
        assert time.monotonic() - began < 0.1 + LATE_S
        assert (len(begun), len(engine.requests), pool.retries) == (1, 1 + reused, 0)
        assert repr(pool) == NONE


@both_loops
async def test_each_attempt_is_announced() -> None:
    begun: list[Exchange] = []
    async with ScriptedEngine(in_turn(OK, [Close()], OK)) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        reply = await pool.send(engine.origin, HEAD, BODY, begun.append)
        assert len(begun) == 2
        assert begun[1] is reply


@both_loops
async def test_an_announcement_that_fails_leaves_nothing() -> None:
    def fail(_: Exchange) -> None:
        raise LookupError

    async with ScriptedEngine(in_turn([Hold()])) as engine, pool_with() as pool:
        with pytest.raises(LookupError):
            await pool.send(engine.origin, HEAD, BODY, fail)
        assert repr(pool) == NONE


# A limited rest.


@both_loops
async def test_a_rest_that_ends_within_its_limit_leaves_the_connection_to_others() -> None:
    async with ScriptedEngine(in_turn([BEGUN, Stall(0.05), END], OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        reply.expire(2.0)
        assert await read_all(reply) == [b"c"]
        assert reply.complete
        assert repr(pool) == ONE_IDLE


@both_loops
async def test_a_rest_ends_at_its_limit_whether_it_is_read_or_not() -> None:
    async with ScriptedEngine(in_turn([BEGUN, Hold()])) as engine, pool_with() as pool:
        read, unread = [await pool.send(engine.origin, HEAD, BODY) for _ in range(2)]
        began = time.monotonic()
        read.expire(0.1)
        unread.expire(0.1)
        assert await read_all(read) == [b"a"]
        assert 0.1 <= time.monotonic() - began < 0.1 + LATE_S
        await until(lambda: repr(pool) == NONE)
        assert await read_all(unread) == [b"a"]
        assert not unread.complete


@pytest.mark.parametrize("limits_s", [(0.05, 9.0), (9.0, 0.05)])
@both_loops
async def test_of_two_limits_the_soonest_holds(limits_s: tuple[float, float]) -> None:
    async with ScriptedEngine(in_turn([BEGUN, AwaitEof(), Stall(5)])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        began = time.monotonic()
        reply.expire(limits_s[0])
        reply.hang_up(limits_s[1])
        assert await read_all(reply) == [b"a"]
        assert time.monotonic() - began < 0.05 + LATE_S


# TLS.


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=LOOPBACK_PEM)


@both_loops
async def test_a_connection_over_tls_is_used_again() -> None:
    script = in_turn(OK, [Send(sized(BLOCK))])
    async with ScriptedEngine(script, tls=True) as engine, pool_with(ssl_context=trusting()) as pool:
        assert await ask(pool, engine.origin) == b"ok"
        await asyncio.sleep(0.02)
        assert await ask(pool, engine.origin) == BLOCK
        assert len(engine.connections) == 1


@both_loops
async def test_a_certificate_that_is_not_trusted_is_unreachable() -> None:
    async with ScriptedEngine(in_turn(OK), tls=True) as engine, pool_with() as pool:
        with pytest.raises(UpstreamUnreachable, match="certificate verify failed"):
            await pool.send(engine.origin, HEAD, BODY)


@both_loops
async def test_a_hang_up_over_tls_only_reads_on() -> None:
    script = in_turn([BEGUN, Stall(0.05), MORE, END], [BEGUN, Hold()])
    async with ScriptedEngine(script, tls=True) as engine, pool_with(ssl_context=trusting()) as pool:
        ending = await pool.send(engine.origin, HEAD, BODY)
        ending.hang_up(2.0)
        assert b"".join(await read_all(ending)) == b"abc"
        assert ending.complete
        assert repr(pool) == NONE
        endless = await pool.send(engine.origin, HEAD, BODY)
        endless.hang_up(0.1)
        assert await read_all(endless) == [b"a"]
        assert not endless.complete


@both_loops
async def test_a_body_that_breaks_off_over_tls_is_broken() -> None:
    script = in_turn([BEGUN, Stall(0.01), Reset()])
    async with ScriptedEngine(script, tls=True) as engine, pool_with(ssl_context=trusting()) as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"a"
        with pytest.raises(UpstreamBroken):
            await reply.read()
