"""Embedded engines as an operator meets them: first start, restart, crash, a second copy, settings."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from billing.errors import Misconfigured
from billing.infra.child import processes_in
from billing.infra.embedded import DATABASE_NAME, EmbeddedPostgres, EmbeddedValkey, engines
from billing.infra.engine_folders import socket_folder
from billing.settings import Settings
from tests.integration.engine_parent import (
    NO_ORPHAN_AFTER_S,
    Parent,
    everything_ended,
    processes_naming,
    query,
    remove_socket_folders,
    until,
)

NOBODY = 65534
FIRST_START_MAX_S = 10.0
SECOND_START_MAX_S = 5.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data folder that does not exist yet, with a space in its path."""
    yield tmp_path / "the data"
    remove_socket_folders(tmp_path / "the data")


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder after its first start, to be copied: cheaper than a first start for each test."""
    folder = tmp_path_factory.mktemp("initialised")
    with EmbeddedPostgres(folder):
        return folder


@pytest.fixture
def used_data_dir(initialised: Path, data_dir: Path) -> Path:
    """A data folder that was in use before."""
    shutil.copytree(initialised, data_dir)
    (data_dir / "logs/postgres.log").unlink()
    return data_dir


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="billing-", dir="/tmp") as folder:
        yield Path(folder)


def started_s(engine: EmbeddedPostgres) -> float:
    """Seconds until the engine answered."""
    before = time.monotonic()
    engine.start()
    return time.monotonic() - before


def test_the_first_and_the_second_start_are_quick_and_rows_stay(data_dir: Path) -> None:
    """Measured 0.6 s and 0.1 s alone on two cores; the limits leave room for other work on the machine."""
    postgres = EmbeddedPostgres(data_dir)
    first_s = started_s(postgres)
    query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS number")
    postgres.stop()
    second_s = started_s(postgres)
    assert query(postgres.url, "SELECT number FROM kept") == 7
    postgres.stop()
    assert first_s < FIRST_START_MAX_S
    assert second_s < SECOND_START_MAX_S


def test_settings_are_durable_and_nothing_listens_on_tcp(used_data_dir: Path) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }
    with EmbeddedPostgres(used_data_dir) as postgres:
        assert {name: query(postgres.url, f"SHOW {name}") for name in expected} == expected
        assert (
            query(postgres.url, "SELECT datlocale FROM pg_database WHERE datname = current_database()")
            == "C.UTF-8"
        )
        folder = postgres.socket_dir
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not folder.is_relative_to(used_data_dir)
        assert len(str(folder / ".s.PGSQL.5432.lock")) < 107
        assert repr(postgres) == f"EmbeddedPostgres('{used_data_dir}/postgres', pid={postgres.pid})"
    assert repr(postgres) == f"EmbeddedPostgres('{used_data_dir}/postgres', stopped)"
    assert not folder.exists()


def test_valkey_appends_and_refuses_rather_than_forgets(data_dir: Path) -> None:
    with (
        EmbeddedValkey(data_dir) as valkey,
        redis.Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        assert client.config_get(*wanted) == wanted
        client.set("kept", "7")
    with (
        EmbeddedValkey(data_dir) as valkey,
        redis.Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        assert client.get("kept") == "7"


def test_a_template_is_copied_and_an_existing_database_is_kept(postgres_server: EmbeddedPostgres) -> None:
    query(postgres_server.create_database("template_seven"), "CREATE TABLE seven AS SELECT 7 AS number")
    copy = postgres_server.create_database("copy_of_seven", template="template_seven")
    assert postgres_server.create_database("copy_of_seven") == copy
    assert query(copy, "SELECT number FROM seven") == 7
    for name in ("copy_of_seven", "template_seven"):
        postgres_server.drop_database(name)
    with pytest.raises(Misconfigured, match="lower-case"):
        postgres_server.create_database('x"; DROP DATABASE billing')


def test_valkey_of_this_process_answers(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.ping()


def test_kill_9_of_the_parent_leaves_no_orphan_and_no_damage(used_data_dir: Path) -> None:
    with Parent(used_data_dir) as parent:
        query(parent.ready().database_url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert parent.end(signal.SIGKILL) == -signal.SIGKILL
        assert until(lambda: everything_ended(used_data_dir), NO_ORPHAN_AFTER_S), processes_naming(
            used_data_dir
        )
    assert "database system is shut down" in (used_data_dir / "logs/postgres.log").read_text()
    with engines(Settings(data_dir=used_data_dir)) as (database_url, _):
        assert query(database_url, "SELECT number FROM kept") == 7


def test_a_restart_at_once_waits_for_the_servers_of_a_killed_parent(used_data_dir: Path) -> None:
    with Parent(used_data_dir) as parent:
        parent.ready().end(signal.SIGKILL)
        with engines(Settings(data_dir=used_data_dir)) as (database_url, redis_url):
            assert query(database_url, "SELECT 1") == 1
            assert redis_url == parent.redis_url


def test_a_killed_server_recovers_although_its_process_id_belongs_to_another_now(used_data_dir: Path) -> None:
    with EmbeddedPostgres(used_data_dir) as postgres, subprocess.Popen(["/bin/sleep", "60"]) as another:
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(postgres.pid, signal.SIGKILL)
        assert until(lambda: not postgres.running, NO_ORPHAN_AFTER_S)
        for stale in (used_data_dir / "postgres/postmaster.pid", postgres.socket_dir / ".s.PGSQL.5432.lock"):
            stale.write_text(stale.read_text().replace(str(postgres.pid), str(another.pid), 1))
        try:
            assert query(postgres.start(), "SELECT number FROM kept") == 7
        finally:
            another.kill()
        assert "automatic recovery in progress" in (used_data_dir / "logs/postgres.log").read_text()


def test_sigterm_stops_in_order(used_data_dir: Path) -> None:
    with Parent(used_data_dir) as parent:
        assert parent.ready().end(signal.SIGTERM) == 0
    assert everything_ended(used_data_dir)
    assert "database system is shut down" in (used_data_dir / "logs/postgres.log").read_text()
    assert "ready to exit" in (used_data_dir / "logs/valkey.log").read_text()


def test_the_first_start_may_be_killed_at_any_moment(data_dir: Path) -> None:
    for delay_s in (0.15, 0.3, 0.45):
        with Parent(data_dir) as parent:
            time.sleep(delay_s)
            parent.end(signal.SIGKILL)
    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT current_database()") == DATABASE_NAME


def test_a_second_parent_is_told_whom_to_stop(used_data_dir: Path) -> None:
    with Parent(used_data_dir) as parent:
        parent.ready()
        (server,) = [
            pid
            for pid in processes_in(used_data_dir / "postgres", "postgres")
            if parent_of(pid) == parent.process.pid
        ]
        second = EmbeddedPostgres(used_data_dir)
        with pytest.raises(
            Misconfigured, match=rf"by process {parent.process.pid} .*\b{server}\b.*--data-dir"
        ):
            second.start()
        assert query(parent.database_url, "SELECT 1") == 1
    assert until(lambda: everything_ended(used_data_dir), NO_ORPHAN_AFTER_S)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_given_urls_start_nothing(data_dir: Path) -> None:
    settings = Settings(
        data_dir=data_dir, database_url="postgresql://elsewhere/billing", redis_url="redis://elsewhere"
    )
    with engines(settings) as addresses:
        assert addresses == ("postgresql://elsewhere/billing", "redis://elsewhere")
    assert not data_dir.exists()


def test_only_the_main_thread_starts_an_engine(data_dir: Path) -> None:
    refusals: list[str] = []

    def start() -> None:
        try:
            EmbeddedValkey(data_dir).start()
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=start, name="another")
    thread.start()
    thread.join()
    assert refusals == ["start children from the main thread, not from another"]


def test_a_failed_start_shows_the_end_of_the_log_and_leaves_nothing(used_data_dir: Path) -> None:
    with EmbeddedPostgres(used_data_dir) as postgres:
        folder = postgres.socket_dir
    with (used_data_dir / "postgres/postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(Misconfigured, match="no_such_setting"):
        postgres.start()
    assert everything_ended(used_data_dir)
    assert not folder.exists()
    postgres.stop()


def made_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def made_by_another(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def made_a_link(folder: Path) -> None:
    folder.symlink_to("/tmp")


@pytest.mark.parametrize("make", [made_open, made_a_link, *([made_by_another] if os.geteuid() == 0 else [])])
def test_a_socket_folder_that_another_user_may_enter_is_refused(
    short_path: Path, make: Callable[[Path], None]
) -> None:
    folder = socket_folder(short_path, os.geteuid(), short_path)
    folder.rmdir()
    make(folder)
    with pytest.raises(Misconfigured, match="is not a folder of mode 700"):
        socket_folder(short_path, os.geteuid(), short_path)


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="at most 107 bytes"):
        socket_folder(tmp_path, os.geteuid(), tmp_path / ("x" * 80))
