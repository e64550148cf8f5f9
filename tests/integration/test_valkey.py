"""The hot path's client on a real Valkey: replies reach their callers, whatever becomes of the callers before them."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from billing.errors import Misconfigured, Unavailable
from billing.infra.valkey import Script, Valkey, ValkeyError
from tests.integration.valkey_kit import ValkeyServer, connected, eventually, valkey

ECHO = Script("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
WORD = "a password: with @ and /"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


async def test_values_come_back_as_the_server_sent_them(valkey_url: str) -> None:
    async with connected(valkey_url) as client:
        assert client.connected
        assert await client.call("SET", b"values:text", "λ") == b"OK"
        assert await client.call("GET", "values:text") == "λ".encode()
        assert await client.call("GET", "values:absent") is None
        assert await client.call("INCRBY", "values:number", 2**62) == 2**62
        assert await client.call("EVAL", "return {1, false, {'x'}}", 0) == [1, None, [b"x"]]
        assert await client.call("DEL", "values:text", "values:number") == 2


async def test_an_error_reply_is_its_own_callers_alone(valkey_url: str) -> None:
    async with connected(valkey_url) as client:
        await client.call("SET", "errors:text", "x", "EX", 60)
        before, wrong, after = await asyncio.gather(
            client.call("ECHO", "before"),
            client.call("LPUSH", "errors:text", 1),
            client.call("ECHO", "after"),
            return_exceptions=True,
        )
        assert (before, after) == (b"before", b"after")
        assert isinstance(wrong, ValkeyError)
        assert wrong.code == "WRONGTYPE"


async def test_a_word_that_cannot_be_sent_is_refused_and_nothing_is_shifted(valkey_url: str) -> None:
    async with connected(valkey_url) as client:
        first = client.call("ECHO", 1)
        with pytest.raises(TypeError):
            client.call("ECHO", None)  # type: ignore[arg-type] # what a caller's bug looks like
        assert (await first, await client.call("ECHO", 2)) == (b"1", b"2")


async def test_commands_of_one_turn_are_one_write(server: ValkeyServer) -> None:
    async with connected(server.url) as client:

        async def reads() -> int:
            lines = (await client.call("INFO", "stats")).split()
            return int(
                next(line for line in lines if line.startswith(b"total_reads_processed:")).split(b":")[1]
            )

        before = await reads()
        replies = await asyncio.gather(*(client.call("ECHO", number) for number in range(100)))
        assert replies == [str(number).encode() for number in range(100)]
        assert await reads() - before == 2  # the hundred, and the question itself


async def test_a_cancelled_callers_reply_goes_to_nobody(server: ValkeyServer) -> None:
    async with connected(server.url) as client:

        async def caller(number: int) -> bytes:
            return bytes(await client.call("ECHO", number))

        with server.stopped():
            tasks = [asyncio.create_task(caller(number)) for number in range(10)]
            await asyncio.sleep(0.02)
            for task in tasks[::2]:
                task.cancel()
            later = [asyncio.create_task(caller(number)) for number in range(10, 15)]
            await asyncio.sleep(0.02)
        replies = await asyncio.gather(*tasks[1::2], *later)
        assert replies == [str(number).encode() for number in (1, 3, 5, 7, 9, *range(10, 15))]
        assert client.waiting == 0


async def test_a_call_that_timed_out_keeps_its_place_and_its_late_reply_goes_to_nobody(
    server: ValkeyServer,
) -> None:
    async with connected(server.url, timeout_s=0.05) as client:
        with server.stopped():
            began = time.monotonic()
            with pytest.raises(Unavailable, match="did not answer within 50 ms"):
                await client.call("ECHO", "late")
            assert 0.045 < time.monotonic() - began < 0.2
            assert client.waiting == 1
            unheard = client.call("ECHO", "soon")
        assert await unheard == b"soon"
        assert await client.call("ECHO", "next") == b"next"
        assert client.waiting == 0


async def test_each_write_has_its_own_time(server: ValkeyServer) -> None:
    async with connected(server.url, timeout_s=0.1) as client:
        began = time.monotonic()

        async def ended(number: int) -> float:
            await asyncio.sleep(number * 0.2)
            with pytest.raises(Unavailable):
                await client.call("ECHO", number)
            return time.monotonic() - began

        with server.stopped():
            times = await asyncio.gather(*map(ended, range(4)))
            # Never too early, and none waits for the others' time, whatever else the machine does.
            for number, time_s in enumerate(times):
                assert -0.005 <= time_s - (0.1 + 0.2 * number) < 0.18
            began = time.monotonic()
            assert 0.095 <= await ended(0) < 0.4  # with nothing else that is still due


def test_a_busy_process_does_not_take_its_own_delay_for_the_servers(server: ValkeyServer) -> None:
    async def busy() -> bytes:
        async with connected(server.url, timeout_s=0.05) as client:
            reply = client.call("ECHO", "here")
            await asyncio.sleep(0)
            # Work of another connection: the reply lies in its socket while the timer's time passes.
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.send(b"x")
                loop = asyncio.get_running_loop()
                loop.add_reader(ours, lambda: (loop.remove_reader(ours), time.sleep(0.2)))
                return bytes(await reply)

    assert asyncio.run(busy()) == b"here"
    assert uvloop.run(busy()) == b"here"


async def test_the_queue_has_a_limit_and_says_so_at_once(server: ValkeyServer) -> None:
    async with connected(server.url, queue_max=5) as client:
        with server.stopped():
            replies = [client.call("ECHO", number) for number in range(3)]
            await asyncio.sleep(0.01)
            replies += [client.call("ECHO", number) for number in (3, 4)]
            for number in (5, 6):
                with pytest.raises(Unavailable, match="5 calls wait for Valkey"):
                    client.call("ECHO", number).result()  # it is done already
        assert await asyncio.gather(*replies) == [b"0", b"1", b"2", b"3", b"4"]
        assert await client.call("ECHO", 7) == b"7"


async def test_scripts_run_by_their_hash_and_are_sent_whole_when_the_server_forgot_them(
    server: ValkeyServer,
) -> None:
    async with connected(server.url) as client:
        assert await client.script(ECHO, [b"n"], ["first"]) == [b"n", b"first", 1]
        assert await client.script(ECHO, [b"n"], [2]) == [b"n", b"2", 2]
        await client.call("SCRIPT", "FLUSH")
        await client.call("CONFIG", "RESETSTAT")
        replies = await asyncio.gather(*(client.script(ECHO, [b"n"], [number]) for number in range(20)))
        assert [reply[1] for reply in replies] == [str(number).encode() for number in range(20)]
        assert sorted(reply[2] for reply in replies) == list(range(3, 23))
        assert await client.script(ECHO, [b"n"], ["known"]) == [b"n", b"known", 23]
        stats = (await client.call("INFO", "commandstats")).decode()
        assert "cmdstat_eval:calls=20," in stats
        assert "cmdstat_evalsha:calls=21," in stats


async def test_a_script_that_is_sent_again_has_no_more_time_for_it(server: ValkeyServer) -> None:
    slow = Script("local n = 0; for i = 1, tonumber(ARGV[1]) do n = n + i % 7 end; return n")
    async with connected(server.url, timeout_s=0.1, stall_timeout_s=20.0) as client:
        began = time.monotonic()
        with server.stopped():
            answer = client.script(slow, [], [40_000_000])
            await asyncio.sleep(0.07)
        with pytest.raises(Unavailable, match="within 100 ms"):
            await answer
        assert time.monotonic() - began < 0.15
        await eventually(lambda: client.waiting == 0, 20.0)
        assert await client.call("ECHO", "after") == b"after"


async def test_a_full_server_is_unavailable_and_not_a_callers_fault(server: ValkeyServer) -> None:
    async with connected(server.url) as client:
        await client.call("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(Unavailable, match="OOM"):
            await client.call("SET", "key", 1)


async def test_password_and_database_of_the_address_are_used(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey") as server:
        server.ask("CONFIG", "SET", "requirepass", WORD)
        place = f"127.0.0.1:{server.port}"
        async with connected(f"redis://:a%20password%3A%20with%20%40%20and%20%2F@{place}/3") as client:
            assert b" db=3 " in await client.call("CLIENT", "INFO")
            assert "password" not in repr(client)
        for wrong in (f"redis://:wrong@{place}", f"redis://{place}"):
            async with connected(wrong) as client:
                assert not client.connected
                with pytest.raises(Unavailable, match=r"WRONGPASS|NOAUTH"):
                    await client.call("PING")


async def test_a_replica_is_not_taken_for_the_primary(server: ValkeyServer) -> None:
    async with connected(server.url) as client:
        server.ask("REPLICAOF", "127.0.0.1", server.port)
        with pytest.raises(Unavailable, match="READONLY"):
            await client.call("SET", "key", 1)
        await eventually(lambda: "takes no writes" in repr(client), 2.0)
        assert not client.connected
        server.ask("REPLICAOF", "NO", "ONE")
        await eventually(lambda: client.connected, 2.0)
        assert await client.call("SET", "key", 1) == b"OK"


async def test_a_closed_client_takes_nothing(valkey_url: str) -> None:
    async with connected(valkey_url) as client:
        waiting = client.call("BLPOP", "closed:nothing", 0)
        assert "connected" in repr(client)
    for call in (waiting, client.call("PING")):
        with pytest.raises(Unavailable, match="closed"):
            await call
    assert not client.connected
    await client.close()


async def test_an_address_that_is_none_is_told_at_once() -> None:
    with pytest.raises(Misconfigured, match="REDIS_URL must be"):
        Valkey("localhost", timeout_s=1.0, queue_max=1)


async def test_a_client_may_be_closed_before_it_was_connected(valkey_url: str) -> None:
    client = valkey(valkey_url)
    early = client.call("PING")
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await early
