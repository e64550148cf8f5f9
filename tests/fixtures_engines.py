"""Real PostgreSQL and Valkey for tests, loaded by ``pytest_plugins`` in ``tests/conftest.py``.

One server of each kind for a pytest process (an xdist worker), in a temporary folder, dead with that process however it
ends. Only these PostgreSQL databases run without durability: whatever tests a crash starts an engine of its own.
"""

import itertools
from collections.abc import Iterator

import pytest

from billing.infra.embedded import EmbeddedPostgres, EmbeddedValkey

_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """This process's PostgreSQL without durability; ``create_database`` may copy a migrated database by ``template``."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), throwaway=True) as server:
        yield server


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The ``postgresql://`` URL of a fresh, empty database of this test, dropped after it."""
    name = f"test_{next(_database_numbers)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """This process's Valkey, for tests that look at the server itself."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url(valkey_server: EmbeddedValkey) -> str:
    """The ``unix://`` URL of this process's Valkey; its keys are shared by all tests of the process."""
    return valkey_server.url
