"""A process that runs the embedded engines, to be told or killed, and what its tests ask of the machine."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from billing.infra.child import processes_in
from billing.infra.engine_folders import SOCKET_ROOT, folder_digest

ROOT = Path(__file__).parents[2]
NO_ORPHAN_AFTER_S = 5.0
READY_TIMEOUT_S = 30.0

SERVE = """
import signal, sys
from pathlib import Path
from billing.infra.embedded import engines
from billing.settings import Settings

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with engines(Settings(data_dir=Path(sys.argv[1]))) as (database_url, redis_url):
    print(database_url, redis_url, flush=True)
    signal.pause()
"""


class Parent:
    """A process of its own that runs both engines until it is told, or killed."""

    def __init__(
        self, data_dir: Path, script: str = SERVE, python: str = sys.executable, **options: Any
    ) -> None:
        command = [python, "-W", "error", "-c", script, str(data_dir)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.database_url = self.redis_url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).strip()

    def ready(self) -> Self:
        self.database_url, _, self.redis_url = self.line().partition(" ")
        assert self.redis_url, self.process.communicate()[1]
        return self

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(READY_TIMEOUT_S)


def query(url: str, sql: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def processes_naming(folder: Path) -> list[str]:
    """Command lines that name the folder, except this test's and its parents': engines and their launchers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words and "-W error -c" not in words:
            found.append(words)
    return found


def everything_ended(data_dir: Path) -> bool:
    postgres, valkey = (
        processes_in(data_dir / "postgres", "postgres"),
        processes_in(data_dir / "valkey", "valkey-server"),
    )
    return not (postgres or valkey or processes_naming(data_dir))


def remove_socket_folders(data_dir: Path) -> None:
    """What a killed parent cannot remove itself; empty by now, or this fails."""
    for folder in SOCKET_ROOT.glob(f"billing-*-{folder_digest(data_dir)}"):
        folder.rmdir()
