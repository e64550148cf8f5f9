"""A Valkey that hangs, refuses or has its clock set on for longer than a lease: slots of what runs are not given again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from billing.errors import LimitsUnavailable
from billing.limits.admission import RETURN_GRACE_US, Admission, Permit
from billing.limits.limit import Limit, Meter, OnFailure
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import ValkeyServer, eventually
from tests.limits_kit import (
    Scripts,
    answer,
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

BRIEF = LimitsSettings(timeout_s=0.25, lease_s=1.0, renewal_interval_s=0.3)
CHECK_S = 0.3
LONGER_THAN_A_LEASE_S = 2.0
GRACE_S = RETURN_GRACE_US / 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@contextlib.asynccontextmanager
async def checking(*admissions: Admission) -> AsyncIterator[None]:
    """Gateways that check as their processes do, and a little more often."""

    async def keep_checking() -> None:
        while True:
            for each in admissions:
                await each.renew()
            await asyncio.sleep(CHECK_S)

    task = asyncio.create_task(keep_checking())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def admitted_while(admission: Admission, slots: list[Limit], seconds: float) -> int:
    """How many of those who ask for so long are admitted, wherever they could be asked."""
    found, until = 0, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        found += isinstance(await answer(admission, slots), Permit)
        await asyncio.sleep(0.05)
    return found


async def test_a_server_that_refuses_for_longer_than_a_lease_gives_no_slot_twice(
    server: ValkeyServer,
) -> None:
    async with gateways(server.url, 2, BRIEF) as (left, right), checking(left, right):
        slots = [limit(fresh_tenant(), Meter.CONCURRENCY, 3)]
        permits = [await left.admit(new_id(), slots, need(1)) for _ in range(3)]
        server.ask("CONFIG", "SET", "maxmemory", 1)
        await asyncio.sleep(LONGER_THAN_A_LEASE_S)
        server.ask("CONFIG", "SET", "maxmemory", 0)
        assert await admitted_while(right, slots, 3.0) == 0
        left.settle(permits[0], used(1))
        await settled(left)
        assert await count(right, slots, 2) == 1


async def test_a_server_that_hangs_for_longer_than_a_lease_gives_no_slot_twice_to_what_waits_in_its_socket(
    server: ValkeyServer,
) -> None:
    async with gateways(server.url, 2, BRIEF) as (left, right), checking(left, right):
        await asyncio.sleep(GRACE_S)  # neither has just come
        slots = [limit(fresh_tenant(), Meter.CONCURRENCY, 3)]
        for _ in range(3):
            await left.admit(new_id(), slots, need(1))
        with server.stopped():
            assert isinstance(await answer(right, slots), LimitsUnavailable)
            await asyncio.sleep(LONGER_THAN_A_LEASE_S)
        assert await admitted_while(right, slots, 3.0) == 0


async def test_a_running_stream_is_charged_once_although_another_gateway_ended_its_lease(
    server: ValkeyServer,
) -> None:
    tenant = fresh_tenant()
    tokens = limit(tenant, Meter.TOKENS, 60, burst=60_000)
    scripts = Scripts(server.url, tenant)
    async with gateways(server.url, 2, BRIEF) as (asleep, other):
        permit = await asleep.admit(new_id(), [tokens], need(1_000))
        asleep.progress(permit, used(3_000))
        await asyncio.sleep(0.35)
        await asleep.renew()
        await asyncio.sleep(1.1)
        for _ in range(2):
            other.settle(await other.admit(new_id(), [tokens], need(1)), used(0))
            await settled(other)
            await asyncio.sleep(GRACE_S)
        other.settle(await other.admit(new_id(), [tokens], need(1)), used(0))
        await settled(other)
        asleep.progress(permit, used(3_500))
        for _ in range(2):
            await asleep.renew()
            await settled(asleep)
            await asyncio.sleep(0.35)
        asleep.settle(permit, used(3_600))
        await settled(asleep)
        bucket = scripts.bucket(tokens)
        assert (round(60_000 - bucket.level, -2), bucket.reserved) == (3_600, 0)
    scripts.close()


async def test_a_request_whose_admission_was_not_answered_counts_once_against_open_limits(
    server: ValkeyServer,
) -> None:
    tenant = fresh_tenant()
    requests = limit(tenant, amount=1, burst=1_000, on_failure=OnFailure.OPEN)
    tokens = limit(tenant, Meter.TOKENS, 1, burst=1_000, on_failure=OnFailure.OPEN)
    scripts = Scripts(server.url, tenant)
    async with gateway(server.url, LimitsSettings(timeout_s=0.25, replicas_max=2)) as admission:
        admission.settle(await admission.admit(new_id(), [requests, tokens], need(5)), used(5))
        with server.stopped():
            ended, running = await asyncio.gather(
                *(admission.admit(new_id(), [requests, tokens], need(50)) for _ in range(2))
            )
            assert ended.is_local
            admission.settle(ended, used(20))
        await eventually(lambda: admission.connected, 3.0)
        for _ in range(3):
            await admission.renew()
            await settled(admission)
        admission.settle(running, used(30))
        await settled(admission)
        assert round(1_000 - scripts.bucket(requests).level) == 3
        assert (round(1_000 - scripts.bucket(tokens).level), scripts.bucket(tokens).reserved) == (55, 0)
    scripts.close()
