"""The recorder process: ships this host's spools until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
import signal

from billing.app.recorder_metrics import recorder_flushers
from billing.clock import Clock
from billing.errors import Unavailable
from billing.infra import telemetry
from billing.infra.postgres import Database
from billing.metering.service import Recorder
from billing.settings import Settings

GARBAGE_THRESHOLDS = (100_000, 10, 10)
"""A batch makes tens of thousands of values and no cycles: with Python's own thresholds, looking for cycles took 9 of
32 µs a record."""
REST_MAX_S = 3.0
COUNT_INTERVAL_S = 2.0
"""How often metrics are brought up to date; the sizes of the spools' files are asked for each time."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


async def run(settings: Settings, database: Database, clock: Clock, host: str) -> None:
    """Record until SIGTERM or SIGINT, then what ended gateways have left, and return. Runs in the main thread.

    ``host`` names this machine in the register of spools. The caller owns the database.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    recorder = Recorder(database, settings.spool_dir, settings, clock, host)
    telemetry.UP.labels("recorder").set(1)
    counting = asyncio.create_task(
        telemetry.keep_flushing(recorder_flushers(recorder, settings.spool_dir), COUNT_INTERVAL_S)
    )
    try:
        await ship_until(stop, recorder, settings)
        await ship_rest(recorder)
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        recorder.close()
        _log.info("stopped: %r", recorder)


async def ship_until(stop: asyncio.Event, recorder: Recorder, settings: Settings) -> None:
    """Ship until ``stop`` is set, for ever while Postgres is away: that is counted, and nothing is lost by waiting."""
    is_away = False
    while not stop.is_set():
        delay_s = settings.recorder.poll_interval_s
        try:
            await recorder.run_once()
        except Unavailable as fault:
            recorder.counters.retries += 1
            delay_s = settings.recorder.retry_delay_s
            # Said once an outage, not once a retry.
            if not is_away:
                _log.warning("nothing can be recorded for now, and nothing is lost; retrying: %s", fault)
            is_away = True
        else:
            if is_away:
                _log.info("recording again: %r", recorder)
            is_away = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0 if recorder.has_backlog else delay_s)


async def ship_rest(recorder: Recorder) -> None:
    """Record what is left when the gateways have ended before: until nothing more comes, at most ``REST_MAX_S``."""
    with contextlib.suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(REST_MAX_S):
            while await recorder.run_once() or recorder.has_backlog:
                pass
