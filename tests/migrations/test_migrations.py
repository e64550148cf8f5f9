"""Migrations up, down and up again with rows in the tables; many at once; by an owner who is not a superuser."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from billing.clock import from_datetime, to_datetime
from billing.errors import Misconfigured
from billing.ids import floor_of
from billing.infra import migrate
from billing.infra.embedded import EmbeddedPostgres
from billing.infra.postgres import ROLES, Database
from tests import metering_kit as kit

UPGRADE = "import sys; from billing.infra import migrate; migrate.upgrade(sys.argv[1])"
DATABASES = 8
HEAD = "0007"

ROWS = f"""
INSERT INTO tenant (id, slug, name, created_at) VALUES ('{kit.TENANT}', 'acme', 'Acme', now());
INSERT INTO project (tenant_id, id, slug, name, created_at) VALUES ('{kit.TENANT}', '{kit.KEY}', 'p', 'P', now());
INSERT INTO api_key (tenant_id, id, project_id, name, prefix, hash, created_at)
  VALUES ('{kit.TENANT}', '{kit.KEY}', '{kit.KEY}', 'k', 'sk', sha256('k'), now());
INSERT INTO backend (id, name, url, engine, created_at) VALUES ('{kit.BACKEND}', 'b', 'http://b', 'vllm', now());
INSERT INTO model (id, name, created_at) VALUES ('{kit.KEY}', 'golden', now());
INSERT INTO deployment (id, model_id, backend_id, backend_model, created_at)
  VALUES ('{kit.KEY}', '{kit.KEY}', '{kit.BACKEND}', 'g', now());
INSERT INTO price_plan (id, name, currency, created_at) VALUES ('{kit.KEY}', 'plan', 'USD', now());
INSERT INTO price_plan_version VALUES ('{kit.KEY}', 1, '2026-11-01T00:00:00Z', '{{}}', '', now());
INSERT INTO subscription VALUES ('{kit.TENANT}', '{kit.KEY}', '{kit.KEY}', '2026-11-01T00:15:00Z', NULL, now());
INSERT INTO spool (id, host, registered_at) VALUES ('{kit.KEY}', 'h', now());
INSERT INTO usage_record (tenant_id, id, key_id, model, backend_id, engine, operation, stream, service_tier, outcome,
  status, provenance, collection, payload_hash, recorded_at)
  SELECT '{kit.TENANT}', overlay(uuid_floor(now())::text placing '7' from 15)::uuid, '{kit.KEY}', 'm', '{kit.BACKEND}',
  'vllm', 'chat', true, 'standard', 'complete', 200, 'reported', 1, '', now();
INSERT INTO usage_rollup VALUES ('{kit.TENANT}', '2026-11-24T10:15:00Z', 1, '{kit.KEY}', 'm', 'chat', 'standard', 0,
  'complete', 'reported', 1, 1, 1, 1, 1, 1);
INSERT INTO usage_limit (tenant_id, id, meter, amount, window_s, enforce, on_failure, created_at)
  VALUES ('{kit.TENANT}', '{kit.KEY}', 'requests', 50, 60, 'enforced', 'closed', now());
INSERT INTO invoice (tenant_id, id, issuer_id, number, status, month, period_start, period_end, is_early, collection,
  currency, inputs, content, content_hash, total_minor, created_at, issued_at)
  SELECT '{kit.TENANT}', '{kit.KEY}', id, 'INV-1', 'issued', '2026-10', '2026-10-01T00:00:00Z', '2026-11-01T00:00:00Z', false,
  1, 'USD', '{{}}', '', sha256(''), 100, now(), now() FROM issuer;
INSERT INTO ledger_transaction VALUES ('{kit.TENANT}', '{kit.KEY}', 'invoice_issued', '{kit.KEY}', 'USD', now());
INSERT INTO ledger_posting VALUES ('{kit.TENANT}', '{kit.KEY}', 1, 'receivable', 100),
  ('{kit.TENANT}', '{kit.KEY}', 2, 'revenue', -100);
