"""What every embedded engine is: a folder with a lock, a log, a socket folder, and one process that dies with us."""

import contextlib
import importlib.util
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from billing.errors import Misconfigured
from billing.infra.child import (
    Identity,
    log_size,
    log_tail,
    require_main_thread,
    start_child,
    stop_child,
    wait_until,
)
from billing.infra.engine_folders import FolderLock, claim, make_data_folder

START_TIMEOUT_S = 120.0
"""Long enough to replay the log after a crash; a first start takes about a second."""
STOP_TIMEOUT_S = 30.0

# Nothing of the caller's: PGPORT, PGDATESTYLE, TZ and the like would change what the server does.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def wheel_folder(module: str) -> Path:
    """Where an engine's wheel is installed; it is not imported."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise Misconfigured(
            f"the Python package {module} is not installed: pip install 'gpu-billing[embedded]', "
            "or set DATABASE_URL and REDIS_URL"
        )
    return Path(found.origin).resolve().parent


class Engine(ABC):
    """What both engines share: a folder with a lock, a log, a socket folder, and one process."""

    title: str
    program: str

    def __init__(self, data_dir: Path, folder_name: str, socket_root: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._folder = self._data_dir / folder_name
        self._log_path = self._data_dir / "logs" / f"{folder_name}.log"
        self._lock = FolderLock(self._data_dir / f"{folder_name}.lock")
        self._socket_root = socket_root
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid={self.pid}" if self.running else "stopped"
        return f"{type(self).__name__}({str(self._folder)!r}, {state})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id (PostgreSQL: the postmaster's); ``RuntimeError`` before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.title} is not started")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The server's log; it becomes ``<name>.previous`` at a start that finds it longer than ``LOG_BYTES_MAX``."""
        return self._log_path

    @property
    def socket_dir(self) -> Path:
        """The folder with the server's socket; ``RuntimeError`` before the first start."""
        if self._socket_dir is None:
            raise RuntimeError(f"{self.title} is not started")
        return self._socket_dir

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect; ``RuntimeError`` before the first start."""

    def start(self) -> str:
        """Start the server unless it runs, wait until it answers, and return its URL.

        Raises ``Misconfigured`` when another process uses the folder, when a folder is not safe to use, or when the
        server does not start (with the last lines of its log), and ``RuntimeError`` outside the main thread.
        """
        require_main_thread()
        if not self.running:
            try:
                self._start()
            # Whatever it is, also Ctrl-C: nothing stays behind, and the caller gets the error.
            except BaseException as error:
                self.stop()
                if isinstance(error, OSError):
                    raise Misconfigured(f"{self.title} cannot use its folders: {error}") from error
                raise
        return self.url

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server in order, by force after ``timeout_s`` seconds; nothing happens when it has ended already."""
        if self._process is not None:
            stop_child(self._process, self._stop_steps(timeout_s))
            self._process = None
        if self._socket_dir is not None:
            with contextlib.suppress(OSError):  # the other engine's socket is still in it
                self._socket_dir.rmdir()
            self._socket_dir = None
        self._lock.release()

    @abstractmethod
    def _start(self) -> None:
        """Prepare the folders and run the server until it answers."""

    @abstractmethod
    def _stop_steps(self, timeout_s: float) -> Sequence[tuple[signal.Signals, float]]:
        """The signals that end the server, each with the seconds it is given."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server takes work."""

    def _claim(self) -> None:
        make_data_folder(self._data_dir)
        claim(self._lock, self._folder, self.program)

    def _run_server(self, argv: Sequence[str], death_signal: signal.Signals, identity: Identity) -> None:
        """Start the server process and wait until it answers."""
        log_start = log_size(self._log_path)
        self._process = process = start_child(
            argv,
            log_path=self._log_path,
            death_signal=death_signal,
            environment=ENVIRONMENT,
            identity=identity,
        )
        wait_until(lambda: process.poll() is not None or self._answers(), START_TIMEOUT_S)
        if process.poll() is not None or not self._answers():
            raise self._failed("start", log_start)

    def _failed(self, what: str, log_start: int) -> Misconfigured:
        tail = log_tail(self._log_path, log_start)
        return Misconfigured(f"{self.title} did not {what}; the last lines of {self._log_path}:\n{tail}")
