"""Embedded engines for every kind of user: a normal one, one without a name, and root where namespaces are refused."""

import os
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.errors import Misconfigured
from billing.infra.embedded import EmbeddedPostgres
from tests.integration.engine_parent import (
    NO_ORPHAN_AFTER_S,
    READY_TIMEOUT_S,
    ROOT,
    SERVE,
    Parent,
    everything_ended,
    processes_naming,
    query,
    remove_socket_folders,
    until,
)

NOBODY = 65534
NAMELESS = 54321
"""A user id without an entry in /etc/passwd, as containers often have."""

WITHOUT_NAMESPACES = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x10000000) == 0
print("unshared", flush=True)
sys.stdin.readline()
open("/proc/sys/user/max_user_namespaces", "w").write("0")
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder whose parents every user may pass, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="billing-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    remove_socket_folders(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def python_for_everyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Python that every user may run: where this one lies in a closed folder, a copy."""
    real = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents):
        yield sys.executable
        return
    home = Path(tempfile.mkdtemp(prefix="billing-python-", dir="/tmp"))
    home.chmod(0o755)
    standard, libraries = Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix, "lib")
    shutil.copytree(
        standard, home / "lib" / standard.name, ignore=shutil.ignore_patterns("site-packages", "test")
    )
    (home / "bin").mkdir()
    for file, folder in ((real, "bin"), *((shared, "lib") for shared in libraries.glob("libpython*.so*"))):
        shutil.copy(str(file), str(home / folder))
    yield str(home / "bin" / real.name)
    shutil.rmtree(home)


def run_as(user: int, data_dir: Path, python: str) -> Parent:
    """A parent that runs as this user when we are root, else as ourselves."""
    data_dir.mkdir()
    if os.geteuid() != 0:
        return Parent(data_dir)
    os.chown(data_dir, user, user)
    environment = {
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
        "LD_LIBRARY_PATH": str(Path(python).parents[1] / "lib"),
    }
    return Parent(data_dir, python=python, user=user, group=user, extra_groups=[], env=environment)


in_an_open_place = pytest.mark.skipif(
    os.geteuid() == 0 and not all(folder.stat().st_mode & stat.S_IXOTH for folder in (ROOT, *ROOT.parents)),
    reason=f"{ROOT} lies in a folder that only root may enter: no other user can run the program that is there",
)


@in_an_open_place
@pytest.mark.parametrize("user", [NOBODY, NAMELESS])
def test_a_normal_user_without_a_home(data_dir: Path, python_for_everyone: str, user: int) -> None:
    with run_as(user, data_dir, python_for_everyone) as parent:
        assert query(parent.ready().database_url, "SELECT current_user") == "postgres"
        owner = (data_dir / "postgres").stat().st_uid
        assert owner == data_dir.stat().st_uid
        assert parent.end(signal.SIGTERM) == 0
    assert everything_ended(data_dir)


def without_namespaces(data_dir: Path) -> Parent:
    """A root parent in a user namespace that has all users and allows no further one, as in many containers."""
    parent = Parent(data_dir, WITHOUT_NAMESPACES + SERVE)
    assert parent.line() == "unshared"
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{parent.process.pid}/{name}").write_text("0 0 65536")
    assert parent.process.stdin is not None
    parent.process.stdin.write("\n")
    parent.process.stdin.flush()
    return parent


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a stand-in")


@in_an_open_place
@only_root
def test_root_where_namespaces_are_refused_keeps_its_data_and_its_server_dies_with_it(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert (data_dir / "postgres").stat().st_uid == 0
    with without_namespaces(data_dir) as parent:
        assert query(parent.ready().database_url, "SELECT number FROM kept") == 7
        assert (data_dir / "postgres").stat().st_uid != 0
        parent.end(signal.SIGKILL)
        assert until(lambda: everything_ended(data_dir), NO_ORPHAN_AFTER_S), processes_naming(data_dir)
    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT number FROM kept") == 7


@in_an_open_place
@only_root
def test_root_where_namespaces_are_refused_starts_for_the_first_time(data_dir: Path) -> None:
    with without_namespaces(data_dir) as parent:
        assert query(parent.ready().database_url, "SELECT 1") == 1
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
        assert parent.end(signal.SIGTERM) == 0


@in_an_open_place
@only_root
def test_root_where_namespaces_are_refused_is_told_which_folder_is_closed(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    with without_namespaces(data_dir) as parent:
        assert parent.process.wait(READY_TIMEOUT_S) == 1
        assert parent.process.stderr is not None
        assert f"`chmod o+x {data_dir.parent}`" in parent.process.stderr.read()
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700


@only_root
def test_root_does_not_use_the_folder_of_another_user(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, NOBODY, NOBODY)
    with pytest.raises(Misconfigured, match=f"belongs to user {NOBODY}"):
        EmbeddedPostgres(data_dir).start()
