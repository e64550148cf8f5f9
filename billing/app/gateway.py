"""The gateway's parent process: it owns the one listening socket and keeps N workers behind it.

A socket of each worker's own (SO_REUSEPORT) would lose the connections in a dying worker's queue (traps.md 9).
"""

import contextlib
import socket
import time

from billing.app.metrics_server import serve_metrics
from billing.app.supervisor import ChildProgram, StopSignal, Supervisor, supervise
from billing.errors import Misconfigured
from billing.infra import log
from billing.settings import GatewaySettings, Settings

BACKLOG = 2048
WORKER_MODULE = "billing.app.gateway_worker"


def listen(settings: GatewaySettings) -> socket.socket:
    """The gateway's listening socket; raises ``Misconfigured`` when the address is taken or not ours."""
    return listen_on(settings.host, settings.port, "--port")


def listen_on(host: str, port: int, option: str) -> socket.socket:
    """A listening socket; raises ``Misconfigured`` naming the option when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {fault.strerror}; choose another {option}"
        ) from fault
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def workers(settings: GatewaySettings, listener: socket.socket) -> list[ChildProgram]:
    """The worker programs behind a listening socket."""
    descriptor = listener.fileno()
    return [
        ChildProgram(f"gateway-{number}", WORKER_MODULE, ("--socket-fd", str(descriptor)), (descriptor,))
        for number in range(1, settings.workers + 1)
    ]


def main(settings: Settings, *, metrics_port: int | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT: workers then finish their streams, within ``drain_on_stop_s``.

    With ``metrics_port`` this process answers ``/metrics`` for its workers, on a host that runs no control process.
    """
    log.set_up()
    if settings.database_url is None:
        raise Misconfigured(
            "the gateway needs DATABASE_URL for its directory; `billing up` brings a Postgres along"
        )
    if settings.redis_url is None:
        raise Misconfigured("the gateway needs REDIS_URL for limits; `billing up` brings a Valkey along")
    stop = StopSignal()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(settings.gateway))
        if metrics_port is not None:
            stack.enter_context(serve_metrics(settings, settings.gateway.host, metrics_port))
        supervisor = Supervisor(
            workers(settings.gateway, listener), settings, log_dir=None, monotonic=time.monotonic
        )
        supervise(supervisor, stop, listener, stop_timeout_s=settings.gateway.drain_on_stop_s)
