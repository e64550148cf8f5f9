"""Bytes to replies: every framing, every split, every way of breaking off, and bytes that are no reply at all."""

import pytest

from billing.errors import UpstreamBroken
from tests.gateway.scripted_engine import (
    Close,
    Reset,
    ScriptedEngine,
    Send,
    Stall,
    Step,
    chunk,
    chunked,
    chunked_head,
    in_turn,
    replay,
    sized,
)
from tests.gateway.upstream_kit import BODY, HEAD, ask, both_loops, pool_with, read_all

OK = [Send(sized(b"ok"))]
NONE = "<UpstreamPool 0 active, 0 idle>"
ONE_IDLE = "<UpstreamPool 0 active, 1 idle>"
HEAD_ONLY = b"HEAD /v1/x HTTP/1.1\r\nHost: engine\r\n\r\n"

SIZED = sized(b'{"a":1}\r\n\r\n', "200 OK", "Content-Type: application/json", "X-Empty:")
CHUNKED = (
    chunked_head("Content-Type: text/event-stream")
    + chunk(b"data: 1\n\n", ";name=value")
    + chunk(b"data: \r\n\r\n", ';quoted="a;b"')
    + b"0;last\r\nX-Sum: 2\r\nX-More: y\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall\r\n\r\nof it"
INFORMED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(b"ok")
EMPTY = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"

SMALL = {
    "sized": (SIZED, b'{"a":1}\r\n\r\n'),
    "chunked": (CHUNKED, b"data: 1\n\ndata: \r\n\r\n"),
    "informed": (INFORMED, b"ok"),
    "empty": (EMPTY, b""),
}


def provable(data: bytes, split: int) -> bool:
    """Whether the exact end of a reply can be told although it was split: not within line ends that may be its last."""
    if data is CHUNKED:
        return split < len(data) - len(b"\r\n\r\n")
    in_head = split < data.index(b"\r\n\r\n") + 4
    return not in_head or data[split] not in b"\r\n"


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
@both_loops
async def test_a_reply_is_the_same_wherever_it_is_split(case: tuple[bytes, bytes]) -> None:
    data, body = case
    splits = range(1, len(data))
    async with ScriptedEngine(in_turn(*([Send(data, [at])] for at in splits))) as engine, pool_with() as pool:
        for split in splits:
            reply = await pool.send(engine.origin, HEAD, BODY)
            assert b"".join(await read_all(reply)) == body
            assert reply.complete
            assert reply.status == (204 if data is EMPTY else 200)
            # After informational replies in the same read the connection is given up, which is always safe.
            assert data is INFORMED or repr(pool) == (ONE_IDLE if provable(data, split) else NONE)
        assert pool.retries == 0


@both_loops
async def test_a_reply_until_close_is_the_same_wherever_it_is_split() -> None:
    splits = range(1, len(UNTIL_CLOSE))
    answers: list[list[Step]] = [[Send(UNTIL_CLOSE, [at]), Close()] for at in splits]
    script = in_turn(*answers)
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        for _ in splits:
            reply = await pool.send(engine.origin, HEAD, BODY)
            assert b"".join(await read_all(reply)) == b"all\r\n\r\nof it"
            assert reply.complete
            assert repr(pool) == NONE


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
@both_loops
async def test_a_reply_may_come_in_crumbs(case: tuple[bytes, bytes], every: int) -> None:
    data, body = case
    async with ScriptedEngine(in_turn([Send(data, split_every=every)], OK)) as engine, pool_with() as pool:
        assert await ask(pool, engine.origin) == body
        assert await ask(pool, engine.origin) == b"ok"


@both_loops
async def test_chunks_of_one_read_are_one_piece_and_reads_stay_apart() -> None:
    data = chunked_head() + chunk(b"a") + chunk(b"b") + chunk(b"c") + chunk(b"d") + b"0\r\n\r\n"
    cut = len(chunked_head() + chunk(b"a") + chunk(b"b"))
    async with ScriptedEngine(in_turn([Send(data, [cut])])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await read_all(reply) == [b"ab", b"cd"]


# Heads.


@both_loops
async def test_headers_keep_their_order_and_lose_their_case_and_no_trailer_joins_them() -> None:
    data = (
        chunked_head("Server: X", "Set-Cookie: a", "SET-COOKIE: B") + chunk(b"a") + b"0\r\nX-Sum: 1\r\n\r\n"
    )
    async with ScriptedEngine(in_turn([Send(data)])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await read_all(reply) == [b"a"]
        names = [
            (b"server", b"X"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"B"),
            (b"transfer-encoding", b"chunked"),
        ]
        assert reply.headers == names


@both_loops
async def test_informational_replies_are_skipped() -> None:
    async with ScriptedEngine(in_turn([Send(INFORMED)])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert (reply.status, reply.headers) == (200, [(b"content-length", b"2")])
        assert await read_all(reply) == [b"ok"]


WITHOUT_BODY = {
    "HEAD, sized": (HEAD_ONLY, sized(b"12345")[:-5]),
    "HEAD, chunked": (HEAD_ONLY, chunked_head()),
    "204": (HEAD, EMPTY),
    "304, sized": (HEAD, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
}


@pytest.mark.parametrize("case", WITHOUT_BODY.values(), ids=WITHOUT_BODY)
@both_loops
async def test_a_reply_that_can_have_no_body_ends_with_its_head(case: tuple[bytes, bytes]) -> None:
    head, answer = case
    async with ScriptedEngine(in_turn([Send(answer)], OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, head, BODY if head is HEAD else b"")
        assert reply.complete
        assert await reply.read() == b""
        assert await ask(pool, engine.origin) == b"ok"
        assert len(engine.connections) == 1


@pytest.mark.parametrize("answer", [sized(b"body"), chunked(b"body")], ids=["sized", "chunked"])
@both_loops
async def test_a_body_that_a_reply_to_head_must_not_have_is_surplus(answer: bytes) -> None:
    async with ScriptedEngine(in_turn([Send(answer)], OK)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD_ONLY, b"")
        assert await reply.read() == b""
        assert repr(pool) == NONE


# Too much.

LIMIT = 512
PADDING = f"X-Padding: {'p' * LIMIT}"
ENDLESS = {
    "head": sized(b"ok", "200 OK", PADDING),
    "headers": sized(b"ok", "200 OK", *["A: b"] * LIMIT),
    "informational": b"HTTP/1.1 100 Continue\r\n\r\n" * LIMIT + sized(b"ok"),
}


@pytest.mark.parametrize("every", [None, 60], ids=["at once", "in crumbs"])
@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS)
@both_loops
async def test_a_head_is_bounded_however_it_comes(data: bytes, every: int | None) -> None:
    script = in_turn([Send(data, split_every=every)])
    async with ScriptedEngine(script) as engine, pool_with(head_bytes_max=LIMIT) as pool:
        with pytest.raises(UpstreamBroken, match=r"512 bytes|bytes without a body"):
            await pool.send(engine.origin, HEAD, BODY)
        assert repr(pool) == NONE


@pytest.mark.parametrize("every", [None, 60], ids=["at once", "in crumbs"])
@both_loops
async def test_a_small_head_passes_with_any_body(every: int | None) -> None:
    script = in_turn([Send(sized(b"b" * 4 * LIMIT), split_every=every)])
    async with ScriptedEngine(script) as engine, pool_with(head_bytes_max=LIMIT) as pool:
        assert len(await ask(pool, engine.origin)) == 4 * LIMIT
        assert repr(pool) == ONE_IDLE


NO_BODY = {"trailers": b"0\r\n" + b"X: y\r\n" * LIMIT, "extension": b"1;" + b"x" * 4 * LIMIT}


@pytest.mark.parametrize("flood", NO_BODY.values(), ids=NO_BODY)
@both_loops
async def test_a_flood_that_is_not_body_ends(flood: bytes) -> None:
    script = in_turn([Send(chunked_head() + chunk(b"a")), Stall(0.01), Send(flood, split_every=100)])
    async with ScriptedEngine(script) as engine, pool_with(head_bytes_max=LIMIT) as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        with pytest.raises(UpstreamBroken, match="bytes without a body"):
            await read_all(reply)


# Not a reply.

BODY_OF_2 = b"Content-Length: 2\r\n"
MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "status of two digits": b"HTTP/1.1 99 OK\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nBroken\r\n\r\n",
    "a zero byte in a header": b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\n" + BODY_OF_2 + BODY_OF_2 + b"\r\nok",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "length, then chunks": b"HTTP/1.1 200 OK\r\n" + BODY_OF_2 + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks, then length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + BODY_OF_2 + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "compressed transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "compressed chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another protocol agreed": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "an informational body": b"HTTP/1.1 199 What\r\n" + BODY_OF_2 + b"\r\nno" + sized(b"ok"),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
@both_loops
async def test_what_is_no_reply_is_refused(data: bytes) -> None:
    async with ScriptedEngine(in_turn(OK, [Send(data)])) as engine, pool_with() as pool:
        await ask(pool, engine.origin)
        with pytest.raises(UpstreamBroken):
            await pool.send(engine.origin, HEAD, BODY)
        assert repr(pool) == NONE
        assert len(engine.requests) == 2


BAD_CHUNKS = {
    "no size": b"zz\r\n",
    "a size too large": b"f" * 17 + b"\r\n",
    "no line end after the data": b"1\r\nbX\r\n",
    "a bare line feed": b"1\nb\r\n",
}


@pytest.mark.parametrize("bad", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
@pytest.mark.parametrize("pause_s", [0.0, 0.01], ids=["with the head", "later"])
@both_loops
async def test_what_came_before_a_bad_chunk_is_delivered(bad: bytes, pause_s: float) -> None:
    good = chunked_head() + chunk(b"a")
    offsets = [len(good)] if pause_s else []
    async with (
        ScriptedEngine(in_turn([Send(good + bad, offsets, pause_s=pause_s)])) as engine,
        pool_with() as pool,
    ):
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert (await reply.read())[:1] == b"a"
        with pytest.raises(UpstreamBroken, match="not a reply"):
            await read_all(reply)
        assert not reply.complete
        assert repr(pool) == NONE


# Breaking off.

STAGES = {
    "in a sized body": sized(b"whole")[:-2],
    "before a sized body": sized(b"whole")[:-5],
    "before a chunk": chunked_head(),
    "in a chunk": chunked_head() + chunk(b"a") + b"5\r\nab",
    "in a chunk's size": chunked_head() + chunk(b"a") + b"5",
    "before the last chunk": chunked_head() + chunk(b"a"),
    "in the last chunk": chunked_head() + chunk(b"a") + b"0\r\n",
    "in the trailers": chunked_head() + chunk(b"a") + b"0\r\nX: y\r\n",
}


@pytest.mark.parametrize("death", [Close(), Reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@both_loops
async def test_a_body_that_breaks_off_is_no_end(stage: bytes, death: Step) -> None:
    async with ScriptedEngine(in_turn([Send(stage), Stall(0.01), death])) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        for _ in range(2):
            with pytest.raises(UpstreamBroken, match="broke off"):
                await read_all(reply)
        assert not reply.complete
        assert repr(pool) == NONE


@pytest.mark.parametrize("death", [Close(), Reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("length", [1, 12, 30])
@both_loops
async def test_a_head_that_breaks_off_is_broken(length: int, death: Step) -> None:
    script = in_turn([Send(SIZED[:length]), Stall(0.01), death])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        with pytest.raises(UpstreamBroken, match="broke off"):
            await pool.send(engine.origin, HEAD, BODY)
        assert repr(pool) == NONE


@both_loops
async def test_a_reply_until_close_does_not_end_with_a_reset() -> None:
    async with (
        ScriptedEngine(in_turn([Send(UNTIL_CLOSE), Stall(0.01), Reset()])) as engine,
        pool_with() as pool,
    ):
        reply = await pool.send(engine.origin, HEAD, BODY)
        with pytest.raises(UpstreamBroken, match="broke off"):
            await read_all(reply)
        assert not reply.complete


# Recordings.

RECORDED_BODY = b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n'
RECORDED = b"HTTP/1.1 200 OK\r\nServer: x\r\ntransfer-encoding: chunked\r\n\r\n" + RECORDED_BODY


@pytest.mark.parametrize("every", [None, 1, 17])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@both_loops
async def test_a_recording_is_replayed_in_any_framing(framing: str, every: int | None) -> None:
    steps = replay(RECORDED, framing=framing, split_every=every)  # type: ignore[arg-type]  # one of the three
    async with ScriptedEngine(in_turn(steps)) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert b"".join(await read_all(reply)) == RECORDED_BODY
        assert reply.complete
        assert (b"server", b"x") in reply.headers


@both_loops
async def test_a_raw_recording_that_breaks_off_is_replayed_as_it_is() -> None:
    raw = RECORDED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + chunk(b"data: 1\n\n") + b"5\r\nda"
    script = in_turn([*replay(raw, framing="recorded"), Close()])
    async with ScriptedEngine(script) as engine, pool_with() as pool:
        reply = await pool.send(engine.origin, HEAD, BODY)
        assert await reply.read() == b"data: 1\n\nda"
        with pytest.raises(UpstreamBroken):
            await reply.read()


def test_a_recording_becomes_a_chunk_for_each_event_or_for_so_many_bytes() -> None:
    (by_event,) = replay(RECORDED)
    assert isinstance(by_event, Send)
    assert by_event.data.count(b"f\r\ndata") == 2
    (by_bytes,) = replay(RECORDED, chunk_bytes=10)
    assert isinstance(by_bytes, Send)
    assert by_bytes.data.count(b"\r\na\r\n") == 4


@both_loops
async def test_framing_that_comes_apart_from_the_text_never_adds_up_to_a_reply_without_a_body() -> None:
    pieces = 400
    stream = chunked_head() + b"".join([chunk(b"x")] * pieces) + b"0\r\n\r\n"
    first, splits = len(chunked_head()), []
    for number in range(pieces):
        start = first + number * len(chunk(b"x"))
        splits += [start, start + 3, start + 4]
    async with (
        ScriptedEngine(in_turn([Send(stream, splits)])) as engine,
        pool_with(head_bytes_max=len(chunked_head()) + 500) as pool,
    ):
        assert await ask(pool, engine.origin) == b"x" * pieces
