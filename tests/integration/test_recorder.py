"""The recorder against a real Postgres: what becomes a record and what goes to quarantine."""

import hashlib
import os
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.clock import MICROSECONDS_PER_SECOND, bucket_start
from billing.infra.postgres import Database
from billing.metering.event import Closed, Opened, UsageRecord, payload_hash, settle
from billing.metering.journal import Reason
from billing.metering.service import UsageService
from billing.metering.spool import Spool
from billing.metering.spool.folder import spool_folders
from billing.tokens.components import components
from billing.tokens.usage import COUNT_MAX, Outcome
from tests import metering_kit as kit
from tests.integration.recorder_kit import (
    SMALL_SEGMENTS,
    MakeRecorder,
    outcomes,
    pair,
    quarantined,
    sums,
    write,
)

HOUR_US = 3_600 * MICROSECONDS_PER_SECOND
new_id = kit.id_maker(seed=7)


async def test_a_request_becomes_a_record_with_everything_that_is_known(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, recorder_database: Database
) -> None:
    opened, closed = pair(new_id())
    write(spool, (opened, closed))
    recorder = make_recorder()
    assert await recorder.run_once() == 1
    record = await UsageService(recorder_database).record(opened.id)
    assert record is not None
    [folder] = spool_folders(Path(repr(spool).split()[1]).parent)
    assert (record.tenant_id, record.key_id, record.backend_id) == (kit.TENANT, kit.KEY, kit.BACKEND)
    assert (record.model, record.engine, record.operation, record.stream) == (
        "golden",
        "llama.cpp",
        "chat",
        True,
    )
    assert (record.outcome, record.status, record.provenance) == ("complete", 200, "reported")
    assert (record.output.value, record.output.provenance, record.output.method) == (53, "reported", "usage")
    assert (record.cache_write.value, record.cache_write.provenance) == (None, None)
    assert (record.duration_us, record.ttft_us, record.itl_us) == (1_234_567, 90_000, 11_000)
    assert (record.tags, record.end_user, record.input_estimate) == ({"team": "search"}, "user-17", 400)
    assert (record.collection, record.spool_id, record.payload_hash) == (
        1, folder, payload_hash(settle(opened, closed)),
    )  # fmt: skip
    assert repr(recorder).startswith("<Recorder host-1 level spools=1/1 recorded=1 duplicates=0")
    spool.shutdown()


async def test_the_rollup_adds_up_what_was_recorded_by_every_dimension(
    make_recorder: MakeRecorder, spool: Spool, recorder_database: Database
) -> None:
    pairs = [
        pair(new_id()),
        pair(new_id()),
        pair(new_id(), model="other"),
        pair(new_id(), service_tier="batch"),
        pair(new_id(), tenant_id=kit.OTHER_TENANT),
    ]
    write(spool, *pairs)
    write(spool, *(later := [pair(new_id())]))
    await make_recorder().run_once()
    spool.shutdown()
    now_us = kit.now_us()
    rows = await UsageService(recorder_database).rollup(kit.TENANT, now_us - HOUR_US, now_us + HOUR_US)
    assert sum(row.requests for row in rows) == 5
    assert {(row.model, row.service_tier) for row in rows} == {
        ("golden", "standard"),
        ("other", "standard"),
        ("golden", "batch"),
    }
    each = components(kit.usage())
    for row in rows:
        found = row.components
        assert (found.uncached_input, found.answer_output, found.reasoning) == tuple(
            row.requests * part for part in (each.uncached_input, each.answer_output, each.reasoning)
        )
        assert row.bucket_us in {bucket_start(settle(*p).at_us) for p in (*pairs, *later)}
        assert (row.collection, row.prompt_band, row.outcome) == (1, 0, "complete")
    assert rows == sorted(rows, key=lambda row: (row.bucket_us, row.model, row.service_tier))
    assert (
        await UsageService(recorder_database).rollup(kit.TENANT, now_us + HOUR_US, now_us + 2 * HOUR_US) == []
    )


