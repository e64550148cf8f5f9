"""The two processes of the benchmark's own, and nginx. Each ends with the benchmark, however that ends."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from bench.cpu import tree
from bench.load import Job, Measured
from billing.infra.child import log_tail, start_child, stop_child, wait_until

HOST = "127.0.0.1"
BACKLOG = 2048
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
RESULT_MARGIN_S = 30.0
NGINX_PLACES = "/usr/sbin:/usr/local/sbin"


class Fault(Exception):
    """The benchmark cannot go on; the sentence says why."""


class Target(msgspec.Struct, frozen=True):
    """Where requests are sent, what of it is measured, and what the request must say to be let in."""

    name: str
    port: int
    pids: list[int]
    key: str = "sk-none"
    unlimited_key: str = "sk-none"
    model: str = "bench"


class Loader:
    """The load generator, one job at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]", jobs: BinaryIO, results: BinaryIO) -> None:
        self.pid = process.pid
        self._jobs = jobs
        self._results = results

    def __repr__(self) -> str:
        return f"<Loader pid={self.pid}>"

    def run(self, job: Job) -> Measured:
        """What came of a job; raises ``Fault`` when anything at all went wrong in it."""
        self._jobs.write(msgspec.json.encode(job) + b"\n")
        self._jobs.flush()
        limit_s = job.warm_s + job.window_s + RESULT_MARGIN_S
        readable, _, _ = select.select([self._results], [], [], limit_s)
        line = self._results.readline() if readable else b""
        if not line:
            raise Fault(f"the load generator gave no result within {limit_s:.0f} s")
        measured = msgspec.json.decode(line, type=Measured)
        if measured.faults:
            raise Fault(f"load on port {job.port} failed: {'; '.join(measured.faults)}")
        return measured


@contextlib.contextmanager
def running(
    argv: Sequence[str], folder: Path, name: str, pass_fds: Sequence[int] = ()
) -> "Iterator[subprocess.Popen[bytes]]":
    """A program that lives as long as the block; what it says goes into a log in ``folder``."""
    process = start_child(
        argv, log_path=folder / f"{name}.log", death_signal=signal.SIGTERM, pass_fds=pass_fds
    )
    try:
        yield process
    finally:
        stop_child(process, [(signal.SIGTERM, STOP_TIMEOUT_S)])


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Target]:
    """The scripted model server."""
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        port = listener.getsockname()[1]
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "bench.engine", "--socket-fd", str(descriptor)]
        with running(command, folder, "engine", (descriptor,)) as process:
            yield Target("direct", port, [process.pid])


@contextlib.contextmanager
def loader(folder: Path) -> Iterator[Loader]:
    """The load generator."""
    jobs_read, jobs_write = os.pipe()
    results_read, results_write = os.pipe()
    command = [sys.executable, "-m", "bench.loader", "--jobs-fd", str(jobs_read)]
    command += ["--results-fd", str(results_write)]
    with (
        os.fdopen(jobs_write, "wb") as jobs,
        os.fdopen(results_read, "rb") as results,
        running(command, folder, "loader", (jobs_read, results_write)) as process,
    ):
        os.close(jobs_read)
        os.close(results_write)
        yield Loader(process, jobs, results)


def nginx_path() -> str | None:
    """nginx, if it is installed; administrators' folders are not on everybody's path."""
    return shutil.which("nginx") or shutil.which("nginx", path=NGINX_PLACES)


@contextlib.contextmanager
def nginx(program: str, folder: Path, backend_port: int) -> Iterator[Target]:
    """A plain proxy, nginx, in front of the engine: one worker, kept connections, nothing buffered."""
    port = free_port()
    home = folder / "nginx"
    home.mkdir()
    config = home / "nginx.conf"
    config.write_text(_nginx_config(home, port, backend_port))
    command = [program, "-p", str(home), "-c", str(config), "-e", str(home / "error.log")]
    with running(command, folder, "nginx") as process:
        # The socket answers before its worker process is there.
        if not wait_until(lambda: answers(port) and len(tree([process.pid])) > 1, START_TIMEOUT_S):
            raise Fault(f"nginx did not start: {log_tail(folder / 'nginx.log')}")
        yield Target("nginx", port, tree([process.pid]))


def _nginx_config(home: Path, port: int, backend_port: int) -> str:
    # A worker of root's would become another user, who cannot enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    places = "\n".join(
        f"  {kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
events {{ worker_connections 8192; }}
http {{
{places}
  access_log off;
  keepalive_timeout 75s;
  keepalive_requests 100000000;
  client_max_body_size 16m;
  client_body_buffer_size 256k;
  upstream engine {{
    server {HOST}:{backend_port};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen {HOST}:{port} backlog={BACKLOG};
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True
