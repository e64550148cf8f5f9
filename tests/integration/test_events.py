"""Events become records once, whoever sends them how often, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from billing.errors import TooLarge
from billing.ids import instant_of
from billing.infra.postgres import Database
from billing.metering import store
from billing.metering.external.body import EVENTS_MAX
from billing.metering.external.service import EventService
from billing.metering.external.verdict import Verdict, Word
from billing.metering.rollup import NO_PROJECT
from billing.tenants.store import raise_collection
from billing.tokens.usage import COUNT_MAX
from tests.events_kit import NOW, SOURCE, event
from tests.invoice_kit import at
from tests.metering_kit import ask

TENANT = UUID("01900000-0000-7000-8000-0000000000a1")
OTHER = UUID("01900000-0000-7000-8000-0000000000a2")
PROJECT = UUID("01900000-0000-7000-8000-0000000000a3")
BATCH = [event(number, training=number) for number in range(1, 51)]


@pytest.fixture
async def url(migrated_url: str) -> str:
    for tenant_id, slug, status in ((TENANT, "acme", "active"), (OTHER, "other", "suspended")):
        await ask(
            migrated_url,
            "INSERT INTO tenant (id, slug, name, status, created_at) VALUES ($1, $2, $2, $3, now())",
            tenant_id, slug, status,
        )  # fmt: skip
    await ask(
        migrated_url,
        "INSERT INTO project (tenant_id, id, slug, name, archived_at, created_at) VALUES ($1, $2, 'lab', 'Lab', now(), now())",
        TENANT, PROJECT,
    )  # fmt: skip
    return migrated_url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    made = Database(url, role="control", pool_size=9)
    yield made.acting_as("trainer")
    await made.close()


@pytest.fixture
def service(database: Database) -> EventService:
    return EventService(database, lambda: at(NOW))


async def one(service: EventService, sent: Any) -> Verdict:
    (verdict,) = await service.record([sent], first=None)
    return verdict


def words(verdicts: list[Verdict]) -> list[Word]:
    return [each.verdict for each in verdicts]


async def record(url: str) -> dict[str, Any]:
    (row,) = await ask(url, "SELECT * FROM usage_record")
    return dict(row)


async def training_sums(url: str) -> tuple[int, int, int]:
    """Records, requests in the rollup, tokens in the rollup."""
    [row] = await ask(
        url,
        "SELECT (SELECT count(*) FROM usage_record), coalesce(sum(requests), 0)::int, coalesce(sum(training), 0)::int "
        "FROM usage_rollup",
    )
    return row[0], row[1], row[2]


async def test_an_event_becomes_a_record_of_its_own_time(url: str, service: EventService) -> None:
    verdict = await one(service, event(training=4_096, gpu_second=12, end_user="ann", tags={"run": "7"}))
    assert (verdict.verdict, verdict.source, verdict.id) == (Word.ACCEPTED, SOURCE, "step-1")
    kept = await record(url)
    assert kept["id"] == verdict.usage_id
    assert instant_of(kept["id"]) == at("2026-11-24T10:00:00Z")
    assert (kept["tenant_id"], kept["key_id"], kept["backend_id"], kept["spool_id"]) == (
        TENANT,
        None,
        None,
        None,
    )
    assert (kept["operation"], kept["engine"], kept["outcome"], kept["model"]) == (
        "training", "external", "complete", "golden",
    )  # fmt: skip
    assert (kept["end_user"], kept["tags"], kept["idempotency_key"]) == ("ann", '{"run": "7"}', "step-1")
    assert (kept["provenance"], kept["input"], kept["output"]) == ("reported", None, None)
    assert '"training": [4096, "reported", "event of /trainers/job-17"]' in kept["parts"]
    [rolled] = await ask(url, "SELECT * FROM usage_rollup")
    assert (rolled["training"], rolled["gpu_second"], rolled["requests"]) == (4_096, 12, 1)
    assert (rolled["project_id"], rolled["provenance"]) == (NO_PROJECT, "reported")


async def test_the_same_batch_sent_eight_times_at_once_counts_each_event_once(
    url: str, service: EventService
) -> None:
    answers = await asyncio.gather(*(service.record(BATCH) for _ in range(8)))
    found = [word for answer in answers for word in words(answer)]
    assert (found.count(Word.ACCEPTED), found.count(Word.DUPLICATE)) == (50, 350)
    assert {tuple(each.usage_id for each in answer) for answer in answers} == {
        tuple(each.usage_id for each in answers[0])
    }
    assert await training_sums(url) == (50, 50, sum(range(1, 51)))


async def test_batches_that_overlap_in_other_orders_do_not_stop_each_other(
    url: str, service: EventService
) -> None:
    await asyncio.gather(
        *(service.record(BATCH[::step][start:]) for step in (1, -1) for start in (0, 5, 25, 45))
    )
    assert await training_sums(url) == (50, 50, sum(range(1, 51)))


async def test_an_event_that_says_something_else_changes_nothing_and_is_audited(
    url: str, service: EventService
) -> None:
    first = await one(service, event(training=7))
    for _ in range(2):
        other = await one(service, event(training=8))
        assert (other.verdict, other.usage_id) == (Word.CONFLICT, first.usage_id)
        assert other.reason is not None
        assert "said something else" in other.reason
    assert (await one(service, event(training=7, time="2026-11-24T10:00:01Z"))).verdict is Word.CONFLICT
    assert await training_sums(url) == (1, 1, 7)
    kept = await ask(
        url, "SELECT actor, action, subject, after ->> 'reason' FROM audit_entry WHERE actor = 'trainer'"
    )
    assert [tuple(each) for each in kept] == [("trainer", "insert", "usage_quarantine", "conflict")] * 2
    assert {row[0] for row in await ask(url, "SELECT id FROM usage_quarantine")} == {first.usage_id}


async def test_within_a_batch_the_first_of_a_name_counts(url: str, service: EventService) -> None:
    answers = await service.record(
        [event(training=7), event(training=7), event(training=8), event(2, training=1)]
    )
    assert words(answers) == [Word.ACCEPTED, Word.DUPLICATE, Word.CONFLICT, Word.ACCEPTED]
    assert await training_sums(url) == (2, 2, 8)


async def test_what_is_rejected_keeps_nobody_else_back(url: str, service: EventService) -> None:
    sent = [
        event(1, training=1), event(2, subject="nobody"), event(3, project="none", training=1), 7,
        event(5, outptu=3), event(6, training=1),
    ]  # fmt: skip
    answers = await service.record(sent)
    assert [(each.verdict.value, each.param) for each in answers] == [
        ("accepted", None), ("rejected", "[1].subject"), ("rejected", "[2].data.project"), ("rejected", "[3]"),
        ("rejected", "[4].data.outptu"), ("accepted", None),
    ]  # fmt: skip
    assert (answers[1].source, answers[1].id, answers[1].usage_id) == (SOURCE, "step-2", None)
    assert await training_sums(url) == (2, 2, 2)
    assert words(await service.record([event(2, training=1)])) == [Word.ACCEPTED]


async def test_names_are_those_of_a_tenant(url: str, service: EventService) -> None:
    answers = await service.record([event(), event(subject="other"), event(source="/b")])
    assert words(answers) == [Word.ACCEPTED] * 3
    assert len({each.usage_id for each in answers}) == 3


async def test_work_of_a_suspended_tenant_and_of_an_archived_project_was_done(
    url: str, service: EventService
) -> None:
    assert (
        words(await service.record([event(subject="other"), event(project="lab", training=1)]))
        == [Word.ACCEPTED] * 2
    )
    [row] = await ask(url, "SELECT project_id FROM usage_record WHERE tenant_id = $1", TENANT)
    assert row["project_id"] == PROJECT


async def test_an_alias_counts_as_its_model_and_an_unknown_name_is_taken(
    url: str, service: EventService
) -> None:
    await ask(
        url,
        "INSERT INTO model (id, name, aliases, created_at) VALUES ($1, 'golden', '{gold}', now())",
        PROJECT,
    )
    await service.record([event(1, model="gold", training=1), event(2, model="own/tune-3", training=1)])
    rows = await ask(url, "SELECT model FROM usage_record ORDER BY model")
    assert [row["model"] for row in rows] == ["golden", "own/tune-3"]


async def test_months_without_records_get_their_partition(url: str, service: EventService) -> None:
    late = [
        event(number, time=f"{month}-15T00:00:00Z", training=1)
        for number, month in enumerate(("2025-01", "2026-02"))
    ]
    answers = await asyncio.gather(*(service.record(late) for _ in range(4)))
    assert [words(answer) for answer in answers].count([Word.ACCEPTED] * 2) == 1
    names = {row[0] for row in await ask(url, "SELECT tableoid::regclass::text FROM usage_record")}
    assert names == {"usage_record_2025_01", "usage_record_2026_02"}
    assert await training_sums(url) == (2, 2, 2)


async def test_a_close_and_an_event_exclude_each_other(
    url: str, service: EventService, database: Database
) -> None:
    async with database.transaction() as closing:
        await store.collection_lock(closing, TENANT)
        await raise_collection(closing, TENANT)
        waiting = asyncio.create_task(one(service, event()))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert (await waiting).verdict is Word.ACCEPTED
    assert (await record(url))["collection"] == 2


async def test_a_sum_that_no_rollup_can_hold_is_refused_alone(url: str, service: EventService) -> None:
    most = {"training": COUNT_MAX}
    assert (
        words(await service.record([event(number, **most) for number in range(1_000)]))
        == [Word.ACCEPTED] * 1_000
    )
    found = words(await service.record([event(number, **most) for number in range(990, 1_040)]))
    assert found == [Word.DUPLICATE] * 10 + [Word.ACCEPTED] * 23 + [Word.REJECTED] * 17
    [row] = await ask(
        url, "SELECT (SELECT count(*) FROM external_event), (SELECT count(*) FROM usage_record)"
    )
    assert tuple(row) == (1_023, 1_023)


async def test_a_batch_beyond_the_limit_is_refused_whole(url: str, service: EventService) -> None:
    with pytest.raises(TooLarge, match="at most 1,000 events"):
        await service.record([event()] * (EVENTS_MAX + 1))


async def test_an_estimate_is_kept_apart(url: str, service: EventService) -> None:
    await one(service, event(estimated=True, input=10, output=5, operation="chat"))
    kept = await record(url)
    assert (kept["provenance"], kept["input"], kept["input_method"]) == (
        "estimated",
        10,
        f"event of {SOURCE}",
    )
