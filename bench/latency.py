"""Do the latencies on the record say what an engine really did? Streams of a scripted engine whose every gap is known.

    .venv/bin/python -m bench.latency [--streams 60]

The engine notes when each of its writes left, and the gateway's records are compared with that: time to the first token,
to the first token of the answer, time per output token, longest gap. Exit code 0: every median is within 2 ms; 1: one is not.
"""

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from rich.console import Console
from rich.table import Table

from bench.gateway import PROBES, Gateway, gateway
from bench.processes import HOST
from billing.infra.postgres import Database
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.settings import Durability

REASONING, ANSWER = 10, 30
FIRST_S, GAP_S, PAUSE_S = 0.08, 0.012, 0.05
"""Before the first token, between two, and once between reasoning and answer."""
AT_ONCE = 4
WITHIN_MS = 2.0
RECORDS_MAX = 1_000
NOBODY = b"0" * 32
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Truth(msgspec.Struct, frozen=True):
    """When the engine wrote each token of one stream, in seconds since the request had come."""

    written_s: tuple[float, ...]

    def known_us(self) -> dict[str, float]:
        """What the record must say, as far as an engine can know it."""
        gaps = [later - earlier for earlier, later in zip(self.written_s, self.written_s[1:], strict=False)]
        first, last = self.written_s[0], self.written_s[-1]
        return {
            "ttft_us": first * 1e6,
            "ttfa_us": self.written_s[REASONING] * 1e6,
            "itl_us": (last - first) / (len(self.written_s) - 1) * 1e6,
            "gap_max_us": max(gaps) * 1e6,
        }


class PacedEngine:
    """Answers each request with the same stream and notes, by the gateway's id of it, when each token left."""

    def __init__(self) -> None:
        self.truths: dict[UUID, Truth] = {}
        self.port = 0
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def __repr__(self) -> str:
        return f"<PacedEngine :{self.port} {len(self.truths)} streams>"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
                # Whoever looks at an engine's counters sends no id.
                usage_id = UUID(headers.get(b"x-request-id", NOBODY).decode())
                await self._reply(writer, usage_id, stream=b'"stream":true' in body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, writer: asyncio.StreamWriter, usage_id: UUID, *, stream: bool) -> None:
        if not stream:
            reply = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % len(reply)
                + reply
            )
            return
        began_s = time.perf_counter()
        writer.write(_HEAD)
        written_s = []
        for number in range(REASONING + ANSWER):
            await asyncio.sleep(FIRST_S if number == 0 else PAUSE_S if number == REASONING else GAP_S)
            writer.write(_chunk(_event(number)))
            written_s.append(time.perf_counter() - began_s)
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.truths[usage_id] = Truth(tuple(written_s))


def _event(number: int) -> bytes:
    delta = {"reasoning_content" if number < REASONING else "content": "a"}
    usage = {"prompt_tokens": 9, "completion_tokens": number + 1, "total_tokens": number + 10}
    reason = "stop" if number == REASONING + ANSWER - 1 else None
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return b"data: " + msgspec.json.encode({"id": "c", "choices": choices, "usage": usage}) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def ask(ours: Gateway) -> None:
    """One stream, read to its end."""
    target = ours.target
    client = http.client.HTTPConnection(HOST, target.port, timeout=30)
    body = msgspec.json.encode(
        {"model": target.model, "messages": [{"role": "user", "content": "x"}], "stream": True}
    )
    client.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {target.unlimited_key}"})
    client.getresponse().read()
    client.close()


async def records_of(ours: Gateway) -> Sequence[StoredRecord]:
    """What was recorded."""
    database = Database(ours.machine.settings.database_url or "", role="control", pool_size=1)
    try:
        return await UsageService(database).recent(None, RECORDS_MAX)
    finally:
        await database.close()


def compare(truths: dict[UUID, Truth], records: Sequence[StoredRecord]) -> dict[str, list[float]]:
    """By latency: how many milliseconds each record says more than the engine did."""
    differences: dict[str, list[float]] = {}
    for record in records:
        if record.id in truths:
            for name, known_us in truths[record.id].known_us().items():
                differences.setdefault(name, []).append((getattr(record, name) - known_us) / 1e3)
    return differences


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=60)
    streams = parser.parse_args().streams
    engine = PacedEngine()
    with (
        tempfile.TemporaryDirectory(prefix="bench-latency-") as folder,
        gateway(Path(folder) / "data", engine.port, Durability.BEFORE_REPLY, lambda _line: None) as ours,
    ):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _number: ask(ours), range(streams)))
        ours.recorded(streams + PROBES)
        records = asyncio.run(records_of(ours))
    differences = compare(engine.truths, records)
    return show(differences, [record.overhead_us for record in records if record.id in engine.truths])


def show(differences: dict[str, list[float]], overheads_us: Sequence[Any]) -> int:
    """Print the table; 1 when a median is further off than allowed."""
    table = Table(title="Latencies on the record, less what the engine did", title_justify="left")
    for title in ("", "streams", "ms p10", "ms median", "ms p90"):
        table.add_column(title, justify="right" if title else "left")
    medians = []
    for name, values in differences.items():
        tenths = statistics.quantiles(values, n=10)
        medians.append(statistics.median(values))
        table.add_row(name, str(len(values)), f"{tenths[0]:.2f}", f"{medians[-1]:.2f}", f"{tenths[-1]:.2f}")
    console = Console()
    console.print(table)
    console.print(f"gateway overhead: median {statistics.median(overheads_us) / 1e3:.2f} ms")
    agrees = bool(medians) and all(abs(median) <= WITHIN_MS for median in medians)
    console.print(f"every median within {WITHIN_MS:g} ms: {'yes' if agrees else 'NO'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
