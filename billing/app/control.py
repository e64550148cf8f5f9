"""The control process's parent: it owns the listening socket and keeps the one child behind it that serves."""

import socket
import time

import msgspec

from billing.app.gateway import listen_on
from billing.app.supervisor import ChildProgram, StopSignal, Supervisor, supervise
from billing.errors import Misconfigured
from billing.infra import log
from billing.settings import ControlSettings, Settings

CHILD_MODULE = "billing.app.control_child"
NAME = "control"
STOP_TIMEOUT_S = 5.0


def listen(settings: ControlSettings, option: str = "--port") -> socket.socket:
    """The listening socket; raises ``Misconfigured`` naming the option when the address is taken or not ours."""
    return listen_on(settings.host, settings.port, option)


def control_program(listener: socket.socket, stop_order: int = 0) -> ChildProgram:
    """The child behind a listening socket, for whatever supervisor runs it."""
    descriptor = listener.fileno()
    return ChildProgram(NAME, CHILD_MODULE, ("--socket-fd", str(descriptor)), (descriptor,), stop_order)


def main(settings: Settings) -> None:
    """Run the control process until SIGTERM or SIGINT."""
    log.set_up()
    if settings.database_url is None:
        raise Misconfigured("the control process needs DATABASE_URL; `billing up` brings a Postgres along")
    stop = StopSignal()
    with listen(settings.control) as listener:
        port = listener.getsockname()[1]
        complete = msgspec.structs.replace(
            settings, control=msgspec.structs.replace(settings.control, port=port)
        )
        supervisor = Supervisor([control_program(listener)], complete, log_dir=None, monotonic=time.monotonic)
        supervise(supervisor, stop, listener, stop_timeout_s=STOP_TIMEOUT_S)
