"""Starts the real llama.cpp server as a child, waits until it answers, and stops it."""

import contextlib
import http.client
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from billing.errors import Unavailable
from billing.infra.child import log_size, log_tail, start_child, stop_child

SLOTS_DEFAULT = 4
"""Requests that one server computes at the same time; it also refuses a choice count ``n`` above it."""
CONTEXT_TOKENS_DEFAULT = 16384
"""Tokens of context, input and output together, that the slots of one server share."""
READY_TIMEOUT_S = 20.0
"""The longest time that a server may need from its start to its first healthy answer."""
STOP_TIMEOUT_S = 3.0
"""The longest time between SIGTERM and SIGKILL."""
HEALTH_INTERVAL_S = 0.02
REQUEST_TIMEOUT_S = 5.0
SERVER_MODULE = "billing.infra.golden.server"
READY_PREFIX = "listening "
"""What stands before the address on the line by which a server tells that it answers."""
READY_LINE_BYTES_MAX = 256
METRICS_BYTES_MAX = 1 << 20

PROMPT_TOKENS = "llamacpp:prompt_tokens_total"
"""Prompt tokens that were computed; those read from the cache are not in it."""
PROMPT_TOKENS_CACHED = "llamacpp:prompt_tokens_cached_total"
TOKENS_PREDICTED = "llamacpp:tokens_predicted_total"
"""Tokens that were generated, those of broken-off answers and end tokens included."""


class LlamaServer:
    """One running server. Made by :meth:`start` from the main thread, because it dies with the thread that made it."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, alias: str) -> None:
        self._process = process
        self.url = url
        self.alias = alias

    def __repr__(self) -> str:
        """Alias, address, process and state in one line."""
        code = self._process.poll()
        state = "running" if code is None else f"ended {code}"
        return f"<LlamaServer {self.alias} {self.url} pid={self._process.pid} {state}>"

    @classmethod
    def start(
        cls,
        model: Path,
        alias: str,
        *,
        log_path: Path,
        embeddings: bool = False,
        slots: int = SLOTS_DEFAULT,
        context: int = CONTEXT_TOKENS_DEFAULT,
    ) -> "LlamaServer":
        """A server that has answered ``/health``; ``context`` is in tokens and shared by the slots.

        Raises ``Unavailable`` with the end of its log when it ends first or needs more than ``READY_TIMEOUT_S``.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        log_start = log_size(log_path)
        process, ready_pipe = _spawn(_arguments(model, alias, embeddings, slots, context), log_path)
        try:
            server = cls(process, _read_address(ready_pipe, deadline), alias)
            server._await_health(deadline)
        except (OSError, http.client.HTTPException) as fault:
            _end(process)
            raise Unavailable(f"llama.cpp server {alias} {fault}: {log_tail(log_path, log_start)}") from fault
        except BaseException:
            # An interrupt while waiting: the child must not stay behind.
            _end(process)
            raise
        finally:
            os.close(ready_pipe)
        return server

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return urlsplit(self.url).port or 0

    @property
    def pid(self) -> int:
        """The process, for tests that kill it without warning."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def metrics(self) -> str:
        """The ``/metrics`` page, whose cumulative numbers ``tokens.prometheus.parse_counters`` reads.

        A request's numbers are in it once the engine has left the request, a moment after the reply's end. Each call
        also postpones the engine's look for departed clients of replies that are not streamed, which is once a second.
        """
        status, body = self._get("/metrics")
        if status != http.HTTPStatus.OK:
            raise Unavailable(f"{self.url}/metrics answered {status}")
        return body.decode("utf-8", "replace")

    def stop(self) -> None:
        """End the process; open streams break off. Does nothing when it has ended already."""
        _end(self._process)

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            reply = connection.getresponse()
            return reply.status, reply.read(METRICS_BYTES_MAX)
        finally:
            connection.close()

    def _await_health(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._get("/health")[0] == http.HTTPStatus.OK:
                return
            time.sleep(HEALTH_INTERVAL_S)
        raise TimeoutError("is not healthy in time")


def _arguments(model: Path, alias: str, embeddings: bool, slots: int, context: int) -> list[str]:
    arguments = ["--model", str(model), "--alias", alias, "--slots", str(slots), "--context", str(context)]
    return [*arguments, "--embeddings"] if embeddings else arguments


def _spawn(arguments: list[str], log_path: Path) -> "tuple[subprocess.Popen[bytes], int]":
    """The process, and the reading end of the pipe on which it tells its address; the caller closes that."""
    ready_pipe, child_end = os.pipe()
    command = [sys.executable, "-m", SERVER_MODULE, *arguments, "--ready-fd", str(child_end)]
    with contextlib.ExitStack() as on_fault:
        on_fault.callback(os.close, ready_pipe)
        try:
            process = start_child(
                command, log_path=log_path, death_signal=signal.SIGKILL, pass_fds=(child_end,)
            )
        finally:
            os.close(child_end)
        on_fault.pop_all()
    return process, ready_pipe


def _read_address(ready_pipe: int, deadline: float) -> str:
    """The address on the server's ready line; ``TimeoutError`` when it ends first or is silent."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(ready_pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            readable = selector.select(max(0.0, deadline - time.monotonic()))
            piece = os.read(ready_pipe, READY_LINE_BYTES_MAX) if readable else b""
            if not piece:
                raise TimeoutError(
                    "ended before it was ready" if readable else "did not become ready in time"
                )
            line += piece
    return line.decode("ascii", "replace").strip().removeprefix(READY_PREFIX)


def _end(process: "subprocess.Popen[bytes]") -> None:
    stop_child(process, [(signal.SIGTERM, STOP_TIMEOUT_S)])
