"""A recorder for tests, in a process of its own that can be killed at a chosen point.

    python recorder_process.py URL SPOOL_ROOT BATCH_MAX [before|after NUMBER]

``before NUMBER`` prints ``here`` and waits for its end just before its NUMBERth commit that moves a cursor, ``after
NUMBER`` just after it. The point is reached through the database that is handed to the recorder.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text

from billing.app import recorder
from billing.infra.postgres import Connection, Database
from billing.settings import RecorderSettings, Settings
from tests import metering_kit as kit

HAS_MOVED = """
SELECT EXISTS (SELECT FROM spool WHERE shipped_through > 0 AND xmin = pg_current_xact_id_if_assigned()::xid)
"""


class StoppingDatabase(Database):
    """A database that stops for ever at a point, counted over the transactions that move a cursor."""

    def __init__(self, url: str, point: str, number: int) -> None:
        super().__init__(url, role="recorder")
        self.point, self.left = point, number

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with super().transaction() as connection:
            yield connection
            self.left -= bool(await connection.scalar(text(HAS_MOVED)))
            if self.left == 0 and self.point == "before":
                stop_here()
        if self.left == 0 and self.point == "after":
            stop_here()


def stop_here() -> None:
    print("here", flush=True)  # noqa: T201 - how it talks to the test
    time.sleep(60)


def die_with_the_test() -> None:
    sys.stdin.read()
    os._exit(1)


async def main() -> None:
    url, root, batch_max = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    point, number = (sys.argv[4], int(sys.argv[5])) if len(sys.argv) > 4 else ("never", 1)
    threading.Thread(target=die_with_the_test, daemon=True).start()
    settings = Settings(
        data_dir=root.parent,
        recorder=RecorderSettings(batch_records_max=batch_max, poll_interval_s=0.01, retry_delay_s=0.05),
    )
    database = StoppingDatabase(url, point, number)
    print("ready", flush=True)  # noqa: T201 - same
    await recorder.run(settings, database, kit.now_us, "test-host")
    await database.close()
    print("stopped", flush=True)  # noqa: T201 - same
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
