"""Writers and recorders in processes of their own, and what stands in the database afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import msgspec

from billing.metering.event import Closed, Opened
from billing.metering.service import Recorder
from billing.metering.spool import Spool
from billing.settings import RecorderSettings, Settings, SpoolSettings
from tests import metering_kit as kit

MakeRecorder = Callable[..., Recorder]
SMALL_SEGMENTS = SpoolSettings(segment_bytes_max=4_000)
RECORDER_SETTINGS = Settings(
    recorder=RecorderSettings(batch_records_max=100, poll_interval_s=0.01, retry_delay_s=0.02)
)
HERE = Path(__file__).parent
WAIT_S = 20.0
POLL_S = 0.02


def write(spool: Spool, *pairs: tuple[Opened, Closed | None]) -> None:
    """Open each request, and close it when it is given how it ended."""
    for opened, closed in pairs:
        spool.open(opened)
        if closed is not None:
            spool.close(closed)


def pair(usage_id: UUID, tenant_id: UUID = kit.TENANT, **fields: object) -> tuple[Opened, Closed]:
    """A request with how it ended; ``fields`` change its open entry."""
    return msgspec.structs.replace(kit.opened(usage_id, tenant_id), **fields), kit.closed(usage_id)


class Child:
    """A process that talks by lines and is dead when the block ends."""

    def __init__(self, program: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / program), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(HERE.parents[1])},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> list[str]:
        """The words of the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def tell(self) -> None:
        """Send an empty line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


def writer(root: Path, count: int, opened: int = 0, progress: int = 0, *, tenant: UUID = kit.TENANT,
           pause_s: float = 0.0) -> Child:  # fmt: skip
    """A worker that has made its spool."""
    child = Child("spool_writer.py", root, count, opened, progress, tenant, pause_s)
    assert child.line() == ["started"]
    return child


def recorder(url: str, root: Path, batch_max: int = 2_000, *point: object) -> Child:
    """A recorder process that has begun."""
    child = Child("recorder_process.py", url, root, batch_max, *point)
    assert child.line() == ["ready"]
    return child


async def until(is_so: Callable[[], Awaitable[bool]], *, wait_s: float = WAIT_S) -> None:
    """Wait until something holds; fails after a time."""
    for _ in range(int(wait_s / POLL_S)):
        if await is_so():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"did not happen within {wait_s} s")


async def outcomes(url: str) -> dict[str, int]:
    """How many records there are of each outcome."""
    rows = await kit.ask(url, "SELECT outcome, count(*) FROM usage_record GROUP BY 1")
    return {row[0]: row[1] for row in rows}


async def sums(url: str) -> tuple[int, int, int]:
    """Records, requests in the rollup, and output tokens in the rollup minus those in the records."""
    [row] = await kit.ask(
        url,
        "SELECT (SELECT count(*) FROM usage_record), (SELECT coalesce(sum(requests), 0)::int FROM usage_rollup), "
        "(SELECT coalesce(sum(answer_output + reasoning), 0) FROM usage_rollup)"
        " - (SELECT coalesce(sum(output), 0) FROM usage_record)",
    )
    return row[0], row[1], int(row[2])


async def is_all_closed(url: str) -> bool:
    """Whether every registered spool is recorded to its end."""
    [row] = await kit.ask(url, "SELECT count(*) > 0 AND bool_and(closed_at IS NOT NULL) FROM spool")
    return bool(row[0])


async def quarantined(url: str) -> dict[str, int]:
    """How many things stand in quarantine for each reason."""
    rows = await kit.ask(url, "SELECT reason, count(*) FROM usage_quarantine GROUP BY 1")
    return {row[0]: row[1] for row in rows}
