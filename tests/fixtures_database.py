"""Databases with the schema, loaded by ``pytest_plugins`` in ``tests/conftest.py``.

The migrations run once for a pytest process (an xdist worker) into a template; each test gets a copy of it.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from billing.infra import migrate
from billing.infra.embedded import EmbeddedPostgres
from billing.infra.postgres import Database
from billing.metering.service import Recorder
from billing.metering.spool import Spool
from billing.settings import Settings
from tests import metering_kit
from tests.integration.recorder_kit import RECORDER_SETTINGS, SMALL_SEGMENTS, MakeRecorder

TEMPLATE = "migrated_template"

_copies = itertools.count(1)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database of this process that the real migrations made; nobody may stay connected to it."""
    migrate.upgrade(postgres_server.create_database(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def migrated_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The ``postgresql://`` URL of a fresh database of this test with the schema, as its superuser."""
    name = f"migrated_{next(_copies)}"
    yield postgres_server.create_database(name, migrated_template)
    postgres_server.drop_database(name)


@pytest.fixture
def tenants_url(migrated_url: str) -> str:
    """The same with the two tenants of ``tests/metering_kit.py``."""
    asyncio.run(metering_kit.add_tenants(migrated_url, metering_kit.TENANT, metering_kit.OTHER_TENANT))
    return migrated_url


@pytest.fixture
async def recorder_database(tenants_url: str) -> AsyncIterator[Database]:
    """What the recorder has of that database: its own role."""
    database = Database(tenants_url, role="recorder")
    yield database
    await database.close()


@pytest.fixture
def make_recorder(recorder_database: Database, tmp_path: Path) -> MakeRecorder:
    """Makes recorders of the spools below ``tmp_path`` into that database."""

    def make(
        settings: Settings = RECORDER_SETTINGS, clock: Callable[[], int] = metering_kit.now_us
    ) -> Recorder:
        return Recorder(recorder_database, tmp_path, settings, clock, "host-1")

    return make


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool with small segments below ``tmp_path``; the test shuts it down."""
    return Spool.create(tmp_path, metering_kit.id_maker(seed=9)(), SMALL_SEGMENTS)
