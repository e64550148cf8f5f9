"""A process that counts as a gateway worker does: so many requests, then it waits for its end on standard input."""

import sys
from collections import Counter

from billing.app.worker_metrics import Closes, CountedSpool, worker_flushers
from billing.infra import telemetry
from billing.metering.event import Closed, Opened, Progress
from tests.metering_kit import closed, id_maker, opened


class NoSpool:
    """A spool that keeps nothing."""

    def open(self, entry: Opened) -> None: ...
    def progress(self, entry: Progress) -> None: ...
    def close(self, entry: Closed) -> int:
        return 7

    async def synced(self, position: int) -> None: ...


def main() -> None:
    requests, age_s = int(sys.argv[1]), float(sys.argv[2])
    closes: Closes = Closes(lambda _backend_id: "b")
    spool = CountedSpool(NoSpool(), closes)
    counts: Counter[str] = Counter()
    flushers = worker_flushers(counts, closes)
    telemetry.UP.labels("gateway").set(1)
    telemetry.directory_age_seconds().set(age_s)
    new_id = id_maker()
    for _ in range(requests):
        usage_id = new_id()
        spool.open(opened(usage_id))
        assert spool.close(closed(usage_id)) == 7
        counts["complete"] += 1
        # Flushed in the midst of it: what was carried once is not carried again.
        for flush in flushers:
            flush()
    counts["refused_limit_reached"] += 2
    counts["unrecorded_spool_full"] += 1
    counts["upstream_broken_after_end"] += 1
    for flush in flushers:
        flush()
    sys.stdout.write("counted\n")
    sys.stdout.flush()
    sys.stdin.read()


main()
