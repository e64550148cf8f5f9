"""Limits on a Redis as it comes, with snapshots and no append-only file: what it forgot is not handed out again."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from billing.infra.system import now_us
from billing.limits.admission import RETURN_GRACE_US, Admission
from billing.limits.cache import PROCESS_KEY
from billing.limits.limit import Limit, Meter
from tests.integration.valkey_kit import ValkeyServer, eventually
from tests.limits_kit import (
    count,
    fresh_tenant,
    gateway,
    gateways,
    limit,
    need,
    new_id,
    settled,
    used,
)

WITH_SNAPSHOTS = ["--appendonly", "no"]
UPTIME_RESOLUTION_S = 1.1
"""A server tells in whole seconds how long it has run."""


def made_before(*limits: Limit) -> list[Limit]:
    return [msgspec.structs.replace(each, created_us=now_us() - 1) for each in limits]


async def restart(server: ValkeyServer, *admissions: Admission) -> None:
    server.kill()
    await eventually(lambda: not any(each.connected for each in admissions), 3.0)
    server.start()
    await eventually(lambda: all(each.connected for each in admissions), 3.0)


async def test_what_was_used_after_the_snapshot_is_not_handed_out_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(tmp_path, WITH_SNAPSHOTS) as server:
        server.ask("SET", "somebody's", "else")
        async with gateways(server.url, 2) as (left, right):
            tenant = fresh_tenant()
            requests = [limit(tenant, amount=1, burst=50)]
            slots = [limit(tenant, Meter.CONCURRENCY, 2)]
            await count(left, [limit(tenant)], 1)
            server.ask("SAVE")
            requests, slots = made_before(*requests), made_before(*slots)
            assert await count(left, [msgspec.structs.replace(requests[0], created_us=1 << 52)], 50) == 50
            permits = [
                await left.admit(new_id(), [msgspec.structs.replace(slots[0], created_us=1 << 52)], need(1))
                for _ in range(2)
            ]
            await restart(server, left, right)
            for limits in (requests, slots):
                assert await count(right, limits, 5) == 0
            for each in (left, right):
                await each.renew()
                await settled(each)
            await asyncio.sleep(RETURN_GRACE_US / 1_000_000)
            assert await count(right, slots, 3) == 0
            left.settle(permits[0], used(1))
            await settled(left)
            assert await count(right, slots, 3) == 1
        assert server.ask("GET", "somebody's") == b"else"
    assert (
        caplog.messages.count(
            "Valkey came back with an old snapshot, which was forgotten: limits begin empty"
        )
        == 1
    )


async def test_who_connects_again_to_the_same_process_forgets_nothing(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, WITH_SNAPSHOTS) as server:
        limits = [limit(fresh_tenant(), amount=1, burst=50)]
        for _ in range(2):
            async with gateway(server.url) as admission:
                await count(admission, limits, 20)
        async with gateway(server.url) as admission:
            assert await count(admission, limits, 20) == 10


async def test_a_replica_that_took_over_is_trusted(tmp_path: Path) -> None:
    limits = [limit(fresh_tenant(), amount=1, burst=50)]
    with ValkeyServer(tmp_path / "primary", WITH_SNAPSHOTS) as primary:
        follows = ["--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0"]
        with ValkeyServer(tmp_path / "replica", [*WITH_SNAPSHOTS, *follows]) as replica:
            async with gateway(primary.url) as admission:
                assert await count(admission, limits, 50) == 50
                await asyncio.sleep(UPTIME_RESOLUTION_S)
                await admission.renew()
                seen = primary.ask("GET", "billing:2:epoch:seen")
                await eventually(lambda: replica.ask("GET", "billing:2:epoch:seen") == seen, 10.0)
            primary.kill()
            replica.ask("REPLICAOF", "NO", "ONE")
            before = replica.ask("GET", PROCESS_KEY)
            async with gateway(replica.url) as admission:
                assert await count(admission, limits, 5) == 0
                assert replica.ask("GET", PROCESS_KEY) != before
                assert admission.counts["store", "lost"] == 0


@pytest.mark.parametrize("forbidden", ["-info", "-scan"])
async def test_a_server_that_forbids_to_look_is_trusted_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, forbidden: str
) -> None:
    user = ["--user", "default", "on", "nopass", "~*", "&*", "+@all", forbidden]
    with ValkeyServer(tmp_path, [*WITH_SNAPSHOTS, *user]) as server:
        async with gateway(server.url) as admission:
            server.ask("SAVE")
            await asyncio.sleep(UPTIME_RESOLUTION_S)
            await restart(server, admission)
            assert await count(admission, [limit(fresh_tenant(), amount=3)], 5) == 3
    told = {each.levelno for each in caplog.records if "it forbids INFO or SCAN" in each.message}
    assert told == {logging.WARNING}


async def test_a_full_server_that_is_another_process_is_connected_to(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, WITH_SNAPSHOTS) as server:
        server.ask("CONFIG", "SET", "maxmemory", 1)
        async with gateway(server.url) as admission:
            assert admission.connected
