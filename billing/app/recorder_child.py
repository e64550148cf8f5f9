"""The recorder as a child of the supervisor: settings come through a pipe, the database is its own."""

import argparse
import asyncio
import socket

from billing.app import recorder
from billing.app.supervisor import read_settings
from billing.errors import Misconfigured
from billing.infra import log
from billing.infra.postgres import Database
from billing.infra.system import now_us
from billing.settings import Settings


async def record(settings: Settings) -> None:
    """Record this host's spools until SIGTERM or SIGINT; raises ``Misconfigured`` without a database's URL."""
    if settings.database_url is None:
        raise Misconfigured("the recorder needs DATABASE_URL")
    database = Database(settings.database_url, role="recorder")
    try:
        await recorder.run(settings, database, now_us, socket.gethostname())
    finally:
        await database.close()


def main() -> None:
    """Entry of the process."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--settings-fd", type=int, required=True)
    given = arguments.parse_args()
    log.set_up()
    asyncio.run(record(read_settings(given.settings_fd)))


if __name__ == "__main__":
    main()
