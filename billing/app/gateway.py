"""The gateway's parent process: it owns the one listening socket and keeps N workers behind it.

A socket of each worker's own (SO_REUSEPORT) would lose the connections in a dying worker's queue (traps.md 9).
"""

import socket
import time

from billing.app.supervisor import ChildProgram, StopSignal, Supervisor, supervise
from billing.errors import Misconfigured
from billing.infra import log
from billing.settings import GatewaySettings, Settings

BACKLOG = 2048
WORKER_MODULE = "billing.app.gateway_worker"


def listen(settings: GatewaySettings) -> socket.socket:
    """The listening socket; raises ``Misconfigured`` when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as fault:
        listener.close()
        raise Misconfigured(
            f"cannot listen on {settings.host}:{settings.port}: {fault.strerror}; choose another --port"
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


def main(settings: Settings) -> None:
    """Run the gateway until SIGTERM or SIGINT: workers then finish their streams, within ``drain_on_stop_s``."""
    log.set_up()
    if settings.database_url is None:
        raise Misconfigured(
            "the gateway needs DATABASE_URL for its directory; `billing up` brings a Postgres along"
        )
    stop = StopSignal()
    with listen(settings.gateway) as listener:
        supervisor = Supervisor(
            workers(settings.gateway, listener), settings, log_dir=None, monotonic=time.monotonic
        )
        supervise(supervisor, stop, listener, stop_timeout_s=settings.gateway.drain_on_stop_s)
