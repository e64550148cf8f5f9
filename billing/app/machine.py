"""Everything for one machine: the engines that are not given by URL, the schema, gateway, recorder and control."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from billing.app import control
from billing.app.gateway import listen, workers
from billing.app.supervisor import STOP_MARGIN_S, ChildProgram, Supervisor
from billing.infra import migrate
from billing.infra.embedded import EmbeddedPostgres, EmbeddedValkey
from billing.infra.engine import Engine
from billing.infra.engine_folders import make_data_folder
from billing.settings import Settings, http_url

_log = logging.getLogger(__name__)

RECORDER_MODULE = "billing.app.recorder_child"
RUN_FOLDER = "run"
LOG_FOLDER = "logs"
DATABASE_URL_FILE = "database_url"


class Phases:
    """One line for each phase of a start, with the seconds since the command began."""

    def __init__(self, show: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._show = show
        self._monotonic = monotonic
        self._start = monotonic()

    def __repr__(self) -> str:
        return f"<Phases {self._monotonic() - self._start:.1f} s>"

    def done(self, what: str) -> None:
        """Say that a phase has ended."""
        self._show(f"[{self._monotonic() - self._start:5.1f} s] {what}")


class Machine(msgspec.Struct, frozen=True):
    """What runs: settings completed with the addresses in use, our own engines, and the supervisor of the processes."""

    settings: Settings
    supervisor: Supervisor
    engines: tuple[Engine, ...]

    @property
    def gateway_url(self) -> str:
        """Where clients send their requests."""
        return self.settings.gateway.url

    @property
    def control_url(self) -> str:
        """Where operators look: the page, and the admin API below it."""
        return http_url(self.settings.control.host, self.settings.control.port)

    def tick(self) -> None:
        """Start again whatever has died; call it often, from the main thread."""
        self.supervisor.tick()
        for engine in self.engines:
            if not engine.running:
                _log.error("%r has died; starting it again", engine)
                engine.stop()
                engine.start()


@contextlib.contextmanager
def machine(settings: Settings, phases: Phases) -> Iterator[Machine]:
    """Start everything, hand it over, stop everything in order: gateway and control, recorder, engines."""
    make_data_folder(settings.data_dir)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(settings.gateway))
        control_listener = stack.enter_context(control.listen(settings.control, "--control-port"))
        postgres = None if settings.database_url else stack.enter_context(EmbeddedPostgres(settings.data_dir))
        valkey = None if settings.redis_url else stack.enter_context(EmbeddedValkey(settings.data_dir))
        database_url = postgres.url if postgres else settings.database_url or ""
        started: tuple[Engine, ...] = tuple(engine for engine in (postgres, valkey) if engine)
        phases.done(_started(started, settings.data_dir))
        migrate.upgrade(database_url)
        complete = msgspec.structs.replace(
            settings,
            data_dir=settings.data_dir.resolve(),
            database_url=database_url,
            redis_url=valkey.url if valkey else settings.redis_url,
            gateway=msgspec.structs.replace(
                settings.gateway,
                port=listener.getsockname()[1],
                control_url=http_url(settings.control.host, control_listener.getsockname()[1]),
            ),
            control=msgspec.structs.replace(settings.control, port=control_listener.getsockname()[1]),
        )
        phases.done("schema is up to date")
        programs = [
            *workers(complete.gateway, listener),
            control.control_program(control_listener),
            ChildProgram("recorder", RECORDER_MODULE, stop_order=1),
        ]
        log_dir = complete.data_dir / LOG_FOLDER
        log_dir.mkdir(mode=0o700, exist_ok=True)
        supervisor = Supervisor(programs, complete, log_dir=log_dir, monotonic=time.monotonic)
        with _announced(complete.data_dir / RUN_FOLDER / DATABASE_URL_FILE, database_url):
            try:
                supervisor.start()
                yield Machine(complete, supervisor, started)
            finally:
                # While the workers finish what they serve, nobody would take a new connection from the queue.
                listener.close()
                control_listener.close()
                supervisor.stop(complete.gateway.drain_on_stop_s + STOP_MARGIN_S)


@contextlib.contextmanager
def _announced(path: Path, url: str) -> Iterator[None]:
    """Leave the database's address where the command line looks for it, readable by its owner, while it is true."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(url + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _started(engines: tuple[Engine, ...], data_dir: Path) -> str:
    if not engines:
        return "DATABASE_URL and REDIS_URL are given; no engine is started"
    names = " and ".join(engine.title for engine in engines)
    return f"{names} {'answers' if len(engines) == 1 else 'answer'}, data in {data_dir}"
