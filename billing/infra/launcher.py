"""The few steps between being started and becoming the real program: a script, run by ``billing/infra/child.py``.

It is a program of its own, and not a ``preexec_fn``, because Python code between fork and exec may deadlock when the
parent has threads (CPython 3.12 and later warn about it). It imports the standard library only, takes about 15 ms,
and then *becomes* the program by exec, so the process id that the parent holds is the program's own.

Arguments: parent's process id, death signal, identity (``same``, ``namespace:UID:GID`` or ``account:UID:GID``), the
descriptor of a file that holds the command's environment (or ``inherited``, or ``inherited:`` and the descriptor of a
file with what is added to it), then the command. Without a command it ends with 0 after it has taken the identity: that
is how a parent asks whether it can.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

EXIT_IDENTITY_REFUSED = 125
EXIT_CANNOT_EXECUTE = 127
ARGUMENTS_BEFORE_COMMAND = 4
INHERITED = "inherited"
SIGNAL_MAX = 31
"""The last signal with a meaning of its own; above are the C library's two and the real-time signals (signal(7))."""
WITHHELD = frozenset({b"DATABASE_URL", b"REDIS_URL", b"BILLING_ADMIN_TOKEN"})
"""Not inherited: secrets stand in them, and what a child must know comes to it through a pipe."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_CLONE_NEWUSER = 0x10000000  # <linux/sched.h>

_libc = ctypes.CDLL(None, use_errno=True)


def _called(result: int, name: str) -> None:
    """Raise the ``OSError`` of a C call that did not answer 0."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _enter_namespace(inner_uid: int, inner_gid: int) -> None:
    """Be another user inside a new user namespace; outside, files and signals still see the user of before."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _called(_libc.unshare(_CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{inner_uid} {outer_uid} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{inner_gid} {outer_gid} 1", "ascii")


def _become_account(uid: int, gid: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _take_identity(identity: str) -> None:
    """Become whom the parent asked for; raises ``OSError`` where the kernel or the container refuses."""
    kind, *numbers = identity.split(":")
    if kind == "namespace":
        _enter_namespace(*map(int, numbers))
    elif kind == "account":
        _become_account(*map(int, numbers))


def _die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Ask the kernel for ``death_signal`` when the parent ends; must follow every change of user, which clears it."""
    _called(_libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "prctl")
    if os.getppid() != parent_pid:  # it ended before the request was made: nobody would ever send the signal
        os._exit(0)


def _restore_signals() -> None:
    """Undo what Python, ``nohup`` and a shell's ``&`` set to "ignore": an ignored signal stays ignored after exec."""
    for number in range(1, SIGNAL_MAX + 1):
        if number not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _given_environment(source: str) -> dict[bytes, bytes]:
    """The environment of the command, exactly: Python itself may have added LC_CTYPE to its own (PEP 538)."""
    given: dict[bytes, bytes] = {}
    if source.startswith(INHERITED):
        inherited = _variables(Path("/proc/self/environ").read_bytes())
        given = {name: value for name, value in inherited.items() if name not in WITHHELD}
    descriptor = source.removeprefix(INHERITED).removeprefix(":")
    if descriptor:
        with open(int(descriptor), "rb") as file:  # noqa: PTH123 - a descriptor has no path
            given |= _variables(file.read())
    return given


def _variables(content: bytes) -> dict[bytes, bytes]:
    return dict(entry.split(b"=", 1) for entry in content.split(b"\0") if b"=" in entry)


def main(arguments: list[str]) -> None:
    """Take the identity, tie the life to the parent's, become the command."""
    parent_pid, death_signal, identity, environment_descriptor = arguments[:ARGUMENTS_BEFORE_COMMAND]
    command = arguments[ARGUMENTS_BEFORE_COMMAND:]
    # Before the identity is taken: /proc/self may be closed to the new user.
    environment = _given_environment(environment_descriptor)
    try:
        _take_identity(identity)
    except OSError as error:
        sys.stderr.write(f"cannot run as {identity}: {error}\n")
        sys.exit(EXIT_IDENTITY_REFUSED)
    _die_with_parent(int(parent_pid), int(death_signal))
    if not command:
        return
    _restore_signals()
    try:
        os.execve(command[0], command, environment)  # noqa: S606 - the command comes from start_child's caller
    except OSError as error:
        sys.stderr.write(f"cannot execute {command[0]}: {error.strerror}\n")
        sys.exit(EXIT_CANNOT_EXECUTE)


if __name__ == "__main__":
    main(sys.argv[1:])
