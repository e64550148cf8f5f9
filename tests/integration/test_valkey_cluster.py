"""The hot path's client on a cluster: every key is found, also while it moves, and a lost server takes only its own along."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.errors import Unavailable
from billing.infra.valkey import Reply, Script, Valkey
from billing.infra.valkey_cluster import SLOTS, slot_of
from tests.integration.valkey_kit import ValkeyServer, cluster, connected, eventually, joined

WRITE = Script("redis.call('SET', KEYS[1], ARGV[1]); redis.call('SET', KEYS[2], ARGV[1]); return ARGV[1]")
COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
BACK_WITHIN_S = 2.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ValkeyServer]]:
    with cluster(tmp_path, 2) as servers:
        yield servers


def key_at(number: int, word: str = "key") -> bytes:
    """A key of the first (0) or second (1) of two servers."""
    keys = (f"{{{word}{n}}}".encode() for n in range(1_000))
    return next(key for key in keys if slot_of(key) // (SLOTS // 2) == number)


def increment(client: Valkey, key: bytes) -> Reply:
    return client.call("INCR", key, key=key)


def calls_of(server: ValkeyServer, command: str, kind: str = "calls") -> int:
    """How often a server ran a command, or (``rejected_calls``) sent it elsewhere."""
    lines = server.ask("INFO", "commandstats").decode().splitlines()
    line = next((line for line in lines if line.startswith(f"cmdstat_{command}:")), ":")
    return int(dict(pair.split("=") for pair in line.partition(":")[2].split(",") if pair).get(kind, 0))


def move(slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
    """Give an empty slot to another server for good."""
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))


def begin_to_move(slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
    """Let a slot be on its way: what is not at its source is asked for at the target."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"{user1000}.following", slot_of(b"user1000")),
        (b"foo{}{bar}", slot_of(b"foo{}{bar}")),
        (b"foo{{bar}}zap", slot_of(b"{bar")),
        (b"foo{bar}{zap}", 5061),
        (b"foo{bar", slot_of(b"foo{bar")),
        (b"", 0),
    ],
)
def test_a_key_has_the_slot_of_its_hash_tag(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


def test_our_slots_are_the_servers(servers: list[ValkeyServer]) -> None:
    for key in (
        b"foo{}{bar}",
        b"foo{{bar}}zap",
        b"foo{bar}{zap}",
        b"{}",
        b"}{",
        b"a{b",
        "{λ}:x".encode(),
        b"",
    ):
        assert servers[0].ask("CLUSTER", "KEYSLOT", key) == slot_of(key)


async def test_keys_of_both_servers_are_reached_without_a_redirection(servers: list[ValkeyServer]) -> None:
    async with connected(servers[0].url) as client:
        keys = [f"k{number}".encode() for number in range(200)]
        assert await asyncio.gather(*(increment(client, key) for key in keys)) == [1] * 200
        assert await client.script(WRITE, [b"{t}:a", b"{t}:b"], [7]) == b"7"
        assert await client.call("PING") == b"PONG"
        assert "2 of 2 servers connected, 16384 slots known" in repr(client)
        assert sum(calls_of(server, "incr") for server in servers) == 200
        assert all(calls_of(server, "incr") > 50 for server in servers)


async def test_moved_slots_are_followed_and_the_map_is_read_once(servers: list[ValkeyServer]) -> None:
    first, second = servers
    key = key_at(0)
    async with connected(first.url) as client:
        await increment(client, key_at(1))
        move(slot_of(key), first, second)
        readings = sum(calls_of(server, "cluster|slots") for server in servers)
        assert sorted(await asyncio.gather(*(increment(client, key) for _ in range(50)))) == list(
            range(1, 51)
        )
        assert await increment(client, key) == 51
        assert calls_of(first, "incr", "rejected_calls") == 50
        await asyncio.sleep(0.3)
        assert sum(calls_of(server, "cluster|slots") for server in servers) - readings <= 2
        assert await increment(client, key) == 52
        assert calls_of(first, "incr", "rejected_calls") == 50
        assert calls_of(second, "asking") == 0


async def test_a_server_that_joins_gets_its_calls_and_one_that_leaves_is_let_go(
    servers: list[ValkeyServer], tmp_path: Path
) -> None:
    first, _ = servers
    key = key_at(0)
    with joined(tmp_path / "third", servers) as third:
        await eventually(lambda: b"cluster_state:ok" in third.ask("CLUSTER", "INFO"), 10.0)
        async with connected(first.url) as client:
            move(slot_of(key), first, third)
            # Also the calls that have to wait for the new connection come through, in order.
            assert await asyncio.gather(*(increment(client, key) for _ in range(10))) == list(range(1, 11))
            await eventually(lambda: "3 of 3 servers" in repr(client), BACK_WITHIN_S)
            third.ask("DEL", key)
            move(slot_of(key), third, first)
            assert await increment(client, key) == 1
            await eventually(lambda: "2 of 2 servers" in repr(client), BACK_WITHIN_S)


async def test_a_slot_on_its_way_is_asked_for_where_it_goes(servers: list[ValkeyServer]) -> None:
    first, second = servers
    key = key_at(0)
    async with connected(first.url) as client:
        begin_to_move(slot_of(key), first, second)
        assert await asyncio.gather(*(increment(client, key) for _ in range(10))) == list(range(1, 11))
        assert await client.script(COUNT, [key], [5]) == 15
        with pytest.raises(Unavailable, match="TRYAGAIN"):  # a script waits until its keys are at one place
            await client.script(WRITE, [key, key + b"b"], [8])
        assert (first.ask("DBSIZE"), second.ask("DBSIZE")) == (0, 1)
        assert (
            calls_of(second, "asking") == 13
        )  # ten, the script by hash and by source, the script that must wait
        assert await increment(client, key_at(1)) == 1  # not asking any more


async def test_a_lost_server_takes_only_its_own_keys_along(servers: list[ValkeyServer]) -> None:
    first, second = servers
    async with connected(first.url) as client:
        waiting = client.call("BLPOP", key_at(1, "list"), 0, key=key_at(1, "list"))
        await asyncio.sleep(0.02)
        second.kill()
        with pytest.raises(Unavailable, match="was lost"):
            await waiting
        for _ in range(3):
            with pytest.raises(Unavailable, match="is not connected"):
                await increment(client, key_at(1))
            assert await increment(client, key_at(0)) > 0
        second.start()
        await eventually(lambda: "2 of 2 servers" in repr(client), BACK_WITHIN_S)

        async def served() -> bool:
            try:
                return bool(await increment(client, key_at(1)))
            except Unavailable:  # CLUSTERDOWN: it has not met its cluster again yet
                return False

        await eventually(served, 10.0)


async def test_the_first_server_may_be_lost_too(servers: list[ValkeyServer]) -> None:
    first, _ = servers
    async with connected(first.url) as client:
        first.kill()
        await eventually(lambda: "1 of 2 servers" in repr(client), 1.0)
        assert client.connected
        assert await increment(client, key_at(1)) == 1
        assert await client.call("PING") == b"PONG"


async def test_servers_that_send_a_call_in_circles_are_given_up(servers: list[ValkeyServer]) -> None:
    first, second = servers
    key = key_at(0)
    async with connected(first.url) as client:
        for server, other in ((first, second), (second, first)):
            server.ask("CLUSTER", "SETSLOT", slot_of(key), "NODE", other.ask("CLUSTER", "MYID"))
        with pytest.raises(Unavailable, match="more than 3 times: MOVED"):
            await increment(client, key)
        assert calls_of(first, "incr") + calls_of(second, "incr") == 0
        assert await increment(client, key_at(1)) == 1


async def test_a_cluster_is_closed_whole(servers: list[ValkeyServer]) -> None:
    async with connected(servers[0].url) as client:
        waiting = client.call("BLPOP", key_at(1), 0, key=key_at(1))
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        await increment(client, key_at(1))
    assert not client.connected