INSERT INTO external_event VALUES ('{kit.TENANT}', 'trainer', 'e-1', '{kit.KEY}', '', now());
INSERT INTO usage_quarantine VALUES ('{kit.TENANT}', '{kit.KEY}', 'conflict', '', '', '', NULL, now(), NULL);
"""  # noqa: S608 - made of fixed ids


async def run(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


def objects(url: str) -> set[str]:
    """Tables, functions and policies of the schema."""
    rows = kit.sql(
        url,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " UNION SELECT proname::text FROM pg_proc p WHERE pronamespace = 'public'::regnamespace"
        "   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND deptype = 'e')"
        " UNION SELECT policyname::text || ' on ' || tablename FROM pg_policies",
    )
    return {row[0] for row in rows}


def roles(url: str) -> set[str]:
    return {row[0] for row in kit.sql(url, "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1)", list(ROLES))}  # fmt: skip


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server on which nobody has migrated yet: roles belong to the whole of it."""
    with EmbeddedPostgres(tmp_path, throwaway=True) as server:
        yield server


def test_up_down_and_up_again_with_rows_in_every_table(database_url: str) -> None:
    assert migrate.current(database_url) is None
    migrate.upgrade(database_url)
    made = objects(database_url)
    for _ in range(2):
        asyncio.run(run(database_url, ROWS))
        filled = kit.sql(database_url, "SELECT relname FROM pg_stat_user_tables WHERE n_tup_ins = 0 AND relname !~ '^usage_record_'")  # fmt: skip
        assert [row[0] for row in filled if row[0] != "usage_record"] == []
        assert migrate.current(database_url) == HEAD
        migrate.downgrade(database_url, "base")
        assert migrate.current(database_url) is None
        assert objects(database_url) == {"alembic_version"}
        assert roles(database_url) == set(ROLES)
        migrate.upgrade(database_url)
        assert objects(database_url) == made


def test_upgrading_what_is_up_to_date_changes_nothing(migrated_url: str) -> None:
    before = objects(migrated_url)
    migrate.upgrade(migrated_url)
    assert objects(migrated_url) == before


def test_the_tables_that_the_code_describes_are_the_databases(migrated_url: str) -> None:
    migrate.check(migrated_url)


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE usage_record ADD COLUMN cost numeric",
        "ALTER TABLE usage_rollup ALTER COLUMN requests TYPE integer",
        "ALTER TABLE spool ALTER COLUMN host DROP NOT NULL",
        "DROP TABLE usage_quarantine",
        "DROP INDEX ix_usage_record_id",
    ],
)
def test_a_table_that_drifted_is_found(migrated_url: str, drift: str) -> None:
    kit.sql(migrated_url, drift)
    with pytest.raises(Misconfigured, match="New upgrade operations detected"):
        migrate.check(migrated_url)


def test_a_migration_that_fails_leaves_nothing_of_itself(database_url: str) -> None:
    kit.sql(database_url, "CREATE TABLE usage_rollup (in_the_way integer)")
    with pytest.raises(asyncpg.DuplicateTableError):
        migrate.upgrade(database_url)
    assert objects(database_url) <= {"usage_rollup", "alembic_version"}
    assert migrate.current(database_url) is None
    kit.sql(database_url, "DROP TABLE usage_rollup")
    migrate.upgrade(database_url)


def test_eight_databases_of_one_server_migrate_at_once(own_server: EmbeddedPostgres) -> None:
    urls = [own_server.create_database(f"at_once_{number}") for number in range(DATABASES)]
    children = [subprocess.Popen([sys.executable, "-W", "error", "-c", UPGRADE, url]) for url in urls]
    assert [child.wait(60) for child in children] == [0] * DATABASES
    assert {migrate.current(url) for url in urls} == {HEAD}
    assert roles(urls[0]) == set(ROLES)


