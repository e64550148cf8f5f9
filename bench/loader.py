"""The load generator: a process of its own that takes one job after the other and answers what it measured.

    python -m bench.loader --jobs-fd N --results-fd M

One line of JSON each (``bench.load``). It looks at its own CPU time too, so that it can be seen not to be the bottleneck.
"""

import argparse
import asyncio
import gc
import os
import time
from typing import Any

import httptools
import msgspec
import uvloop

from bench.cpu import used_s
from bench.load import Job, Measured, Spread

FAULTS_MAX = 5
DRAIN_TIMEOUT_S = 15.0
DRAIN_INTERVAL_S = 0.01
PACER_INTERVAL_S = 0.001
_EVENT_MARK = b'"delta"'
_DONE_END = b"NE]\n\n"
_HTTP_OK = 200


class Tally:
    """What is counted while ``open`` is true, and what is counted always."""

    def __init__(self) -> None:
        self.open = False
        self.requests = self.chunks = self.requests_whole_job = self.missed = 0
        self.latencies: list[float] = []
        self.first_bytes: list[float] = []
        self.gaps: list[float] = []
        self.faults: list[str] = []

    def fault(self, text: str) -> None:
        """Keep what went wrong; the first few tell enough."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)


class Connection(asyncio.Protocol):
    """One connection with at most one request on it; ``freed`` is called when it has been answered."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._tally = load.tally
        self._stream = load.job.stream
        self._transport: Any = None
        self._pieces: list[bytes] = []
        # The parser looks for its callbacks when it is made.
        self.on_body = self._pieces.append
        self._parser: Any = httptools.HttpResponseParser(self)
        self._tail = b""
        self._chunks = 0
        self._sent = self._last = 0.0
        self.busy = False

    def ask(self) -> None:
        """Send the request."""
        self.busy = True
        self._tail, self._chunks, self._last = b"", 0, 0.0
        self._sent = time.perf_counter()
        self._transport.write(self._load.request)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone, which a target never does while it is asked: the job is worth nothing then."""
        self._load.connections.discard(self)
        if self.busy or not self._load.closing:
            self._tally.fault(f"connection lost: {error or 'closed by the other side'}")
            self._load.stop()
        self.busy = False

    def data_received(self, data: bytes) -> None:
        """Bytes of the reply."""
        if self._stream:
            self._note_time()
        self._parser.feed_data(data)
        if self._pieces and self._stream:
            self._count_chunks()

    def on_message_complete(self) -> None:
        """The reply has come whole."""
        tally = self._tally
        elapsed = time.perf_counter() - self._sent
        self._check()
        self._pieces.clear()
        tally.requests_whole_job += 1
        if tally.open:
            tally.requests += 1
            tally.latencies.append(elapsed)
        self.busy = False
        self._load.freed(self)

    def _note_time(self) -> None:
        now = time.perf_counter()
        if self._tally.open:
            if self._last:
                self._tally.gaps.append(now - self._last)
            else:
                self._tally.first_bytes.append(now - self._sent)
        self._last = now

    def _count_chunks(self) -> None:
        """Count events by a word that each holds once, also when it is split between two reads."""
        data = self._tail + b"".join(self._pieces)
        self._pieces.clear()
        self._tail = data[1 - len(_EVENT_MARK) :]
        found = data.count(_EVENT_MARK)
        self._chunks += found
        if self._tally.open:
            self._tally.chunks += found

    def _check(self) -> None:
        status = self._parser.get_status_code()
        if status != _HTTP_OK:
            self._tally.fault(f"status {status}: {b''.join(self._pieces)[:300]!r}")
        elif self._stream:
            self._count_chunks()
            if self._chunks != self._load.job.tokens or not self._tail.endswith(_DONE_END):
                self._tally.fault(f"a stream of {self._chunks} events ended in {self._tail!r}")


class Load:
    """One job under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = job.request()
        self.tally = Tally()
        self.connections: set[Connection] = set()
        self.closing = False
        self._running = True
        self._idle: list[Connection] = []

    async def run(self) -> Measured:
        """Warm up, measure, let what is under way end."""
        loop = asyncio.get_running_loop()
        for _ in range(self.job.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self), self.job.host, self.job.port
            )
            self.connections.add(connection)
        starting = asyncio.create_task(self._pace() if self.job.rate else self._start_all())
        await asyncio.sleep(self.job.warm_s)
        measured = await self._window()
        self.stop()
        await starting
        await self._drain()
        return msgspec.structs.replace(
            measured, requests_whole_job=self.tally.requests_whole_job, faults=self.tally.faults
        )

    def stop(self) -> None:
        """Ask nothing more."""
        self._running = False

    def freed(self, connection: Connection) -> None:
        """A connection has its answer."""
        if self.job.rate:
            self._idle.append(connection)
        elif self._running:
            connection.ask()

    async def _window(self) -> Measured:
        tally, watch = self.tally, self.job.watch
        cpu = {name: used_s(pids) for name, pids in watch.items()}
        began = time.perf_counter()
        tally.open = True
        await asyncio.sleep(self.job.window_s)
        tally.open = False
        seconds = time.perf_counter() - began
        return Measured(
            window_s=seconds,
            requests=tally.requests,
            chunks=tally.chunks,
            latency_ms=_spread(tally.latencies),
            first_byte_ms=_spread(tally.first_bytes),
            gap_ms=_spread(tally.gaps),
            cpu_s={name: used_s(pids) - cpu[name] for name, pids in watch.items()},
            requests_whole_job=0,
            missed=tally.missed,
            faults=[],
        )

    async def _start_all(self) -> None:
        """Begin paced streams spread over one stream's length, everything else at once."""
        job = self.job
        spread_s = job.tokens * job.pace_ms / 1000 if job.stream else 0.0
        for connection in list(self.connections):
            if self._running:
                connection.ask()
                await asyncio.sleep(spread_s / job.connections)

    async def _pace(self) -> None:
        """Send what is due, once a millisecond: the loop's timers are no finer."""
        self._idle = list(self.connections)
        began, issued = time.perf_counter(), 0
        while self._running:
            due = int((time.perf_counter() - began) * (self.job.rate or 0.0))
            for _ in range(due - issued):
                if self._idle:
                    self._idle.pop().ask()
                else:
                    self.tally.missed += 1
            issued = due
            await asyncio.sleep(PACER_INTERVAL_S)

    async def _drain(self) -> None:
        for _ in range(round(DRAIN_TIMEOUT_S / DRAIN_INTERVAL_S)):
            if not any(connection.busy for connection in self.connections):
                break
            await asyncio.sleep(DRAIN_INTERVAL_S)
        unanswered = sum(connection.busy for connection in self.connections)
        if unanswered:
            self.tally.fault(f"{unanswered} requests were not answered within {DRAIN_TIMEOUT_S:.0f} s")
        self.closing = True
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)


def _spread(seconds: list[float]) -> Spread | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Spread(
        ordered[len(ordered) // 2] * 1000,
        ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
    )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--jobs-fd", type=int, required=True)
    arguments.add_argument("--results-fd", type=int, required=True)
    given = arguments.parse_args()
    # A collection would show up as latency of the target.
    gc.disable()
    with os.fdopen(given.jobs_fd, "rb") as jobs, os.fdopen(given.results_fd, "wb") as results:
        for line in jobs:
            measured = uvloop.run(Load(msgspec.json.decode(line, type=Job)).run())
            results.write(msgspec.json.encode(measured) + b"\n")
            results.flush()
            gc.collect()


if __name__ == "__main__":
    main()
