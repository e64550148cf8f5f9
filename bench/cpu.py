"""CPU time of whole process trees, and the cores that they may use (Linux)."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROCESS_CLOCK = (
    2  # CPUCLOCK_SCHED of <linux/posix-timers.h>: the time of all threads of a process, in nanoseconds
)
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The processes ``roots`` and everything below them, those that are alive."""
    below: dict[int, list[int]] = {}
    for pid, parent in _parents():
        below.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += below.get(pid, [])
    return sorted(found)


def used_s(pids: Iterable[int]) -> float:
    """User and system seconds of processes, and of their children that have ended and were waited for.

    The kernel's own per-process clock, because the 10 ms ticks of ``/proc/PID/stat`` are too coarse for a short window;
    the ticks serve for ended children only.
    """
    return sum(_used_s(pid) for pid in pids)


def pin(pids: Iterable[int], core: int) -> None:
    """Let processes run on one core only, with all threads they have; new ones inherit it."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


class Neighbours:
    """What everybody else uses of this machine, from the moment it is made: the noise in a measurement."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._others_s = _busy_s() - used_s(tree([os.getpid()]))

    def __repr__(self) -> str:
        return f"<Neighbours {self.cores():.2f} cores>"

    def cores(self) -> float:
        """How many cores all processes but this one and those below it have kept busy on average."""
        others_s = _busy_s() - used_s(tree([os.getpid()])) - self._others_s
        return max(0.0, others_s / (time.monotonic() - self._began))


def _busy_s() -> float:
    """Seconds that all cores together have worked since the machine started: all states but idle and waiting (proc(5))."""
    user, nice, system, _, _, *interrupts = (
        Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    )
    return sum(map(int, (user, nice, system, *interrupts))) / _TICKS_PER_SECOND


def _used_s(pid: int) -> float:
    try:
        own = time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
        ended = _fields(pid)[13:15]
    except OSError:
        return 0.0  # it ended: its time is among its parent's from now on
    return own + sum(map(int, ended)) / _TICKS_PER_SECOND


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), int(_fields(int(entry.name))[1])
            except OSError:
                continue  # it ended between the listing and the look


def _fields(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the third on; the second, a name, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
