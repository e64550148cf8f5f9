"""Makes a whole response out of its stream: the last event carries it, as the engine would have sent it (port ``Assembler``)."""

import msgspec

from billing.tokens.assembler import STATUS_ENGINE_ERROR, STATUS_OK, Assembler
from billing.tokens.salvage import is_said

_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null", b"false")


class Ending(msgspec.Struct, frozen=True):
    """An event as far as it may hold the whole reply, or an error in its place."""

    type: str | None = None
    response: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    code: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    param: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(Ending).decode
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesAssembler(Assembler):
    """Keeps the reply that the last event carries; before it nothing need be kept."""

    __slots__ = ("_body", "_error")

    def __init__(self) -> None:
        self._body = b""
        self._error = b""

    def __repr__(self) -> str:
        return f"<ResponsesAssembler {self.size()} B>"

    def feed(self, data: bytes) -> None:
        """One event's data, in order; what is no event of the reply is passed over."""
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if event.type in _TERMINAL and bytes(event.response) not in _NOTHING:
            self._body = bytes(event.response)
        elif is_said(event.error):
            self._error = msgspec.json.encode({"error": event.error})
        elif event.type == "error":
            self._error = msgspec.json.encode({"error": _flat(event)})

    def size(self) -> int:
        """Bytes held so far."""
        return len(self._body) + len(self._error)

    def status(self) -> int:
        """The status to answer with: 200, or 500 where the stream ended with an error and no reply."""
        return STATUS_ENGINE_ERROR if self._error and not self._body else STATUS_OK

    @property
    def whole(self) -> bool:
        """Whether the event with the whole reply has come."""
        return bool(self._body)

    def body(self) -> bytes:
        """The whole reply as JSON text, else the engine's error; ``b""`` when the stream ended with neither."""
        return self._body or self._error


def _flat(event: Ending) -> dict[str, msgspec.Raw]:
    """The error of an ``error`` event, whose members stand in the event itself."""
    told = {"message": event.message, "type": _ABSENT, "param": event.param, "code": event.code}
    null = msgspec.Raw(b"null")
    return {name: value if bytes(value) else null for name, value in told.items()}
