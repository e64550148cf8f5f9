"""Starting other programs so that none of them outlives this process, however it ends.

The kernel sends a child its death signal when the *thread* that started it ends (PR_SET_PDEATHSIG, prctl(2)), so only
the main thread may start one. Each child leads a session of its own: Ctrl-C in a terminal reaches the parent alone,
which then stops its children in the order that it wants.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from billing.errors import Misconfigured
from billing.infra.launcher import EXIT_IDENTITY_REFUSED, INHERITED
from billing.settings import MIB

LOG_BYTES_MAX = 8 * MIB
"""A log that is longer when its program starts again becomes ``<name>.previous``, which replaces the one before."""
LOG_TAIL_BYTES_MAX = 4096
LOG_TAIL_LINES_MAX = 12
POLL_INTERVAL_S = 0.005
PROBE_TIMEOUT_S = 10.0

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a child runs as.

    ``namespace``: seen from inside, ``uid`` and ``gid``; seen from outside (files, signals) still this process's user.
    ``account``: that user for good; only root can ask for it.
    """

    kind: Literal["same", "namespace", "account"] = "same"
    uid: int = 0
    gid: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "same" else f"{self.kind}:{self.uid}:{self.gid}"


SAME_IDENTITY = Identity()


def require_main_thread() -> None:
    """Raise ``RuntimeError`` outside the main thread: the child would get its death signal when *this* thread ends."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"start children from the main thread, not from {threading.current_thread().name}")


def _launch_command(
    death_signal: signal.Signals, identity: Identity, environment: str = INHERITED
) -> list[str]:
    """The launcher's part of a command line; raises ``Misconfigured`` where no child can be started safely."""
    if sys.platform != "linux":
        raise Misconfigured(
            "child processes that end with their parent need Linux: set DATABASE_URL and REDIS_URL"
        )
    if not sys.executable:
        raise Misconfigured(
            "this Python does not know its own path (sys.executable is empty): start it by its full path"
        )
    # -I and -S: neither the caller's folder nor installed packages may change what the launcher imports.
    return [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        str(int(death_signal)),
        str(identity),
        environment,
    ]


def start_child(
    argv: Sequence[str],
    *,
    log_path: Path | None,
    death_signal: signal.Signals,
    environment: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    identity: Identity = SAME_IDENTITY,
) -> "subprocess.Popen[bytes]":
    """Start ``argv`` (its first entry an absolute path) so that it gets ``death_signal`` when this process ends.

    Standard input is empty; output and errors are appended to ``log_path`` (mode 0600, see ``LOG_BYTES_MAX``), or go
    where this process's go when it is None. ``environment`` None means: inherited, but for the
    addresses with passwords (``WITHHELD``); ``variables`` are added to it. File descriptors in ``pass_fds``
    keep their numbers, all others are closed. A program that cannot be executed ends with 127, an identity that is
    refused with 125, and the log says why. Raises ``RuntimeError`` outside the main thread.
    """
    require_main_thread()
    given = (variables or None) if environment is None else {**environment, **(variables or {})}
    with _opened_log(log_path) as log, _written(given) as descriptor:
        parts = [INHERITED] * (environment is None) + [str(descriptor)] * (descriptor is not None)
        return subprocess.Popen(  # noqa: S603 - no shell, and the caller names the program by its path
            [*_launch_command(death_signal, identity, ":".join(parts)), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            pass_fds=pass_fds if descriptor is None else (*pass_fds, descriptor),
            start_new_session=True,
        )


@contextlib.contextmanager
def _written(environment: Mapping[str, str] | None) -> Iterator[int | None]:
    """A file in memory with variables for the launcher to hand on, closed again in this process; None without any.

    The launcher's own stays this process's: Python may need it to start (LD_LIBRARY_PATH). Arguments would show it to
    every user of the machine.
    """
    if environment is None:
        yield None
        return
    with os.fdopen(os.memfd_create("environment"), "wb") as file:
        file.write(b"".join(os.fsencode(f"{name}={value}\0") for name, value in environment.items()))
        file.flush()
        file.seek(0)
        yield file.fileno()


def can_become(identity: Identity) -> bool:
    """Whether a child may take this identity here: containers often refuse user namespaces."""
    command = _launch_command(signal.SIGKILL, identity)
    finished = subprocess.run(  # noqa: S603 - the launcher alone, without a command
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROBE_TIMEOUT_S,
        check=False,
    )
    if finished.returncode not in {0, EXIT_IDENTITY_REFUSED}:
        raise Misconfigured(f"{command[0]} cannot start children: {finished.stderr.strip()}")
    return finished.returncode == 0


@contextlib.contextmanager
def _opened_log(path: Path | None) -> Iterator[int | None]:
    """A descriptor that appends to the log, closed again in this process once the child has its own."""
    if path is None:
        yield None
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log_size(path) > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".previous"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def log_size(path: Path) -> int:
    """Bytes in the log; 0 when there is none yet."""
    return path.stat().st_size if path.exists() else 0


def log_tail(path: Path, start: int = 0) -> str:
    """The last lines that were written to a log after byte ``start``, for an error message."""
    with path.open("rb") as log:
        log.seek(max(start, log_size(path) - LOG_TAIL_BYTES_MAX))
        text = log.read(LOG_TAIL_BYTES_MAX).decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES_MAX:])


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask every 5 ms until the condition holds; False when ``timeout_s`` seconds have passed."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def stop_child(process: "subprocess.Popen[bytes]", steps: Iterable[tuple[signal.Signals, float]]) -> int:
    """End a child by each signal in turn, waiting its seconds, and by SIGKILL when none helped; its exit code.

    Safe for a child that has ended already.
    """
    for number, timeout_s in steps:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout_s)
    process.kill()
    return process.wait()


def processes_in(folder: Path, name: str) -> list[int]:
    """Ids of the processes called ``name`` whose working folder is ``folder``, as far as this user may see them.

    A process id in a file may meanwhile belong to somebody else; where a process stands cannot be out of date.
    """
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if _stands_in(entry, folder, name))


def _stands_in(process: Path, folder: Path, name: str) -> bool:
    if not process.name.isdigit():
        return False
    try:
        return (process / "comm").read_text("ascii", "replace").strip() == name and (
            process / "cwd"
        ).samefile(folder)
    except OSError:  # it has ended, or belongs to another user: neither can hold files of ours
        return False
