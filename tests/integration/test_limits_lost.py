"""Admission on a Valkey that loses its memory, dies or stalls: the law holds, each limit follows its policy, all is told."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from billing.errors import LimitReached, LimitsUnavailable, Unavailable
from billing.infra.system import now_us
from billing.limits.admission import RETURN_GRACE_US, Admission, Permit
from billing.limits.cache import LimitCache
from billing.limits.limit import Enforce, Limit, Meter, OnFailure
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import ValkeyServer, connected, eventually
from tests.limits_kit import (
    PATIENT,
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

QUICK = LimitsSettings(timeout_s=0.25, replicas_max=5)
REFILL_PER_S = 10
"""Of 600 a minute."""
AT_ONCE_S = 0.1
"""What this machine, which has other work, may add to no time at all."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that the test may empty, stall and kill; it keeps its data like the embedded one."""
    with ValkeyServer(tmp_path / "valkey", ["--appendonly", "yes"]) as server:
        yield server


def older(*limits: Limit) -> list[Limit]:
    return [msgspec.structs.replace(each, created_us=now_us() - 3_600_000_000) for each in limits]


async def test_a_store_that_lost_its_memory_admits_only_what_has_refilled_since(
    server: ValkeyServer,
) -> None:
    server.ask("SET", "billing:2:epoch", now_us() - 7_200_000_000)
    limits = older(limit(fresh_tenant(), amount=600))
    async with gateways(server.url, 2) as (left, right):
        assert await count(left, limits, 700) >= 600
        server.ask("FLUSHALL")
        began = time.monotonic()
        passed = await count(right, limits, 5) + await count(left, limits, 5)
        assert passed <= REFILL_PER_S * (time.monotonic() - began) + 1
        for each in (left, right):
            await each.renew()
        await asyncio.sleep(0.5)
        passed += await count(left, limits, 20)
        assert 5 <= passed <= REFILL_PER_S * (time.monotonic() - began) + 1
        assert left.counts["store", "lost"] == right.counts["store", "lost"] == 1


async def test_a_store_that_lost_its_memory_is_told_of_running_requests(server: ValkeyServer) -> None:
    server.ask("SET", "billing:2:epoch", now_us() - 7_200_000_000)
    slots = older(limit(fresh_tenant(), Meter.CONCURRENCY, 2))
    async with gateways(server.url, 2) as (left, right):
        permit = await left.admit(new_id(), slots, need(1))
        server.ask("FLUSHALL")
        assert await count(right, slots, 1) == 0  # nobody knows yet what runs
        for each in (left, right):
            await each.renew()
            await settled(each)
        await asyncio.sleep(RETURN_GRACE_US / 1_000_000)
        assert await count(right, slots, 2) == 1
        left.settle(permit, used(1))
        await settled(left)
        assert await count(right, slots, 2) == 1


async def test_a_limit_made_after_the_store_began_starts_full(server: ValkeyServer) -> None:
    async with gateway(server.url) as admission:
        await asyncio.sleep(0.01)
        made_now = msgspec.structs.replace(limit(fresh_tenant()), created_us=now_us())
        assert await count(admission, [made_now], 55) == 50


async def test_forgotten_scripts_are_sent_again(server: ValkeyServer) -> None:
    limits = [limit(fresh_tenant(), amount=3)]
    async with gateway(server.url) as admission:
        permits = [await admission.admit(new_id(), limits, need(1))]
        server.ask("SCRIPT", "FLUSH")
        permits.append(await admission.admit(new_id(), limits, need(1)))
        server.ask("SCRIPT", "FLUSH")
        for permit in permits:
            admission.settle(permit, used(1))
        await settled(admission)
        assert await count(admission, limits, 3) == 1


async def test_the_clocks_are_compared(server: ValkeyServer) -> None:
    async with connected(server.url, timeout_s=2.0) as valkey:
        late: Callable[[], int] = lambda: now_us() - 3_000_000  # noqa: E731 - a clock is a function
        admission = Admission(LimitCache(valkey), late, now_us, PATIENT)
        assert admission.ready
        await admission.renew()
        assert not admission.ready
        assert 2_900_000 < admission.clock_difference_us < 3_100_000


async def test_a_script_that_the_server_refuses_is_a_store_that_cannot_be_asked(
    server: ValkeyServer,
) -> None:
    tenant = fresh_tenant()
    server.ask("SET", b"{%s}:2:held" % tenant.hex.encode(), "not ours")
    async with gateway(server.url) as admission:
        with pytest.raises(Unavailable, match="cannot be checked"):
            await admission.admit(new_id(), [limit(tenant)], need(1))
        assert admission.counts["store", "unanswered"] == 1


