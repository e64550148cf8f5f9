"""A gateway worker for tests: writes entries into a spool of its own, tells what it did, and waits for its end.

    python spool_writer.py ROOT COUNT OPEN PROGRESS TENANT PAUSE_S

COUNT requests are opened and closed, with a pause between them; OPEN stay open, the first PROGRESS of them with progress.
Then it prints ``ready`` and their ids; on each line it reads from its input it closes the next of them and says so; at
the end of its input it ends without closing the rest.
"""

import random
import sys
import time
from pathlib import Path
from uuid import UUID

from billing.metering.spool import Spool
from billing.settings import SpoolSettings
from tests import metering_kit as kit


def main() -> None:
    root, counts = Path(sys.argv[1]), [int(text) for text in sys.argv[2:5]]
    tenant_id, pause_s = UUID(sys.argv[5]), float(sys.argv[6])
    new_id = kit.id_maker(random.SystemRandom().getrandbits(64))
    spool = Spool.create(root, new_id(), SpoolSettings(segment_bytes_max=64 * 1024))
    print("started", flush=True)  # noqa: T201 - how it talks to the test
    for _ in range(counts[0]):
        usage_id = new_id()
        spool.open(kit.opened(usage_id, tenant_id))
        time.sleep(pause_s)
        spool.close(kit.closed(usage_id))
    opened = [new_id() for _ in range(counts[1])]
    for number, usage_id in enumerate(opened):
        spool.open(kit.opened(usage_id, tenant_id))
        if number < counts[2]:
            spool.progress(kit.progress(usage_id, 10))
            spool.progress(kit.progress(usage_id, 11 + number))
    print("ready", *opened, flush=True)  # noqa: T201 - same
    for usage_id, _ in zip(opened, sys.stdin, strict=False):
        spool.close(kit.closed(usage_id))
        print("closed", usage_id, flush=True)  # noqa: T201 - same
    sys.stdin.read()


if __name__ == "__main__":
    main()