async def test_more_than_a_batch_is_shipped_in_several(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    write(spool, *(pair(new_id()) for _ in range(950)))
    spool.shutdown()
    recorder = make_recorder()
    assert await recorder.run_once() == 800
    assert "behind" in repr(recorder)
    assert await recorder.run_once() == 150
    assert "level" in repr(recorder)
    assert await sums(tenants_url) == (950, 950, 0)


async def test_a_spool_read_again_from_its_beginning_changes_nothing(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    """So a database restored from a backup catches up with the spools that are kept."""
    write(spool, *(pair(new_id()) for _ in range(250)), (kit.opened(new_id()), None))
    spool.shutdown()
    await make_recorder().run_once()
    await kit.ask(tenants_url, "UPDATE spool SET shipped_through = 0, oldest_open = 0, closed_at = NULL")
    recorder = make_recorder()
    assert await recorder.run_once() == 0
    assert recorder.counters.duplicates == 251
    assert await sums(tenants_url) == (251, 251, 0)
    assert await quarantined(tenants_url) == {}


async def test_another_record_of_the_same_id_is_a_conflict_and_the_first_stands(
    tenants_url: str, make_recorder: MakeRecorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened, closed = pair(new_id())
    for entry in (closed, msgspec.structs.replace(closed, status=499)):
        spool = Spool.create(tmp_path, new_id(), SMALL_SEGMENTS)
        write(spool, (opened, entry))
        spool.shutdown()
        recorder = make_recorder()
        await recorder.run_once()
    assert recorder.counters.conflicts == recorder.counters.quarantined == 1
    [row] = await kit.ask(tenants_url, "SELECT id, reason, payload, payload_hash FROM usage_quarantine")
    kept = msgspec.msgpack.decode(row["payload"], type=UsageRecord)
    assert (row["id"], row["reason"], kept.status) == (opened.id, Reason.CONFLICT, 499)
    assert row["payload_hash"] == hashlib.sha256(row["payload"]).digest()[:16]
    [stored] = await kit.ask(tenants_url, "SELECT status FROM usage_record")
    assert stored[0] == 200
    assert "conflict" in caplog.text


REFUSED = {
    "NUL in a tag": lambda: pair(new_id(), tags={"a": "\0"}),
    "a model name that no index can hold": lambda: pair(new_id(), model=os.urandom(6_000).hex()),
    "a status that is no smallint": lambda: closed_with(status=70_000),
    "a negative count": lambda: closed_with(usage=kit.usage(output_tokens=-1, reasoning=None)),
    "a count above 2^53": lambda: closed_with(usage=kit.usage(input_tokens=COUNT_MAX + 1)),
    "a count above 2^63": lambda: closed_with(usage=kit.usage(input_tokens=1 << 63)),
    "a part larger than its whole": lambda: closed_with(usage=kit.usage(output_tokens=5, reasoning=6)),
}


def closed_with(**fields: object) -> tuple[Opened, Closed]:
    opened, closed = pair(new_id())
    return opened, msgspec.structs.replace(closed, **fields)


@pytest.mark.parametrize("fault", REFUSED)
async def test_what_postgres_refuses_goes_to_quarantine_alone(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool, fault: str
) -> None:
    bad = [REFUSED[fault]() for _ in range(3)]
    good = [pair(new_id()) for _ in range(60)]
    write(spool, *good[:20], bad[0], *good[20:40], bad[1], bad[2], *good[40:])
    spool.shutdown()
    assert await make_recorder().run_once() == 60
    assert await quarantined(tenants_url) == {Reason.REFUSED: 3}
    assert await sums(tenants_url) == (60, 60, 0)
    rows = await kit.ask(tenants_url, "SELECT id, payload, detail FROM usage_quarantine")
    assert {row["id"] for row in rows} == {opened.id for opened, _ in bad}
    assert all(msgspec.msgpack.decode(row["payload"], type=UsageRecord).id == row["id"] for row in rows)
    assert all("\0" not in row["detail"] and "user-17" not in row["detail"] for row in rows)


async def test_ids_outside_the_partitions_and_unknown_tenants_go_to_quarantine(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    old = kit.id_maker(clock=lambda: kit.now_us() - 24 * 90 * HOUR_US)
    stranger = UUID(int=99)
    write(spool, pair(new_id()), pair(old()), pair(new_id(), tenant_id=stranger), pair(new_id()))
    spool.shutdown()
    recorder = make_recorder()
    assert await recorder.run_once() == 2
    assert await quarantined(tenants_url) == {Reason.OUTSIDE_PARTITIONS: 1, Reason.UNKNOWN_TENANT: 1}
    assert recorder.counters.quarantined == 2
    assert await sums(tenants_url) == (2, 2, 0)


async def test_damage_is_kept_counted_and_told_and_the_rest_is_recorded(
    tenants_url: str, make_recorder: MakeRecorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spools = [Spool.create(tmp_path, new_id(), SMALL_SEGMENTS) for _ in range(2)]
    pairs = [[pair(new_id()) for _ in range(30)] for _ in spools]
    for spool, written in zip(spools, pairs, strict=True):
        write(spool, *written)
        spool.shutdown()
    broken = Path(repr(spools[0]).split()[1]) / f"{0:020d}.segment"
    with broken.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    recorder = make_recorder()
    assert await recorder.run_once() == 59
    assert await quarantined(tenants_url) == {Reason.DAMAGE: 1, Reason.CLOSE_WITHOUT_OPEN: 1}
    assert recorder.counters.corrupt == 1
    assert "bytes 0 to" in caplog.text
    assert await sums(tenants_url) == (59, 59, 0)


async def test_a_spool_that_cannot_be_read_keeps_nobody_back(
    tenants_url: str,
    make_recorder: MakeRecorder,
    tmp_path: Path,
    spool: Spool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(spool, *(pair(new_id()) for _ in range(5)))
    broken = tmp_path / f"{new_id()}.spool"
    broken.mkdir()
    recorder = make_recorder()
    assert await recorder.run_once() == 5
    await recorder.run_once()
    assert recorder.counters.corrupt == 1
    assert caplog.text.count("cannot be read, the others go on") == 1
    spool.shutdown()


async def test_a_live_workers_requests_wait_for_their_end(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    waiting = kit.opened(new_id())
    write(spool, (waiting, None), pair(new_id()))
    recorder = make_recorder()
    assert await recorder.run_once() == 1
    assert await recorder.run_once() == 0
    spool.close(kit.closed(waiting.id, outcome=Outcome.CLIENT_CLOSED))
    assert await recorder.run_once() == 1
    assert await outcomes(tenants_url) == {"complete": 1, "client_closed": 1}
    spool.shutdown()
    assert await recorder.run_once() == 0
    [row] = await kit.ask(
        tenants_url, "SELECT host, closed_at IS NOT NULL AS closed, shipped_through, oldest_open FROM spool"
    )
    assert (row["host"], row["closed"], row["shipped_through"]) == ("host-1", True, row["oldest_open"])


async def test_more_interrupted_requests_than_a_batch_holds_all_become_records(
    tenants_url: str, make_recorder: MakeRecorder, spool: Spool
) -> None:
    write(spool, *((kit.opened(new_id()), None) for _ in range(250)))
    spool.shutdown()
    recorder = make_recorder()
    assert await recorder.run_once() == 250
    assert recorder.counters.interrupted == 250
    assert await outcomes(tenants_url) == {"interrupted": 250}
