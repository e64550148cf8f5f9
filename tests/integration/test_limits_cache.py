"""Admission on a real Valkey: exactly what the law allows, over connections, repeats, lost stores and dead gateways."""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.errors import LimitReached
from billing.infra.system import monotonic_us, now_us
from billing.limits.admission import RETURN_GRACE_US, Admission, Permit
from billing.limits.bucket import asks_of
from billing.limits.cache import LimitCache
from billing.limits.limit import Enforce, Meter
from billing.limits.used import UNKNOWN
from billing.settings import LimitsSettings
from tests.integration.valkey_kit import cluster, connected
from tests.limits_kit import (
    PATIENT,
    Scripts,
    admitted,
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

NOBODY = UUID(int=1)
BRIEF_LEASE = LimitsSettings(timeout_s=2.0, lease_s=0.3, renewal_interval_s=0.1)


async def grace_passes() -> None:
    """A lease that is found over ends only when every gateway had time to renew its own."""
    await asyncio.sleep(RETURN_GRACE_US / 1_000_000 + 0.05)


async def test_two_hundred_at_once_over_two_gateways_against_fifty_a_minute(valkey_url: str) -> None:
    limits = [limit(fresh_tenant())]
    async with gateways(valkey_url, 2) as (left, right):
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(
            *(admitted(each, limits) for _ in range(100) for each in (left, right))
        )
        refilled = 50 * (asyncio.get_running_loop().time() - began) / 60
    passed = [answer for answer in answers if isinstance(answer, Permit)]
    assert 50 <= len(passed) <= 50 + refilled
    refused = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert all(0 < answer.retry_after_us <= 1_200_000 for answer in refused)
    assert "50 requests a minute of this tenant" in str(refused[0])


async def test_who_waits_exactly_as_told_is_admitted(valkey_url: str) -> None:
    limits = [limit(fresh_tenant(), amount=600, burst=1)]
    async with gateway(valkey_url) as admission:
        for _ in range(5):
            assert await count(admission, limits, 2) == 1
            refusal = await admitted(admission, limits)
            assert isinstance(refusal, LimitReached)
            await asyncio.sleep(refusal.retry_after_us / 1_000_000)


async def test_all_limits_or_none(valkey_url: str) -> None:
    tenant = fresh_tenant()
    wide, narrow = (
        limit(tenant, amount=100),
        limit(tenant, Meter.TOKENS, 25, model="golden", key_id=UUID(int=5)),
    )
    async with gateway(valkey_url) as admission:
        assert await count(admission, [wide, narrow], 10) == 2
        refusal = await admitted(admission, [wide, narrow])
        assert isinstance(refusal, LimitReached)
        assert (refusal.meter, str(refusal).split(".")[0]) == (
            "tokens", "Rate limit reached: 25 tokens a minute of this key on model golden"
        )  # fmt: skip
        told = dict(refusal.headers)
        assert told[b"x-ratelimit-remaining-requests"] == b"98"
        assert told[b"x-ratelimit-remaining-tokens"] == b"5"
        assert await count(admission, [wide], 99) == 98


async def test_tokens_are_charged_as_used_and_what_exceeds_the_bound_is_a_debt(valkey_url: str) -> None:
    limits = [limit(fresh_tenant(), Meter.TOKENS, 1_000)]
    async with gateway(valkey_url) as admission:
        first = await admission.admit(new_id(), limits, need(600))
        assert dict(first.headers)[b"x-ratelimit-remaining-tokens"] == b"400"
        assert await count(admission, limits, 1, 600) == 0
        admission.settle(first, used(100))
        await settled(admission)
        second = await admission.admit(new_id(), limits, need(600))
        assert dict(second.headers)[b"x-ratelimit-remaining-tokens"] in {b"300", b"301"}
        admission.settle(second, used(1_500))
        await settled(admission)
        refusal = await admitted(admission, limits, 1)
        assert isinstance(refusal, LimitReached)
        assert 35_000_000 < refusal.retry_after_us <= 36_060_000  # 600 tokens of debt and one more


async def test_a_bound_beyond_the_burst_reserves_the_burst(valkey_url: str) -> None:
    limits = [limit(fresh_tenant(), Meter.TOKENS, 1_000, burst=100)]
    async with gateway(valkey_url) as admission:
        permit = await admission.admit(new_id(), limits, need(50_000))
        assert await count(admission, limits, 1, 1) == 0
        admission.settle(permit, UNKNOWN)
        await settled(admission)
        refusal = await admitted(admission, limits, 50_000)
        assert isinstance(refusal, LimitReached)
        assert 5_000_000 < refusal.retry_after_us <= 6_000_000


async def test_slots_come_back_by_settlement(valkey_url: str) -> None:
    limits = [limit(fresh_tenant(), Meter.CONCURRENCY, 2)]
    async with gateways(valkey_url, 2) as (left, right):
        permits = [await left.admit(new_id(), limits, need(1)), await right.admit(new_id(), limits, need(1))]
        refusal = await admitted(left, limits)
        assert isinstance(refusal, LimitReached)
        assert (refusal.meter, refusal.retry_after_us) == ("concurrency", 1_000_000)
        right.settle(permits[1], used(5))
        right.settle(permits[1], used(5))
        await settled(right)
        assert await count(left, limits, 3) == 1


async def test_a_shadow_limit_counts_what_it_would_have_refused(valkey_url: str) -> None:
    tenant = fresh_tenant()
    shadow = limit(tenant, amount=2, enforce=Enforce.SHADOW, project_id=UUID(int=6))
    async with gateway(valkey_url) as admission:
        assert await count(admission, [limit(tenant), shadow], 5) == 5
        assert admission.counts["shadow", "project", "requests"] == 3
        assert admission.counts["admitted",] == 5


async def test_an_admission_repeated_under_its_id_takes_nothing(valkey_url: str) -> None:
    tenant = fresh_tenant()
    limits = [limit(tenant), limit(tenant, Meter.TOKENS, 100), limit(tenant, Meter.CONCURRENCY, 1)]
    async with connected(valkey_url, timeout_s=2.0) as valkey:
        store, request_id = LimitCache(valkey), new_id()
        await store.epoch()
        answers = [
            await store.admit(tenant, request_id, asks_of(limits, need(60)), lease_us=10**7, ends_max=0, grace_us=0)
            for _ in range(3)
        ]  # fmt: skip
        assert [[verdict.remaining for verdict in answer.verdicts] for answer in answers] == [[49, 40, 0]] * 3
        assert {answer.state.name for answer in answers} == {"ADMITTED"}


async def test_a_dead_gateways_reservations_are_charged_in_full_and_its_slots_are_free(
    valkey_url: str,
) -> None:
    tenant = fresh_tenant()
    tokens, slots = limit(tenant, Meter.TOKENS, 1_000), limit(tenant, Meter.CONCURRENCY, 1)
    async with gateway(valkey_url) as living:
        async with gateway(valkey_url, BRIEF_LEASE) as dying:
            await dying.admit(new_id(), [tokens, slots], need(900))
        assert await count(living, [slots], 1) == 0
        await asyncio.sleep(0.35)
        assert await count(living, [slots], 1) == 0  # others may still be about to renew
        await grace_passes()
        assert await count(living, [slots], 1) == 1
        refusal = await admitted(living, [tokens], 200)
        assert isinstance(refusal, LimitReached)
        assert int(dict(refusal.headers)[b"x-ratelimit-remaining-tokens"]) in range(
            100, 140
        )  # and what refilled


async def test_a_renewed_lease_lasts(valkey_url: str) -> None:
    slots = [limit(fresh_tenant(), Meter.CONCURRENCY, 1)]
    async with gateway(valkey_url, BRIEF_LEASE) as streaming, gateway(valkey_url) as other:
        permit = await streaming.admit(new_id(), slots, need(1))
        for _ in range(6):
            await asyncio.sleep(0.1)
            await streaming.renew()
            assert await count(other, slots, 1) == 0
        streaming.settle(permit, used(1))
        await settled(streaming)
        assert await count(other, slots, 1) == 1


async def test_a_host_whose_clock_jumps_gets_no_longer_leases(valkey_url: str) -> None:
    slots = [limit(fresh_tenant(), Meter.CONCURRENCY, 1)]
    jumped_us = 0
    scripts = Scripts(valkey_url, slots[0].tenant_id)
    async with connected(valkey_url, timeout_s=2.0) as valkey:
        admission = Admission(LimitCache(valkey), lambda: now_us() + jumped_us, monotonic_us, PATIENT)
        permit = await admission.admit(new_id(), slots, need(1))
        jumped_us = 3_600_000_000
        await admission.renew()
        ends_us = scripts.client.zscore(scripts.keys()[2], permit.id.bytes)
        assert isinstance(ends_us, float)
        assert 29_000_000 < ends_us - now_us() <= 30_000_000
    scripts.close()


async def test_a_stream_is_charged_with_each_renewal(valkey_url: str) -> None:
    tenant = fresh_tenant()
    limits = [limit(tenant, Meter.TOKENS, 1_000, burst=2_000), limit(tenant, Meter.CONCURRENCY, 2)]
    scripts = Scripts(valkey_url, tenant)
    async with gateway(valkey_url, BRIEF_LEASE) as admission:
        permit = await admission.admit(new_id(), limits, need(1_500))
        admission.progress(permit, used(900))
        await asyncio.sleep(0.1)
        await admission.renew()
        bucket = scripts.bucket(limits[0])
        assert (round(bucket.level, -1), bucket.reserved) == (1_100, 600)
        admission.settle(permit, used(950))
        await settled(admission)
        bucket = scripts.bucket(limits[0])
        assert (round(bucket.level, -1), bucket.reserved) == (1_050, 0)
    scripts.close()


async def test_a_lease_that_was_taken_for_over_is_announced_again(valkey_url: str) -> None:
    tenant = fresh_tenant()
    limits = [limit(tenant, Meter.CONCURRENCY, 1), limit(tenant, Meter.TOKENS, 1_000)]
    async with gateway(valkey_url, BRIEF_LEASE) as asleep, gateway(valkey_url) as other:
        permit = await asleep.admit(new_id(), limits, need(600))
        await asyncio.sleep(0.35)
        assert await count(other, limits, 1, 1) == 0
        await grace_passes()
        ended = await other.admit(new_id(), limits, need(1))
        other.settle(ended, used(0))
        await settled(other)
        await asleep.renew()
        await settled(asleep)
        assert await count(other, limits, 1, 1) == 0
        asleep.settle(permit, used(100))
        await settled(asleep)
        permit = await other.admit(new_id(), limits, need(1))
        assert int(dict(permit.headers)[b"x-ratelimit-remaining-tokens"]) in range(
            899, 960
        )  # and what refilled


async def test_a_cancelled_admission_frees_what_it_may_have_taken(valkey_url: str) -> None:
    tenant = fresh_tenant()
    limits = [limit(tenant), limit(tenant, Meter.CONCURRENCY, 1), limit(tenant, Meter.TOKENS, 100)]
    async with gateway(valkey_url) as admission:
        await admission.admit(new_id(), [limits[0]], need(1))
        gone = asyncio.create_task(admission.admit(new_id(), limits, need(90)))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await settled(admission)
        permit = await admission.admit(new_id(), limits, need(90))
        assert (
            dict(permit.headers)[b"x-ratelimit-remaining-requests"] == b"47"
        )  # the request itself stays counted


async def test_nothing_is_left_behind_but_the_tenants_epoch(valkey_url: str) -> None:
    tenant = fresh_tenant()
    limits = [
        limit(tenant, amount=60_000),
        limit(tenant, Meter.TOKENS, 600_000),
        limit(tenant, Meter.CONCURRENCY, 8),
    ]
    scripts = Scripts(valkey_url, tenant)
    async with gateway(valkey_url) as admission:
        permit = await admission.admit(new_id(), limits, need(10))
        assert len(scripts.keys()) == 5
        held = b"{%s}:2:%s" % (tenant.hex.encode(), limits[1].id.hex.encode())
        assert scripts.client.pttl(held) == -1  # what is reserved must not be forgotten
        admission.settle(permit, used(10))
        await settled(admission)
        assert 0 < scripts.client.pttl(held) <= 1_100
        await asyncio.sleep(1.2)
        assert scripts.keys() == [b"{%s}:2:held" % tenant.hex.encode()]
        assert scripts.client.hkeys(scripts.keys()[0]) == [b"epoch"]
    scripts.client.close()


async def test_limits_hold_on_a_cluster(tmp_path: Path) -> None:
    kinds = (limit(NOBODY), limit(NOBODY, Meter.TOKENS, 100), limit(NOBODY, Meter.CONCURRENCY, 5))
    with cluster(tmp_path, 3) as servers:
        async with gateways(servers[0].url, 2) as admissions:
            for tenant in (fresh_tenant() for _ in range(8)):
                limits = [msgspec.structs.replace(each, tenant_id=tenant) for each in kinds]
                answers = await asyncio.gather(*(admitted(each, limits) for each in admissions * 10))
                permits = [answer for answer in answers if isinstance(answer, Permit)]
                assert len(permits) == 5
                for permit in permits:
                    for each in admissions:
                        each.settle(permit, used(4))
            for each in admissions:
                await settled(each)
                await each.renew()
            assert await count(admissions[0], limits, 9) == 5
