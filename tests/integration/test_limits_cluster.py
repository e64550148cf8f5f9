"""Limits on a cluster of which one server loses its memory: what lies there begins anew, and nothing else does."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.infra.system import now_us
from billing.infra.valkey import SLOTS, slot_of
from billing.limits.admission import RETURN_GRACE_US, Admission, Permit
from billing.limits.cache import EPOCH_KEY, MARKERS_MAX, marker_of
from billing.limits.limit import Limit, Meter, OnFailure
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import ValkeyServer, cluster, eventually
from tests.limits_kit import (
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

SERVERS = 3
EPOCHS = slot_of(EPOCH_KEY) * SERVERS // SLOTS
LOST = (EPOCHS + 1) % SERVERS
"""A server that does not hold what tells since when the cluster remembers."""
OTHER = (EPOCHS + 2) % SERVERS
CHECK_S = 0.25
BRIEF = LimitsSettings(timeout_s=0.5, renewal_interval_s=0.1)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ValkeyServer]]:
    with cluster(tmp_path, SERVERS) as servers:
        yield servers


def tenant_at(server: int) -> UUID:
    while slot_of((tenant := fresh_tenant()).hex.encode()) * SERVERS // SLOTS != server:
        pass
    return tenant


def made_now(tenant: UUID, meter: Meter = Meter.REQUESTS, amount: int = 50) -> Limit:
    return limit(tenant, meter, amount, created_us=now_us())


def slow(tenant: UUID) -> Limit:
    return limit(tenant, amount=1, burst=50, created_us=now_us())


async def mark_all(admission: Admission) -> None:
    """What takes a gateway a minute, one check a second."""
    for _ in range(SLOTS // MARKERS_MAX + 1):
        await admission.renew()


async def lose(server: ValkeyServer, *admissions: Admission) -> None:
    """Start it again, empty, and wait until it serves its slots."""
    server.kill()
    server.start()
    await eventually(lambda: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10.0)
    tenant = tenant_at(LOST)
    for each in admissions:

        async def is_served(each: Admission = each) -> bool:
            return isinstance(await answer(each, [limit(tenant)]), Permit)

        await eventually(is_served, 10.0)


async def test_limits_on_a_server_that_lost_its_memory_begin_empty(servers: list[ValkeyServer]) -> None:
    async with gateways(servers[0].url, 2) as (left, right):
        await mark_all(left)
        # They refill so slowly that it does not matter how long a server takes to come back.
        lost, kept = [slow(tenant_at(LOST))], [slow(tenant_at((LOST + 1) % SERVERS))]
        refilling = [made_now(lost[0].tenant_id)]
        for limits in (lost, kept):
            assert await count(left, limits, 60) == 50
        await lose(servers[LOST], left, right)
        for limits in (lost, kept):
            assert await count(right, limits, 10) <= 1
        assert right.counts["store", "lost"] == 0  # nothing of it ran
        await asyncio.sleep(2.4)  # two requests
        assert await count(left, refilling, 10) >= 2


async def test_gateways_announce_what_runs_to_a_server_that_lost_its_memory(
    servers: list[ValkeyServer],
) -> None:
    async with gateways(servers[0].url, 2) as (left, right):
        await mark_all(left)
        slots = [made_now(tenant_at(LOST), Meter.CONCURRENCY, 2)]
        permit = await left.admit(new_id(), slots, need(1))
        await lose(servers[LOST], left, right)
        assert await count(right, slots, 3) == 0  # nobody knows yet what runs
        for each in (left, right):
            await each.renew()
            await settled(each)
        await asyncio.sleep(RETURN_GRACE_US / 1_000_000)
        assert await count(right, slots, 3) == 1
        left.settle(permit, used(1))
        await settled(left)
        assert await count(right, slots, 3) == 1


async def test_the_slots_of_a_server_that_came_back_are_marked_again_and_new_tenants_begin_full(
    servers: list[ValkeyServer],
) -> None:
    async with gateway(servers[0].url) as admission:
        await mark_all(admission)
        marks = [servers[LOST].ask("GET", marker_of(slot)) for slot in slots_of(LOST)[::500]]
        assert None not in marks
        await lose(servers[LOST], admission)
        await mark_all(admission)
        again = [servers[LOST].ask("GET", marker_of(slot)) for slot in slots_of(LOST)[::500]]
        assert min(map(int, again)) > max(map(int, marks))
        assert await count(admission, [made_now(tenant_at(LOST))], 55) == 50


def slots_of(server: int) -> list[int]:
    return [slot for slot in range(SLOTS) if slot * SERVERS // SLOTS == server]


async def test_a_limit_that_a_lost_server_knew_is_older_than_its_slot(servers: list[ValkeyServer]) -> None:
    old = msgspec.structs.replace(slow(tenant_at(LOST)), created_us=now_us() - 3_600_000_000)
    async with gateway(servers[0].url) as admission:
        servers[LOST].ask("SET", marker_of(slot_of(old.tenant_id.hex.encode())), now_us() - 7_200_000_000)
        assert await count(admission, [old], 60) == 50
        await lose(servers[LOST], admission)
        assert await count(admission, [old], 10) <= 1


async def keep_checking(admissions: Sequence[Admission], seconds: float) -> None:
    for _ in range(int(seconds / CHECK_S)):
        for each in admissions:
            await each.renew()
        await asyncio.sleep(CHECK_S)


async def test_a_server_that_is_away_keeps_no_announcement_from_one_that_came_back_empty(
    servers: list[ValkeyServer],
) -> None:
    async with gateways(servers[EPOCHS].url, 2, BRIEF) as (left, right):
        await mark_all(left)
        slots = [made_now(tenant_at(LOST), Meter.CONCURRENCY, 3)]
        permits = [await left.admit(new_id(), slots, need(1)) for _ in range(3)]
        await left.admit(new_id(), [made_now(tenant_at(OTHER), Meter.CONCURRENCY, 1)], need(1))
        servers[OTHER].kill()
        await lose(servers[LOST], left, right)
        await answer(right, slots)  # from now on the slot remembers
        await keep_checking((left, right), RETURN_GRACE_US / 1_000_000 + 1)
        assert await count(right, slots, 3) == 0
        left.settle(permits[0], used(1))
        await settled(left)
        assert await count(right, slots, 3) == 1


@pytest.mark.parametrize("away", [EPOCHS, OTHER])
async def test_what_was_lost_to_a_stall_is_sent_again_while_another_server_is_away(
    servers: list[ValkeyServer], away: int
) -> None:
    async with gateway(servers[({EPOCHS, OTHER} - {away}).pop()].url, BRIEF) as admission:
        tokens = [limit(tenant_at(LOST), Meter.TOKENS, 1_000)]
        permit = await admission.admit(new_id(), tokens, need(800))
        await admission.admit(new_id(), [limit(tenant_at(away), Meter.CONCURRENCY)], need(1))
        servers[away].kill()
        with servers[LOST].stopped():
            admission.settle(permit, used(10))
            await asyncio.sleep(0.6)
        await keep_checking((admission,), 3.0)
        assert admission.unsent == 0
        assert isinstance(await answer(admission, tokens, 800), Permit)


async def test_while_the_epochs_server_is_away_a_new_tenant_of_another_is_decided(
    servers: list[ValkeyServer],
) -> None:
    async with gateway(servers[LOST].url, BRIEF) as admission:
        servers[EPOCHS].kill()
        assert await count(admission, [limit(tenant_at(OTHER), Meter.CONCURRENCY, 2)], 3) == 2
    async with gateway(servers[LOST].url, BRIEF) as newcomer:
        opened = limit(tenant_at(OTHER), Meter.CONCURRENCY, 9, on_failure=OnFailure.OPEN)
        assert await count(newcomer, [opened], 10) == 9
