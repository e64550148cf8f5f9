"""A Valkey that dies, stalls or says what nobody asked: calls fail at once, nobody gets another's reply, it comes back."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.errors import Unavailable
from billing.infra.valkey import Request, Valkey
from tests.integration.valkey_kit import (
    HELLO,
    PONG,
    ScriptedValkey,
    ValkeyServer,
    connected,
    eventually,
    valkey,
)

AT_ONCE_S = 0.05
BACK_WITHIN_S = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


async def echo(client: Valkey, word: str) -> bytes:
    return bytes(await client.call("ECHO", word))


async def test_a_kill_fails_what_waits_and_what_comes_until_the_server_is_back(server: ValkeyServer) -> None:
    seen: list[float] = []
    async with connected(server.url, on_connected=lambda: seen.append(time.monotonic())) as client:
        await asyncio.sleep(0)
        assert len(seen) == 1
        waiting = [client.call("BLPOP", "nothing", 0) for _ in range(5)]
        await asyncio.sleep(0.02)
        server.kill()
        began = time.monotonic()
        for call in waiting:
            with pytest.raises(Unavailable, match="was lost"):
                await call
        assert time.monotonic() - began < AT_ONCE_S
        began = time.monotonic()
        with pytest.raises(Unavailable, match="is not connected"):
            await client.call("PING")
        assert time.monotonic() - began < AT_ONCE_S
        assert not client.connected
        await asyncio.sleep(0.8)  # the pauses between attempts have grown to their longest
        server.start()
        await eventually(lambda: client.connected, BACK_WITHIN_S)
        assert await echo(client, "back") == b"back"
        await asyncio.sleep(0)
        assert len(seen) == 2


async def test_a_server_that_is_not_there_is_no_error_until_it_is_asked(server: ValkeyServer) -> None:
    server.kill()
    async with connected(server.url) as client:
        assert not client.connected
        with pytest.raises(Unavailable, match=r"is not connected: .*Connect call failed"):
            await client.call("PING")
        server.start()
        await eventually(lambda: client.connected, BACK_WITHIN_S)
        assert await echo(client, "here") == b"here"


async def test_a_call_that_nobody_awaits_fails_in_silence(server: ValkeyServer) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    async with connected(server.url) as client:
        client.call("BLPOP", "nothing", 0)
        await asyncio.sleep(0.02)
        server.kill()
        await eventually(lambda: not client.connected, 1.0)
        client.call("PING")
    assert not reports


async def test_an_error_in_the_callback_does_not_end_the_connection(server: ValkeyServer) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    async with connected(server.url, on_connected=lambda: 1 // 0) as client:
        assert await echo(client, "works") == b"works"
    assert len(reports) == 1


async def test_a_reply_too_many_closes_the_connection_and_nobody_gets_it() -> None:
    async with (
        ScriptedValkey(b"+one\r\n+extra\r\n", b"+two\r\n") as server,
        connected(server.url) as client,
    ):
        first = client.call("ONE")
        assert await first == b"one"
        with pytest.raises(Unavailable, match="not connected: the server sent more than was asked for"):
            await client.call("TWO")
        await eventually(lambda: client.connected, BACK_WITHIN_S)
        assert server.connections == 2


async def test_a_reply_before_its_command_was_written_is_not_taken_for_its_reply() -> None:
    async with ScriptedValkey() as server, connected(server.url) as client:
        # Both are ready in the same turn: the bytes that nobody asked for, and the call that is not written yet.
        server.say(b"+extra\r\n")
        time.sleep(0.02)
        with pytest.raises(Unavailable, match="more than was asked for"):
            await client.call("ONE")


@pytest.mark.parametrize("extra", [b"$", b"*2\r\n:1\r\n:", b"\r\n", b"?"])
async def test_any_byte_beyond_the_last_reply_closes_the_connection(extra: bytes) -> None:
    async with ScriptedValkey(b"+one\r\n" + extra) as server, connected(server.url) as client:
        assert await client.call("ONE") == b"one"
        assert not client.connected


async def test_bytes_that_are_no_protocol_close_the_connection() -> None:
    async with ScriptedValkey(b"HTTP/1.1 200 OK\r\n") as server, connected(server.url) as client:
        with pytest.raises(Unavailable, match="Protocol error"):
            await client.call("ONE")
        assert not client.connected


async def test_half_a_reply_and_then_silence_ends_with_the_connection() -> None:
    async with (
        ScriptedValkey(b"$5\r\nhal") as server,
        connected(server.url, timeout_s=0.05, stall_timeout_s=0.2) as client,
    ):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer within 50 ms"):
            await client.call("ONE")
        assert client.connected
        await eventually(lambda: not client.connected, 0.4)
        assert time.monotonic() - began > 0.19
        assert "no reply for 0.2 s" in repr(client)
        await eventually(lambda: client.connected, BACK_WITHIN_S)


async def test_a_reply_in_many_reads_is_one_reply(server: ValkeyServer) -> None:
    async with connected(server.url, timeout_s=5.0) as client:
        word = "x" * 5_000_000
        assert await asyncio.gather(echo(client, word), echo(client, "y")) == [word.encode(), b"y"]


async def test_a_server_that_never_greets_is_given_up_and_tried_again() -> None:
    async with ScriptedValkey() as server:
        server.greeting = b""
        began = time.monotonic()
        async with connected(server.url, connect_timeout_s=0.1) as client:
            assert time.monotonic() - began < 0.4
            assert not client.connected
            server.greeting = HELLO + PONG
            await eventually(lambda: client.connected, BACK_WITHIN_S)


@pytest.mark.parametrize(
    "greeting", [b"+OK\r\n+PONG\r\n", b"-ERR unknown command\r\n+PONG\r\n", HELLO + b"-LOADING\r\n"]
)
async def test_a_server_that_greets_otherwise_is_not_connected(greeting: bytes) -> None:
    async with ScriptedValkey() as server:
        server.greeting = greeting
        async with connected(server.url) as client:
            assert not client.connected
            with pytest.raises(Unavailable, match=r"not as Valkey|unknown command|LOADING"):
                await client.call("PING")


async def test_attempts_are_spaced() -> None:
    async with ScriptedValkey() as server:
        server.greeting = b"+OK\r\n+PONG\r\n"
        async with connected(server.url):
            await asyncio.sleep(2.4)
    assert 8 <= server.connections <= 9  # at 0, 20, 60, 140, 300, 620, 1120, 1620 and 2120 ms


async def test_what_is_to_be_said_first_is_said_before_any_call_on_each_connection(
    server: ValkeyServer,
) -> None:
    client = valkey(server.url)
    modes: list[bool] = []

    async def greet(request: Request, is_cluster: bool) -> None:
        modes.append(is_cluster)
        await asyncio.sleep(0.01)
        await request("SET", "greeted", len(modes))

    client.greet_with(greet)
    try:
        first = client.call("GET", "greeted")  # held until the first attempt is over
        await client.connect()
        assert await first == b"1"
        server.kill()
        await eventually(lambda: not client.connected, 3.0)
        server.start()
        await eventually(lambda: client.connected, 3.0)
        assert await client.call("GET", "greeted") == b"2"
        assert modes == [False, False]
    finally:
        await client.close()


async def test_a_server_that_cannot_do_what_is_said_first_is_not_connected_to(server: ValkeyServer) -> None:
    client = valkey(server.url)

    async def greet(request: Request, is_cluster: bool) -> None:
        await request("SET", "greeted", int(is_cluster))

    client.greet_with(greet)
    server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        await client.connect()
        assert not client.connected
        assert "cannot serve now: OOM" in repr(client)
        server.ask("CONFIG", "SET", "maxmemory", 0)
        await eventually(lambda: client.connected, 3.0)
    finally:
        await client.close()
