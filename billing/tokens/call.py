"""One request as far as metering must understand it, in whatever dialect it came: the port between dialects and gateway.

A dialect is a module of ``billing.tokens.dialects`` with a function ``parse(asked) -> Call`` and its own kind of call,
which knows how its engine is asked and how its reply is read.
"""

from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

import msgspec

from billing.tokens.engines import Engine
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.operation import Dialect, Framing, Operation
from billing.tokens.usage import Part

if TYPE_CHECKING:
    from billing.tokens.assembler import Assembler

JSON = b"application/json"


class Asked(msgspec.Struct, frozen=True):
    """What came in: the operation of the path, the path itself, the body and its media type as sent."""

    operation: Operation
    path: str
    body: bytes
    content_type: bytes = JSON

    def __repr__(self) -> str:
        return f"<Asked {self.operation} {self.path[:64]} {len(self.body)} B>"


class CallMeta(ABCMeta, msgspec.StructMeta):
    """Calls are values of msgspec and abstract at once."""


class Call(msgspec.Struct, frozen=True, kw_only=True, metaclass=CallMeta):
    """One request. ``model`` is ``""`` where the dialect may leave it out; then the caller's only model is meant."""

    operation: Operation
    dialect: Dialect
    path: str
    body: bytes
    model: str
    stream: bool = False
    """Whether the client wants the reply as a stream."""
    framing: Framing = Framing.SSE
    choices: int = 1
    prompts: int = 1
    """Prompts in the request (``choices`` answers are made for each)."""
    made: int = 0
    """Answers that an engine makes for each prompt where it does not show them all (``best_of``); 0: as many as choices."""
    output_max: int | None = None
    """The most output tokens of one choice that the client named."""
    end_user: str | None = None
    output_member: ClassVar[str] = "max_tokens"
    """The member of a request that says how long an answer may become."""
    content_type: bytes = JSON
    """The media type to send the body as."""
    replies_json: bool = True
    """Whether a whole reply must be JSON; else the client may have asked for text, say."""

    def __repr__(self) -> str:
        """Without the body: a prompt stands in it (P13)."""
        return f"<{type(self).__name__} {self.operation} {self.model} {len(self.body)} B>"

    @abstractmethod
    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came where nothing must change, else with the model's name and the counts asked for.

        ``stream`` says whether the engine is asked for a stream, which may be so though the client wants a whole reply.
        """

    @abstractmethod
    def stream_meter(self, engine: Engine) -> StreamMeter:
        """What follows the streamed reply."""

    @abstractmethod
    def reply_meter(self, engine: Engine, body: bytes) -> ReplyMeter:
        """What reads the whole reply."""

    def telling_usage(self) -> Self:
        """The same call of a client that wants a stream's usage told, however it says so; most dialects tell it always."""
        return self

    def check(self, engine: Engine) -> None:
        """Raises ``InvalidInput`` for a request whose reply this engine does not count whole."""

    def upstream_path(self, backend_model: str) -> str:  # noqa: ARG002 - only paths that name a model need it
        """The path at the engine."""
        return self.path

    def output_bound(self, unsaid: int) -> int:
        """The most output tokens that the call may use; ``unsaid`` a choice where the client does not say."""
        return (unsaid if self.output_max is None else self.output_max) * self.answers()

    def answers(self) -> int:
        """How many answers the call asks for."""
        return (self.made or self.choices) * self.prompts

    def output_most(self) -> int | None:
        """The output tokens that the call cannot go beyond; None where it sets its answer no limit."""
        return None if self.output_max is None and self.output_bound(1) > 0 else self.output_bound(0)

    def capped(self, cap: int) -> Self:  # noqa: ARG002 - only text can be made shorter
        """The same call for answers of at most so many tokens, itself where it asks for no more or makes no text.

        Raises ``InvalidInput`` where only the client can say so.
        """
        return self

    def is_longer(self, cap: int) -> bool:
        """Whether an answer may have more tokens than a cap."""
        return (self.output_max is None or self.output_max > cap) and self.output_bound(1) > 0

    def prompt_bytes(self) -> int:
        """Bytes that hold prompt text, from which its tokens are estimated; a file in a form is none."""
        return len(self.body)

    def units(self) -> dict[Part, int]:
        """What the request itself says it uses where no reply holds tokens: characters to speak, images to make."""
        return {}

    def assembler(self, engine: Engine, *, always: bool = False) -> "Assembler | None":  # noqa: ARG002 - most replies need none
        """What makes the whole reply out of a stream, where only a stream is counted; with ``always`` wherever that can be.

        None for a call that is not so asked: the client wants the stream, or the engine sends none.
        """
        return None