def pair(amount: int = 50, **changes: object) -> tuple[list[Limit], list[Limit]]:
    """The same limits, closed and open."""
    tenant = fresh_tenant()
    closed, opened = ([limit(tenant, amount=amount, on_failure=each, **changes)] for each in OnFailure)
    return closed, opened


async def timed(admission: Admission, limits: list[Limit]) -> tuple[float, object]:
    began = time.monotonic()
    try:
        answer: object = await admission.admit(new_id(), limits, need(10))
    except (LimitReached, LimitsUnavailable) as refusal:
        answer = refusal
    return time.monotonic() - began, answer


async def test_while_valkey_is_away_each_limit_follows_its_policy_at_once(server: ValkeyServer) -> None:
    closed, opened = pair()
    slots = limit(closed[0].tenant_id, Meter.CONCURRENCY, 10, on_failure=OnFailure.OPEN)
    async with gateway(server.url, QUICK) as admission:
        for limits in (closed, opened):
            await admission.admit(new_id(), limits, need(1))
        server.kill()
        answers = [await timed(admission, opened) for _ in range(20)]
        assert sum(isinstance(answer, Permit) for _, answer in answers) == 10  # 50 over 5 workers
        refused = next(answer for _, answer in answers if isinstance(answer, LimitReached))
        assert refused.retry_after_us > 5_000_000
        seconds, refusal = await timed(admission, closed)
        assert isinstance(refusal, LimitsUnavailable)
        assert "the limit of 50 requests a minute of this tenant cannot be checked" in str(refusal)
        assert isinstance((await timed(admission, [*opened, *closed]))[1], LimitsUnavailable)
        assert max(seconds, *(each for each, _ in answers)) < AT_ONCE_S
        assert await count(admission, [slots], 5) == 2
        assert (admission.counts["fallback", "open"], admission.counts["fallback", "closed"]) == (12, 2)


async def test_a_shadow_does_not_matter_while_valkey_is_away(server: ValkeyServer) -> None:
    shadow = limit(fresh_tenant(), amount=1, enforce=Enforce.SHADOW)
    async with gateway(server.url, QUICK) as admission:
        server.kill()
        assert await count(admission, [shadow], 3) == 3


async def test_a_share_below_one_and_a_worker_that_never_reached_valkey_admit_nothing(
    server: ValkeyServer,
) -> None:
    _, narrow = pair(amount=4)
    _, wide = pair()
    async with gateway(server.url, QUICK) as admission:
        server.kill()
        assert isinstance((await timed(admission, narrow))[1], LimitsUnavailable)
        assert isinstance((await timed(admission, wide))[1], Permit)
    async with gateway(server.url, QUICK) as newcomer:
        assert isinstance((await timed(newcomer, wide))[1], LimitsUnavailable)


async def test_what_was_admitted_meanwhile_is_charged_when_valkey_is_back(server: ValkeyServer) -> None:
    tenant = fresh_tenant()
    requests = limit(tenant, amount=50, on_failure=OnFailure.OPEN)
    tokens = limit(tenant, Meter.TOKENS, 1_000, on_failure=OnFailure.OPEN)
    slots = limit(tenant, Meter.CONCURRENCY, 10, on_failure=OnFailure.OPEN)
    limits = [requests, tokens, slots]
    async with gateways(server.url, 2, QUICK) as (left, right):
        before = [await left.admit(new_id(), limits, need(100)) for _ in range(2)]
        server.kill()
        done, running = [await right.admit(new_id(), limits, need(60)) for _ in range(2)]
        assert done.is_local
        right.settle(done, used(40))
        left.settle(before[0], used(70))
        assert left.unsent == 1
        server.start()
        await eventually(lambda: left.connected and right.connected, 3.0)
        for _ in range(2):
            for each in (left, right):
                await each.renew()
                await settled(each)
        permit = await left.admit(new_id(), limits, need(1))
        told = dict(permit.headers)
        assert int(told[b"x-ratelimit-remaining-requests"]) in range(
            45, 48
        )  # 50 − 2 − 2 − 1, and what refilled
        assert int(told[b"x-ratelimit-remaining-tokens"]) in range(729, 800)  # 1,000 − 70 − 100 − 40 − 60 − 1
        assert await count(left, [slots], 12) == 7  # one each still runs of both, and this one
        right.settle(running, used(5))
        left.settle(before[1], used(5))
        await settled(left)
        await settled(right)
        assert await count(left, [slots], 5) == 2


async def test_a_kill_loses_nothing_that_valkey_had_answered(server: ValkeyServer) -> None:
    limits = [limit(fresh_tenant(), amount=30)]
    async with gateway(server.url) as admission:
        assert await count(admission, limits, 30) == 30
        server.kill()
        await eventually(lambda: not admission.connected, 3.0)
        server.start()
        await eventually(lambda: admission.connected, 3.0)
        assert await count(admission, limits, 20) <= 2


