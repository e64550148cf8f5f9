"""Starts the processes of one machine, starts one again when it dies, stops all of them in order.

Children receive their settings through a pipe, so that no credential stands in a process list or an environment.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from billing.errors import Misconfigured
from billing.infra.child import start_child
from billing.infra.telemetry import Run
from billing.settings import Settings

_log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.1
RESTARTS_MAX = 20
RESTART_WINDOW_S = 60.0
RESTART_DELAY_S = 0.2
STOP_MARGIN_S = 5.0
SETTINGS_BYTES_MAX = 60_000
"""They are written whole into the pipe before the child reads; a pipe holds 64 KiB."""


class ChildProgram(msgspec.Struct, frozen=True):
    """A Python module to run as a process; ``shared_fds`` stay open in it under their numbers."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    shared_fds: tuple[int, ...] = ()
    stop_order: int = 0
    """Programs of a smaller number are asked to end first, and have ended before the next are asked."""


class _Child:
    """One running program and when it was last started again."""

    def __init__(self, program: ChildProgram) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts: deque[float] = deque(maxlen=RESTARTS_MAX)
        self.due: float | None = None


class Supervisor:
    """Runs programs until :meth:`stop`. Call :meth:`tick` often; it must be used from the main thread."""

    def __init__(
        self,
        programs: list[ChildProgram],
        settings: Settings,
        *,
        log_dir: Path | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._children = [_Child(program) for program in programs]
        self._settings = msgspec.json.encode(settings, enc_hook=_path_as_text)
        if len(self._settings) > SETTINGS_BYTES_MAX:
            raise Misconfigured(f"the settings are longer than {SETTINGS_BYTES_MAX} bytes")
        self._metrics_dir = settings.metrics_dir
        self._run: Run | None = None
        self._log_dir = log_dir
        self._monotonic = monotonic
        self.deaths = 0

    def __repr__(self) -> str:
        return f"<Supervisor {' '.join(f'{name}={pid}' for name, pid in self.pids().items())} deaths={self.deaths}>"

    def pids(self) -> dict[str, int]:
        """Process id by name, of those that run."""
        running = [(child.program.name, child.process) for child in self._children]
        return {
            name: process.pid for name, process in running if process is not None and process.poll() is None
        }

    def start(self) -> None:
        """Start every program; raises ``Misconfigured`` when there is no place for what they count."""
        self._run = Run.begin(self._metrics_dir)
        for child in self._children:
            self._launch(child)

    def tick(self) -> None:
        """Start again what has died; raises ``Misconfigured`` when one dies again and again."""
        now = self._monotonic()
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self.deaths += 1
                _log.error(
                    "%s (pid %d) ended with %d; starting it again",
                    child.program.name,
                    child.process.pid,
                    code,
                )
                if self._run is not None:
                    self._run.forget(child.process.pid)
                child.process = None
                child.due = now + RESTART_DELAY_S
            if child.process is None and child.due is not None and now >= child.due:
                self._restart(child, now)

    def stop(self, timeout_s: float) -> None:
        """Ask all to end, wait, and kill what has not ended in time. May be called again."""
        for order in sorted({child.program.stop_order for child in self._children}):
            running = [
                child.process
                for child in self._children
                if child.program.stop_order == order and child.process
            ]
            self._end(running, timeout_s)
        for child in self._children:
            child.process = None
        if self._run is not None:
            self._run.end()

    def _end(self, running: "list[subprocess.Popen[bytes]]", timeout_s: float) -> None:
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = self._monotonic() + timeout_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - self._monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("pid %d did not end within %.0f s: killed", process.pid, timeout_s)
                process.kill()
                process.wait()

    def _restart(self, child: _Child, now: float) -> None:
        if len(child.restarts) == RESTARTS_MAX and now - child.restarts[0] < RESTART_WINDOW_S:
            raise Misconfigured(
                f"{child.program.name} has died {RESTARTS_MAX} times within {RESTART_WINDOW_S:.0f} s; {self._log_hint(child)}"
            )
        child.restarts.append(now)
        self._launch(child)

    def _log_hint(self, child: _Child) -> str:
        return f"its log is {self._log_dir / child.program.name}.log" if self._log_dir else "its log is above"

    def _launch(self, child: _Child) -> None:
        program = child.program
        reading, writing = os.pipe()
        try:
            os.write(writing, self._settings)
            os.close(writing)
            child.process = start_child(
                [sys.executable, "-m", program.module, "--settings-fd", str(reading), *program.arguments],
                log_path=self._log_dir / f"{program.name}.log" if self._log_dir else None,
                death_signal=signal.SIGTERM,
                variables=self._run.variables if self._run else {},
                pass_fds=(reading, *program.shared_fds),
            )
            child.due = None
        finally:
            os.close(reading)


class StopSignal:
    """Whether SIGTERM or SIGINT has come. Made in the main thread; from then on the signals only set this."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def __repr__(self) -> str:
        return f"<StopSignal {'received' if self.received else 'waiting'}>"

    def _note(self, _number: int, _frame: object) -> None:
        self.received = True


def supervise(
    supervisor: Supervisor, stop: StopSignal, listener: socket.socket, *, stop_timeout_s: float
) -> None:
    """Start all, keep them running until a stop signal, end them; new connections are refused from then on."""
    try:
        supervisor.start()
        while not stop.received:
            time.sleep(POLL_INTERVAL_S)
            supervisor.tick()
    finally:
        listener.close()
        supervisor.stop(stop_timeout_s + STOP_MARGIN_S)


def read_settings(descriptor: int) -> Settings:
    """A child's settings, from the pipe its parent filled; raises ``Misconfigured`` when they are not whole."""
    with os.fdopen(descriptor, "rb") as pipe:
        data = pipe.read()
    try:
        return msgspec.json.decode(data, type=Settings, dec_hook=_text_as_path)
    except msgspec.DecodeError as fault:
        raise Misconfigured(f"settings from the parent process cannot be read: {fault}") from fault


def _path_as_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"settings hold a {type(value).__name__}, which has no place in them")


def _text_as_path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise TypeError(f"settings hold a {kind.__name__}, which has no place in them")
