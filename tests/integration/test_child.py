"""Children that end with their parent, and what they get from it: log, environment, descriptors, signals, a session."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from billing.infra.child import (
    LOG_BYTES_MAX,
    LOG_TAIL_LINES_MAX,
    log_tail,
    processes_in,
    start_child,
    stop_child,
)
from billing.infra.launcher import EXIT_CANNOT_EXECUTE, INHERITED
from tests.integration.engine_parent import NO_ORPHAN_AFTER_S, ROOT, until

CLASSIC_SIGNALS = (1 << 31) - 1
"""Bits of the signals 1 to 31; the C library uses the next ones itself."""
LAUNCHER = ROOT / "billing/infra/launcher.py"
SHELL = "/bin/sh"
SHOW_SIGNALS = ["/bin/grep", "Sig[IB]", "/proc/self/status"]
IGNORED_BY_SHELLS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""``nohup`` ignores the first for what it runs, ``&`` the next two, shells that read commands the others."""
START_AND_SHOW = """
import signal, sys
from pathlib import Path
from billing.infra.child import start_child

print(Path("/proc/self/status").read_text())
child = start_child(sys.argv[2:], log_path=Path(sys.argv[1]), death_signal=signal.SIGTERM)
sys.exit(child.wait())
"""
START_AND_WAIT = """
import signal, sys
from pathlib import Path
from billing.infra.child import start_child

child = start_child(["/bin/sleep", "60"], log_path=None, death_signal=signal.SIGTERM)
print(child.pid, flush=True)
signal.pause()
"""


def run_shell(script: str, log_path: Path, **options: object) -> int:
    """The exit code of a shell script that ran as a child."""
    child = start_child([SHELL, "-c", script], log_path=log_path, death_signal=signal.SIGTERM, **options)  # type: ignore[arg-type]  # passed on
    return child.wait(NO_ORPHAN_AFTER_S)


def test_output_and_errors_are_appended_to_a_private_log(tmp_path: Path) -> None:
    log_path = tmp_path / "logs/child.log"
    assert run_shell("echo out; echo error >&2; exit 3", log_path) == 3
    assert run_shell("echo again", log_path) == 0
    assert log_path.read_text() == "out\nerror\nagain\n"
    assert log_path.stat().st_mode & 0o777 == 0o600