async def test_a_stalled_valkey_takes_no_more_than_the_time_out_and_nothing_is_taken_twice(
    server: ValkeyServer,
) -> None:
    tenant = fresh_tenant()
    closed = [limit(tenant, Meter.CONCURRENCY, 10)]
    opened = [limit(tenant, Meter.CONCURRENCY, 10, on_failure=OnFailure.OPEN)]
    async with gateway(server.url, QUICK) as admission:
        for limits in (closed, opened):
            admission.settle(await admission.admit(new_id(), limits, need(1)), used(1))
        await settled(admission)
        with server.stopped():
            began = time.monotonic()
            (waited, refusal), (waited_too, permit), _ = await asyncio.gather(
                timed(admission, closed), timed(admission, opened), asyncio.sleep(QUICK.timeout_s)
            )
        assert max(waited, waited_too) < time.monotonic() - began + AT_ONCE_S  # as late as any timer here
        assert isinstance(refusal, LimitsUnavailable)
        assert isinstance(permit, Permit)
        await eventually(lambda: admission.connected, 3.0)
        for _ in range(3):
            await asyncio.sleep(0.1)
            await admission.renew()
        await settled(admission)
        assert await count(admission, closed, 11) == 10
        assert await count(admission, opened, 11) == 9
        admission.settle(permit, used(1))
        await settled(admission)
        assert await count(admission, opened, 2) == 1


async def test_nothing_is_lost_when_valkey_is_killed_under_load(server: ValkeyServer) -> None:
    slots = [limit(fresh_tenant(), Meter.CONCURRENCY, 20, on_failure=OnFailure.OPEN)]
    async with gateways(server.url, 2, QUICK) as admissions:
        ended = asyncio.Event()

        async def client(admission: Admission) -> None:
            while not ended.is_set():
                _, permit = await timed(admission, slots)
                await asyncio.sleep(0.005)
                if isinstance(permit, Permit):
                    admission.settle(permit, used(3))

        clients = [asyncio.create_task(client(each)) for each in admissions for _ in range(8)]
        await asyncio.sleep(0.3)
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
        await eventually(lambda: all(each.connected for each in admissions), 3.0)
        await asyncio.sleep(0.3)
        ended.set()
        await asyncio.gather(*clients)
        for _ in range(2):
            for each in admissions:
                await each.renew()
                await settled(each)
        assert [each.live for each in admissions] == [0, 0]
        assert await count(admissions[0], slots, 25) == 20


async def test_a_full_valkey_is_sent_nothing_to_undo(server: ValkeyServer) -> None:
    limits = [limit(fresh_tenant(), Meter.CONCURRENCY, 100)]
    async with gateway(server.url) as admission:
        permit = await admission.admit(new_id(), limits, need(1))
        server.ask("CONFIG", "SET", "maxmemory", 1)
        for _ in range(20):
            assert isinstance(await answer(admission, limits), LimitsUnavailable)
        assert admission.unsent == 0
        assert (admission.counts["store", "refused"], admission.counts["store", "unanswered"]) == (20, 0)
        server.ask("CONFIG", "SET", "maxmemory", 0)
        assert await count(admission, limits, 105) == 99
        admission.settle(permit, used(1))
        await settled(admission)


async def test_what_is_left_over_from_an_outage_leaves_room_for_admissions(server: ValkeyServer) -> None:
    limits = [limit(fresh_tenant(), Meter.CONCURRENCY, 1_000)]
    settings = LimitsSettings(timeout_s=2.0, queue_max=1_000)
    async with gateway(server.url, settings) as admission:
        permits = [await admission.admit(new_id(), limits, need(1)) for _ in range(1_000)]
        server.kill()
        await eventually(lambda: not admission.connected, 3.0)
        for permit in permits:
            admission.settle(permit, used(1))
        assert admission.unsent == 1_000
        server.start()
        await eventually(lambda: admission.connected, 3.0)
        await admission.renew()
        assert await count(admission, [limit(fresh_tenant())], 5) == 5
        await settled(admission, 5.0)
        assert await count(admission, limits, 1_001) == 1_000


async def test_a_worker_that_ends_waits_for_what_had_to_be_sent_twice(server: ValkeyServer) -> None:
    limits = [limit(fresh_tenant(), Meter.CONCURRENCY, 1)]
    async with gateway(server.url) as ending, gateway(server.url) as other:
        permit = await ending.admit(new_id(), limits, need(1))
        server.kill()
        await eventually(lambda: not ending.connected, 3.0)
        ending.settle(permit, used(1))
        server.start()  # which has forgotten the scripts
        await eventually(lambda: ending.connected and other.connected, 3.0)
        await ending.finish()
        assert ending.unsent == 0
        assert await count(other, limits, 2) == 1
