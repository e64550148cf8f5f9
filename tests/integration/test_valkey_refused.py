"""What surely did nothing is told apart from what nobody knows: only the second needs to be undone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.errors import Unavailable
from billing.infra.valkey import NotExecuted, Script, ValkeyError
from tests.integration.valkey_kit import ScriptedValkey, ValkeyServer, connected

FIRST_DELETES = Script("redis.call('DEL', KEYS[1]); return redis.call('SET', KEYS[2], ARGV[1])")
FIRST_WRITES = Script("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('SET', KEYS[2], ARGV[1])")
FIRST_OF_TWO = Script("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('INCR', KEYS[2])")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


async def test_a_full_server_stops_a_script_before_its_first_write_or_not_at_all(
    server: ValkeyServer,
) -> None:
    async with connected(server.url) as client:
        await client.call("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(NotExecuted, match="OOM"):
            await client.script(FIRST_WRITES, [b"a", b"b"], [1])
        assert await client.call("DBSIZE") == 0
        assert await client.script(FIRST_DELETES, [b"a", b"b"], [1]) == b"OK"


async def test_what_was_never_sent_did_nothing(server: ValkeyServer) -> None:
    async with connected(server.url, queue_max=2) as client:
        waiting = client.call("BLPOP", "nothing", 0)
        client.call("PING")
        with pytest.raises(NotExecuted, match="2 calls wait"):
            await client.call("PING")
        await asyncio.sleep(0.02)
        server.kill()
        with pytest.raises(Unavailable, match="was lost") as lost:
            await waiting
        assert not isinstance(lost.value, NotExecuted)
        with pytest.raises(NotExecuted, match="is not connected"):
            await client.call("PING")


async def test_of_what_was_sent_and_not_answered_nobody_knows(server: ValkeyServer) -> None:
    async with connected(server.url, timeout_s=0.05) as client:
        with server.stopped(), pytest.raises(Unavailable, match="within 50 ms") as late:
            await client.call("INCR", "key")
        assert not isinstance(late.value, NotExecuted)


@pytest.mark.parametrize("code", ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "BUSY", "TRYAGAIN", "MISCONF"])
async def test_a_server_that_cannot_serve_says_so_before_it_does_anything(code: str) -> None:
    async with ScriptedValkey(f"-{code} not now\r\n".encode()) as server, connected(server.url) as client:
        with pytest.raises(NotExecuted, match=code):
            await client.script(FIRST_WRITES, [b"a", b"b"], [1])


async def test_a_script_that_may_not_go_on_has_perhaps_written(server: ValkeyServer) -> None:
    rules = ("on", "nopass", "~*", "+@all", "-incr")
    server.ask("ACL", "SETUSER", "narrow", *rules)
    place = server.url.removeprefix("redis://")
    async with connected(f"redis://narrow:any@{place}") as client:
        with pytest.raises((Unavailable, ValkeyError), match=r"NOPERM|ACL") as refused:
            await client.script(FIRST_OF_TWO, [b"a", b"b"], [1])
        assert not isinstance(refused.value, NotExecuted)
        assert server.ask("DBSIZE") == 1
