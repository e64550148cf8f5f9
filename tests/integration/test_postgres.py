"""Transactions, roles and lost connections on a real Postgres."""

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import Misconfigured, Unavailable
from billing.infra.postgres import ROLES, Connection, Database, driver, engine_of
from tests import metering_kit as kit

ROWS = [(number,) for number in range(100)]
RECORD = """
INSERT INTO usage_record (tenant_id, id, key_id, model, backend_id, engine, operation, stream, service_tier, outcome,
  status, provenance, collection, payload_hash, recorded_at)
VALUES ($1, $2, $2, 'm', $2, 'vllm', 'chat', true, 'standard', 'complete', 200, 'reported', 1, '', now())
"""
ROLLUP = """
INSERT INTO usage_rollup VALUES ($1, '2026-11-24T10:15:00Z', 1, $1, 'm', 'chat', 'standard', 0, 'complete', 'reported',
  1, 1, 1, 1, 1, 1)
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await kit.ask(database_url, "CREATE TABLE fact (number integer PRIMARY KEY)")
    database = Database(database_url, pool_size=2)
    yield database
    await database.close()


async def count(url: str) -> int:
    return int((await kit.ask(url, "SELECT count(*) FROM fact"))[0][0])


async def test_a_block_that_ends_is_committed(database: Database, database_url: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO fact VALUES (1)"))
        assert await count(database_url) == 0
    assert await count(database_url) == 1


async def test_a_block_that_raises_is_rolled_back(database: Database, database_url: str) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO fact VALUES (1)"))
            raise LookupError("of the caller's own")

    with pytest.raises(LookupError, match="of the caller's own"):
        await fail()
    assert await count(database_url) == 0


async def test_a_copy_that_comes_first_is_rolled_back_too(database: Database, database_url: str) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await (await driver(connection)).copy_records_to_table("fact", records=ROWS)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await count(database_url) == 0


async def test_without_an_explicit_begin_the_rows_of_a_copy_would_stay(
    database: Database, database_url: str
) -> None:
    """The trap itself: SQLAlchemy begins lazily, so this COPY commits by itself."""
    engine = engine_of(database_url, {})
    async with AsyncSession(engine) as session:
        raw = await (await session.connection()).get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.copy_records_to_table("fact", records=ROWS)
        await session.rollback()
    await engine.dispose()
    assert await count(database_url) == 100


async def test_a_cancelled_block_is_rolled_back_and_its_connection_is_used_again(
    database: Database, database_url: str
) -> None:
    inside = asyncio.Event()

    async def wait() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO fact VALUES (1)"))
            inside.set()
            await connection.execute(text("SELECT pg_sleep(30)"))

    for _ in range(3):
        inside.clear()
        task = asyncio.create_task(wait())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await count(database_url) == 0
    async with database.transaction() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_sessions_are_in_utc_and_say_who_they_are(database: Database) -> None:
    async with database.transaction() as connection:
        row = (await connection.execute(text("SELECT current_setting('timezone'), current_setting('application_name')"))).one()  # fmt: skip
    assert tuple(row) == ("UTC", "billing-owner")
    assert repr(database).startswith("<Database role=owner Pool size: 2")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://postgres@127.0.0.1:9/none",
        "postgresql://postgres@/none?host=/nowhere&port=5432",
    ],
)
async def test_a_server_that_does_not_answer_is_unavailable(address: str) -> None:
    database = Database(address)
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with database.transaction():
            pass
    await database.close()


@pytest.mark.parametrize(
    ("old", "new"), [("postgres@", "stranger@"), ("@/test_", "@/not_there_")], ids=["user", "database"]
)
async def test_a_server_that_lets_nobody_in_is_unavailable(database_url: str, old: str, new: str) -> None:
    database = Database(database_url.replace(old, new))
    with pytest.raises(Unavailable, match="does not exist"):
        async with database.transaction():
            pass
    await database.close()


async def by_sqlalchemy(connection: Connection) -> None:
    await connection.execute(text("SELECT 1"))


async def by_driver(connection: Connection) -> None:
    await (await driver(connection)).fetch("SELECT 1")


async def by_copy(connection: Connection) -> None:
    await (await driver(connection)).copy_records_to_table("fact", records=ROWS)


@pytest.mark.parametrize("use", [by_sqlalchemy, by_driver, by_copy], ids=lambda use: use.__name__)
async def test_a_connection_that_breaks_is_unavailable_and_the_next_is_fresh(
    database: Database, database_url: str, use: object
) -> None:
    assert callable(use)

    async def broken() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO fact VALUES (1)"))
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            await kit.ask(database_url, "SELECT pg_terminate_backend($1, 5000)", pid)
            await use(connection)

    with pytest.raises(Unavailable, match=r"went away|cannot be reached"):
        await broken()
    async with database.transaction() as connection:
        await use(connection)
    assert await count(database_url) in {0, 100}


async def test_a_pooled_connection_that_died_in_the_meantime_is_replaced(
    database: Database, database_url: str
) -> None:
    async with database.transaction() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    await kit.ask(database_url, "SELECT pg_terminate_backend($1, 5000)", pid)
    async with database.transaction() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != pid


async def test_what_a_statement_breaks_is_the_callers_to_handle(database: Database) -> None:
    async def twice() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO fact VALUES (1), (1)"))

    with pytest.raises(IntegrityError):
        await twice()


async def test_a_value_that_cannot_be_sent_is_not_a_lost_connection(database: Database) -> None:
    async def by_name() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO fact VALUES (:number)"), {"number": "one"})

    async def by_driver() -> None:
        async with database.transaction() as connection:
            await (await driver(connection)).execute("INSERT INTO fact VALUES ($1)", "one")

    with pytest.raises(DBAPIError):
        await by_name()
    with pytest.raises(asyncpg.DataError, match="invalid input for query argument"):
        await by_driver()


def test_a_role_that_is_not_ours_is_refused() -> None:
    with pytest.raises(
        Misconfigured, match="'root' is not one of the roles gateway, recorder, control, portal"
    ):
        Database("postgresql://localhost/x", role="root")


ALLOWED = {
    "gateway": ["SELECT * FROM api_key", "SELECT * FROM directory_version", "SELECT * FROM deployment", "SELECT * FROM price_plan_version"],
    "recorder": [
        "SELECT collection FROM tenant",
        "INSERT INTO spool (id, host, registered_at) VALUES (gen_random_uuid(), 'h', now())",
        "UPDATE usage_rollup SET requests = 1",
        "SELECT usage_partitions_ensure(now(), now())",
        "SELECT * FROM usage_record",
    ],
    "control": ["SELECT * FROM usage_record", "SELECT * FROM price_plan_version"],
    "portal": ["SELECT * FROM usage_record", "SELECT * FROM usage_rollup", "SELECT * FROM tenant"],
}  # fmt: skip
FORBIDDEN = {
    "gateway": [
        "UPDATE api_key SET name = 'x'",
        "SELECT * FROM usage_record",
        "SELECT * FROM invoice",
        "UPDATE price_plan SET name = 'x'",
    ],
    "recorder": [
        "SELECT * FROM api_key",
        "UPDATE usage_record SET output = 0",
        "DELETE FROM usage_record",
        "UPDATE tenant SET collection = 9",
        "DELETE FROM spool",
    ],
    "control": [
        "DELETE FROM tenant",
        "UPDATE usage_record SET output = 0",
        "UPDATE usage_rollup SET requests = 0",
        "UPDATE price_plan_version SET content = '{}'",
    ],
    "portal": [
        "UPDATE tenant SET name = 'x'",
        "SELECT * FROM api_key",
        "SELECT * FROM usage_quarantine",
        "SELECT usage_partitions_ensure(now(), now())",
        "UPDATE usage_record SET output = 0",
    ],
}


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_its_work_and_nothing_else(migrated_url: str, role: str) -> None:
    database = Database(migrated_url, role=role)
    for statement in ALLOWED[role]:
        async with database.transaction() as connection:
            assert await connection.scalar(text("SELECT current_user")) == role
            await connection.execute(text(statement))
    for statement in FORBIDDEN[role]:
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.transaction() as connection:
                await connection.execute(text(statement))
    await database.close()


async def test_a_tenant_sees_its_own_and_nothing_of_another(migrated_url: str) -> None:
    """Row-level security: without the transaction's tenant the portal sees nothing, with it that tenant."""
    new_id = kit.id_maker(seed=random.Random(3).getrandbits(32))
    for tenant in (kit.TENANT, kit.OTHER_TENANT):
        await kit.ask(migrated_url, RECORD, tenant, new_id())
        await kit.ask(migrated_url, ROLLUP, tenant)
    database = Database(migrated_url, role="portal", pool_size=1)

    async def seen(tenant: UUID | None) -> list[set[UUID]]:
        async with database.transaction() as connection:
            if tenant is not None:
                await connection.execute(
                    text("SELECT set_config('billing.tenant_id', :tenant, true)"), {"tenant": str(tenant)}
                )
            tables = ("usage_record", "usage_rollup")
            rows = [await connection.scalars(text(f"SELECT tenant_id FROM {table}")) for table in tables]  # noqa: S608 - two names
            return [set(found.all()) for found in rows]

    assert await seen(None) == [set(), set()]
    assert await seen(kit.TENANT) == [{kit.TENANT}, {kit.TENANT}]
    assert await seen(kit.OTHER_TENANT) == [{kit.OTHER_TENANT}, {kit.OTHER_TENANT}]
    # The setting ends with its transaction: the next user of the pooled connection starts with nothing.
    assert await seen(None) == [set(), set()]
    assert await seen(UUID(int=5)) == [set(), set()]
    await database.close()


async def test_a_partition_cannot_be_read_past_the_policy(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url, server_settings={"role": "portal"})
    [name] = await connection.fetchrow("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_record'::regclass LIMIT 1")  # fmt: skip
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch(f"SELECT * FROM {name}")  # noqa: S608 - a table's own name
    await connection.close()
