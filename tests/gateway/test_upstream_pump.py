"""A sink gets what reading would give, in the same order and with the same ends, and holds back as a reader does."""

import asyncio

import pytest

from billing.errors import UpstreamBroken, UpstreamTimeout
from billing.gateway.reply import UNREAD_BYTES_HIGH
from tests.gateway.scripted_engine import (
    Hold,
    Reset,
    ScriptedEngine,
    Send,
    Stall,
    chunk,
    chunked_head,
    in_turn,
    sized,
)
from tests.gateway.upstream_kit import BODY, HEAD, ask, both_loops, pool_with, until

OK = [Send(sized(b"ok"))]
BEGIN = Send(chunked_head() + chunk(b"a"))
MORE = Send(chunk(b"b"))
END = Send(chunk(b"c") + b"0\r\n\r\n")


@both_loops
async def test_a_sink_gets_each_piece_and_the_connection_serves_the_next() -> None:
    script = in_turn([BEGIN, Stall(0.02), MORE, Stall(0.02), END], OK)
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        got: list[bytes] = []

        def take(piece: bytes) -> bool:
            got.append(piece)
            return True

        assert await reply.pump(take) is False
        assert (got, reply.complete) == ([b"a", b"b", b"c"], True)
        assert await reply.pump(take) is False
        assert await ask(pool, engine.origin) == b"ok"
        assert len(engine.connections) == 1


@both_loops
async def test_a_sink_that_takes_no_more_is_asked_again_when_it_does() -> None:
    async with (
        ScriptedEngine(in_turn([BEGIN, Stall(0.02), MORE, Stall(0.02), END])) as engine,
        pool_with() as pool,
    ):
        reply = await pool.send(engine.origin, HEAD, BODY)
        got: list[bytes] = []

        def one(piece: bytes) -> bool:
            got.append(piece)
            return False

        stops = 0
        while await reply.pump(one):
            stops += 1
            await asyncio.sleep(0.03)
        assert (got, stops) == ([b"a", b"b", b"c"], 3)


@both_loops
async def test_what_comes_while_nobody_pumps_waits_and_slows_the_engine() -> None:
    body = b"z" * (8 * UNREAD_BYTES_HIGH)
    async with ScriptedEngine(in_turn([Send(sized(body))])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        got: list[bytes] = []
        assert await reply.pump(lambda piece: bool(got.append(piece)))  # type: ignore[func-returns-value]  # takes one
        await asyncio.sleep(0.05)
        assert reply._unread_bytes < len(body)
        assert await reply.pump(lambda piece: not got.append(piece)) is False  # type: ignore[func-returns-value]  # all
        assert b"".join(got) == body


@both_loops
async def test_a_body_that_breaks_off_is_raised_to_whoever_pumps() -> None:
    async with ScriptedEngine(in_turn([BEGIN, Stall(0.02), Reset()])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        with pytest.raises(UpstreamBroken):
            await reply.pump(lambda _piece: True)
        assert not reply.complete


@both_loops
async def test_the_longest_silence_is_between_two_pieces_and_not_over_all_of_them() -> None:
    pieces = [step for _ in range(6) for step in (Stall(0.15), MORE)]
    async with (
        ScriptedEngine(in_turn([BEGIN, *pieces, END], [BEGIN, Hold()])) as engine,
        pool_with(idle_timeout_s=0.5) as pool,
    ):
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.pump(lambda _piece: True) is False
        silent = await pool.send(engine.origin, HEAD, BODY)
        with pytest.raises(UpstreamTimeout, match="no body for"):
            await silent.pump(lambda _piece: True)


@both_loops
async def test_after_a_hang_up_only_the_grace_is_left_however_much_comes() -> None:
    pieces = [step for _ in range(40) for step in (Stall(0.05), MORE)]
    async with ScriptedEngine(in_turn([BEGIN, *pieces])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        began_s = asyncio.get_running_loop().time()
        reply.hang_up(0.2)
        assert await reply.pump(lambda _piece: True) is False
        assert asyncio.get_running_loop().time() - began_s < 1.0
        reply.close()


@both_loops
async def test_what_a_sink_raises_reaches_whoever_pumps_and_ends_nothing_else() -> None:
    async with (
        ScriptedEngine(in_turn([BEGIN, Stall(0.02), MORE, Stall(0.02), END])) as engine,
        pool_with() as pool,
    ):
        reply = await pool.send(engine.origin, HEAD, BODY)

        def fail(piece: bytes) -> bool:
            if piece == b"b":
                raise ValueError("no such piece")
            return True

        with pytest.raises(ValueError, match="no such piece"):
            await reply.pump(fail)
        reply.close()
        await until(lambda: "0 active" in repr(pool))


@both_loops
async def test_whoever_is_cancelled_while_pumping_aborts_the_exchange() -> None:
    async with ScriptedEngine(in_turn([BEGIN, Hold()])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        pumping = asyncio.ensure_future(reply.pump(lambda _piece: True))
        await asyncio.sleep(0.05)
        pumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pumping
        await until(lambda: "0 active" in repr(pool))