def test_a_long_log_becomes_the_previous_one(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    log_path.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    run_shell("echo new", log_path)
    assert log_path.read_text() == "new\n"
    assert (tmp_path / "child.log.previous").stat().st_size == LOG_BYTES_MAX + 1


def test_the_tail_is_short_and_starts_where_this_run_does(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    log_path.write_text("of before\n" + "".join(f"line {number}\n" for number in range(100)))
    assert log_tail(log_path).splitlines() == [
        f"line {number}" for number in range(100 - LOG_TAIL_LINES_MAX, 100)
    ]
    assert log_tail(log_path, log_path.stat().st_size) == ""


def test_the_environment_is_exactly_the_given_one(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    environment = {"ONE": "1=2\n3", "EMPTY": ""}
    child = start_child(
        ["/usr/bin/env", "-0"], log_path=log_path, death_signal=signal.SIGTERM, environment=environment
    )
    assert child.wait(NO_ORPHAN_AFTER_S) == 0
    assert sorted(log_path.read_text().split("\0")) == ["", "EMPTY=", "ONE=1=2\n3"]


def test_the_environment_is_inherited_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "1")
    assert run_shell('test "$OF_THE_PARENT" = 1', tmp_path / "child.log") == 0


def test_only_the_named_descriptors_are_passed(tmp_path: Path) -> None:
    kept, dropped = os.memfd_create("kept"), os.memfd_create("dropped")
    try:
        os.set_inheritable(dropped, True)
        script = f"echo passed >/proc/self/fd/{kept} && ! test -e /proc/self/fd/{dropped}"
        assert run_shell(script, tmp_path / "child.log", pass_fds=[kept]) == 0
        assert os.pread(kept, 100, 0) == b"passed\n"
    finally:
        os.close(kept)
        os.close(dropped)


def blocked_and_ignored(status: str) -> tuple[int, int]:
    """The masks of the signals 1 to 31 in the lines of ``/proc/PID/status``."""
    masks = dict(line.split(":") for line in status.splitlines() if line.startswith("Sig"))
    return int(masks["SigBlk"], 16) & CLASSIC_SIGNALS, int(masks["SigIgn"], 16) & CLASSIC_SIGNALS


def test_a_child_leads_its_own_session_with_ordinary_signals(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_BY_SHELLS}
    try:
        child = start_child(SHOW_SIGNALS, log_path=log_path, death_signal=signal.SIGINT)
        assert os.getsid(child.pid) == child.pid
        assert child.wait(NO_ORPHAN_AFTER_S) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert blocked_and_ignored(log_path.read_text()) == (0, 0)


@pytest.mark.parametrize(
    ("way", "ignored_by_parent"),
    [
        ('exec "$@"', set()),
        ('exec nohup "$@"', {signal.SIGHUP}),
        ('"$@" & wait $!', {signal.SIGINT, signal.SIGQUIT}),
        ('nohup "$@" & wait $!', {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}),
    ],
    ids=["foreground", "nohup", "background", "nohup in the background"],
)
def test_however_a_shell_starts_the_parent_its_child_ignores_nothing(
    way: str, ignored_by_parent: set[signal.Signals], tmp_path: Path
) -> None:
    log_path = tmp_path / "child.log"
    parent = [sys.executable, "-c", START_AND_SHOW, str(log_path), *SHOW_SIGNALS]
    shell = subprocess.run(
        [SHELL, "-c", way, SHELL, *parent],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=NO_ORPHAN_AFTER_S,
        check=True,
    )
    _, ignored = blocked_and_ignored(shell.stdout)
    assert all(ignored & 1 << (number - 1) for number in ignored_by_parent)
    assert blocked_and_ignored(log_path.read_text()) == (0, 0)


def test_a_program_that_cannot_be_executed_says_so_in_the_log(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    child = start_child(["/no/such/program"], log_path=log_path, death_signal=signal.SIGTERM)
    assert child.wait(NO_ORPHAN_AFTER_S) == EXIT_CANNOT_EXECUTE
    assert log_tail(log_path) == "cannot execute /no/such/program: No such file or directory"


def test_a_killed_parent_takes_its_child_with_it() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        assert until(lambda: (child / "comm").read_text() == "sleep\n", NO_ORPHAN_AFTER_S)
        parent.kill()
    # Nobody may have collected its exit code yet; what is left then has no command line.
    assert until(lambda: not (child.exists() and (child / "cmdline").read_bytes()), NO_ORPHAN_AFTER_S)


def test_a_child_whose_parent_ended_before_it_could_ask_runs_nothing(tmp_path: Path) -> None:
    """The launcher is told another parent than it has, which is how it looks when the real one has ended already."""
    ran = tmp_path / "ran"
    command = [
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        str(os.getppid()),
        str(int(signal.SIGTERM)),
        "same",
        INHERITED,
    ]
    assert subprocess.run([*command, "/bin/touch", str(ran)], check=False).returncode == 0
    assert not ran.exists()


def test_stopping_goes_from_gentle_to_hard_and_may_be_repeated(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    child = start_child([SHELL, "-c", script], log_path=log_path, death_signal=signal.SIGKILL)
    assert until(lambda: log_path.read_text() == "ready\n", NO_ORPHAN_AFTER_S)
    steps = [(signal.SIGTERM, 0.1)]
    assert stop_child(child, steps) == -signal.SIGKILL
    assert stop_child(child, steps) == -signal.SIGKILL


def test_processes_are_found_by_name_and_place(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with subprocess.Popen(["/bin/sleep", "60"], cwd=tmp_path) as child:
        try:
            assert until(lambda: processes_in(tmp_path, "sleep") == [child.pid], NO_ORPHAN_AFTER_S)
            assert processes_in(other, "sleep") == processes_in(tmp_path, "postgres") == []
        finally:
            child.kill()
