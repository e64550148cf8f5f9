"""uvicorn's HTTP protocol with a limit on what a request's head may cost, and errors in the callers' own dialect.

uvicorn 0.54 collects a head of any size; here a head that does not end within its limit is answered 431 and the
connection closed. Made by :func:`limited_protocol`, because uvicorn constructs protocols by class.
"""

from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from billing.errors import BillingError, HeadersTooLarge, InvalidInput
from billing.gateway.problem import problem

CONNECTION = "billing.connection"
"""The ASGI extension under which a request finds its connection: a callback costs a task less than awaiting ``receive``."""

_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class LimitedProtocol(HttpToolsProtocol):
    """One client connection whose request heads are bounded."""

    head_bytes_max = 64 * 1024
    _head_bytes = 0
    _in_head = False
    is_whole = False
    """Whether every request that has begun to come has come whole."""
    gone = False
    """Whether the client has hung up."""
    on_gone: Callable[[], None] | None = None
    """Called when the client hangs up."""

    def on_message_begin(self) -> None:
        """A request's head begins."""
        self._in_head, self._head_bytes = True, 0
        self.is_whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; what follows is body, which has its own limit."""
        self._in_head = False
        super().on_headers_complete()
        self.scope["extensions"] = cast("dict[str, dict[object, object]]", {CONNECTION: self})

    def on_message_complete(self) -> None:
        """A request has come whole."""
        self.is_whole = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has hung up, or the reply has ended the connection."""
        super().connection_lost(exc)
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; an unfinished head that has grown beyond its limit ends the connection."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._refuse(
                    HeadersTooLarge(f"the request's headers are longer than {self.head_bytes_max} bytes")
                )

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP, answered as OpenAI's clients expect an error."""
        self._refuse(InvalidInput(msg))

    def _refuse(self, fault: BillingError) -> None:
        answer = problem(fault)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (answer.status, _REASONS[answer.status], len(answer.body)) + answer.body)
        self.transport.close()


def limited_protocol(head_bytes_max: int) -> type[Any]:
    """The protocol class with a limit of its own on the bytes of a request's head."""
    return type("GatewayProtocol", (LimitedProtocol,), {"head_bytes_max": head_bytes_max})
