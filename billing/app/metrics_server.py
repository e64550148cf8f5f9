"""``/metrics`` of a host that runs no control process: a small server in threads of the gateway's parent process.

Only the admin token opens it. It reads the files that the parent's children write, so it answers for all of them.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from billing.access import token
from billing.errors import Misconfigured, Unauthenticated
from billing.infra import telemetry
from billing.settings import Settings

PATH = "/metrics"
CONNECTIONS_MAX = 16
READ_TIMEOUT_S = 5.0
"""How long a connection may be silent."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection."""

    timeout = READ_TIMEOUT_S
    root = Path()
    token_hash: str | None = None

    def do_GET(self) -> None:
        """The metrics, to whoever has the token."""
        if self.path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"only {PATH} is served here\n".encode())
        elif self.token_hash is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"no admin token is set on this host\n")
        elif not self._is_operator(self.token_hash):
            self._answer(HTTPStatus.UNAUTHORIZED, b"send the admin token as: Authorization: Bearer\n")
        else:
            self._answer(HTTPStatus.OK, telemetry.exposition(self.root))

    def _is_operator(self, token_hash: str) -> bool:
        try:
            return token.matches(token.bearer(self.headers.get("authorization")), token_hash)
        except Unauthenticated:
            return False

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("www-authenticate", "Bearer")
        self.send_header("content-type", telemetry.CONTENT_TYPE)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-content-type-options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Nothing: a scrape every few seconds says nothing."""


class _Server(ThreadingHTTPServer):
    """At most so many connections at once; one more is closed unanswered."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own, if there is one free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that hangs up is no event."""


@contextlib.contextmanager
def serve_metrics(settings: Settings, host: str, port: int) -> Iterator[int]:
    """Serve ``/metrics`` until the block ends; yields the port, which 0 lets the system pick.

    Raises ``Misconfigured`` when the address is taken or not ours.
    """
    values = {"root": settings.metrics_dir, "token_hash": settings.admin_token_hash}
    try:
        server = _Server((host, port), type("Handler", (_Handler,), values))
    except OSError as fault:
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {fault.strerror}; choose another --metrics-port"
        ) from fault
    with server:
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
