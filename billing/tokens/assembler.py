"""Makes a whole reply out of a stream, for replies that their engine counts only when it streams them (port)."""

from abc import ABC, abstractmethod

STATUS_OK = 200
STATUS_ENGINE_ERROR = 500


class Assembler(ABC):
    """Takes the events of one stream and becomes the reply that the engine would have sent whole.

    It holds text (P13): the gateway bounds it by ``reply_body_bytes_max`` and drops it with the request.
    """

    __slots__ = ()

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """One event's data, in order; what is no event of the reply is passed over."""

    @abstractmethod
    def size(self) -> int:
        """Bytes held so far."""

    @abstractmethod
    def status(self) -> int:
        """The status to answer with: 200, or that of the error which ended the stream."""

    @property
    @abstractmethod
    def whole(self) -> bool:
        """Whether all that was asked for has come; without that the reply is broken off."""

    @abstractmethod
    def body(self) -> bytes:
        """The whole reply as JSON text, an engine's error in its own shape; call it at the end of the stream."""