def test_threads_of_one_process_may_migrate_at_once(own_server: EmbeddedPostgres) -> None:
    urls = [own_server.create_database(f"thread_{number}") for number in range(4)]
    threads = [threading.Thread(target=migrate.upgrade, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {migrate.current(url) for url in urls} == {HEAD}


def test_two_migrations_of_one_database_take_turns(database_url: str) -> None:
    children = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", UPGRADE, database_url]) for _ in range(2)
    ]
    assert [child.wait(60) for child in children] == [0, 0]
    assert migrate.current(database_url) == HEAD


def test_an_owner_who_is_not_a_superuser_migrates_and_becomes_each_role(own_server: EmbeddedPostgres) -> None:
    own_server.create_database("owned")
    kit.sql(own_server.url, "CREATE ROLE landlord LOGIN CREATEROLE")
    kit.sql(own_server.url, "ALTER DATABASE owned OWNER TO landlord")
    url = own_server.url_of("owned").replace("postgres@", "landlord@")
    migrate.upgrade(url)
    for role in ROLES:
        asyncio.run(becomes(url, role))
    migrate.downgrade(url, "base")
    migrate.upgrade(url)


async def becomes(url: str, role: str) -> None:
    database = Database(url, role=role)
    async with database.transaction() as connection:
        assert (await connection.exec_driver_sql("SELECT current_user")).scalar() == role
    await database.close()


def test_partitions_reach_from_last_month_to_three_months_ahead(migrated_url: str) -> None:
    names = {row[0] for row in kit.sql(migrated_url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_record'::regclass")}  # fmt: skip
    wanted = kit.sql(
        migrated_url,
        "SELECT 'usage_record_' || to_char(now() AT TIME ZONE 'UTC' + make_interval(months => n), 'YYYY_MM') "
        "FROM generate_series(-1, 3) n",
    )
    assert {row[0] for row in wanted} <= names


def test_making_partitions_again_makes_none(migrated_url: str) -> None:
    [row] = kit.sql(migrated_url, "SELECT usage_partitions_ensure(now(), now() + interval '2 months')")
    assert row[0] == 0
    [row] = kit.sql(migrated_url, "SELECT usage_partitions_ensure('2031-01-31', '2031-03-01')")
    assert row[0] == 3


def test_partitions_of_more_than_twenty_years_are_refused(migrated_url: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match="more than 20 years"):
        kit.sql(migrated_url, "SELECT usage_partitions_ensure('2000-01-01', '2031-01-01')")


async def test_partitions_are_made_while_others_read_and_write(migrated_url: str) -> None:
    reader = await asyncpg.connect(migrated_url)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM usage_record")
        await reader.execute("LOCK TABLE usage_record IN ROW EXCLUSIVE MODE")
        rows = await kit.ask(
            migrated_url,
            "SELECT set_config('lock_timeout', '2s', false), usage_partitions_ensure('2031-01-01', '2031-01-01')",
        )
    await reader.close()
    assert rows[0][1] == 1


async def test_two_who_make_the_same_partitions_do_not_collide(migrated_url: str) -> None:
    statement = "SELECT usage_partitions_ensure('2032-01-01', '2032-12-01')"
    results = await asyncio.gather(*(kit.ask(migrated_url, statement) for _ in range(4)))
    assert sorted(rows[0][0] for rows in results) == [0, 0, 0, 12]


def test_the_floor_of_a_month_is_the_same_in_sql_and_in_python(migrated_url: str) -> None:
    for year, month in ((1970, 1), (2026, 11), (2028, 3), (2199, 12)):
        start = datetime(year, month, 1, tzinfo=UTC)
        [row] = kit.sql(migrated_url, "SELECT uuid_floor($1)", start)
        assert row[0] == floor_of(from_datetime(start))
        assert to_datetime((row[0].int >> 80) * 1_000) == start


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO subscription SELECT tenant_id, gen_random_uuid(), plan_id, '2027-01-01', NULL, now() FROM subscription",
        "INSERT INTO subscription SELECT tenant_id, gen_random_uuid(), plan_id, '2020-01-01 00:01', '2020-02-01', now() FROM subscription",
        "INSERT INTO price_plan_version SELECT plan_id, 2, '2026-12-01T00:00:01Z', '{}', '', now() FROM price_plan_version",
        "UPDATE usage_record SET output = -1",
        "UPDATE usage_record SET output = 9007199254740993",
        "UPDATE usage_record SET output = 1, reasoning = 2",
        "UPDATE usage_rollup SET bucket = '2026-11-24T10:16:00Z'",
        "UPDATE spool SET oldest_open = 5, shipped_through = 4",
        "UPDATE tenant SET collection = 0",
    ],
)  # fmt: skip
def test_what_must_never_be_stored_is_refused_by_the_database(migrated_url: str, statement: str) -> None:
    asyncio.run(run(migrated_url, ROWS))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        kit.sql(migrated_url, statement)
