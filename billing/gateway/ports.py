"""What ``proxy.py`` needs from the outside, as protocols: ``app/gateway.py`` hands over the real ones, tests hand fakes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from billing.directory.caller import Caller, Model, Target
from billing.gateway.forward import Destination
from billing.limits.admission import Permit
from billing.limits.limit import Limit
from billing.limits.need import Need
from billing.limits.used import Used
from billing.metering.event import Closed, Opened, Progress
from billing.pricing.term import Term
from billing.tokens.engines import Tokenize

Headers = list[tuple[bytes, bytes]]


class Request(msgspec.Struct, frozen=True):
    """One request as the transport read it, body whole. ``headers`` has lower-case names; the last of a name counts."""

    id: UUID
    at_us: int
    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes

    def __repr__(self) -> str:
        """Without headers and body: a key and a prompt stand in them."""
        return f"<Request {self.id} {self.method} {self.path[:64]} {len(self.body)} B>"


class Client(Protocol):
    """The caller's side of one exchange. After it is gone, writing to it does nothing."""

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""

    def on_gone(self, act: Callable[[], None] | None) -> None:
        """Call ``act`` once, as soon as the caller hangs up; at once if it has already."""

    async def head(self, status: int, headers: Headers) -> None:
        """Status and headers; may be held back to travel with the first bytes of the body."""

    async def chunk(self, data: bytes) -> None:
        """A piece of the body; returns when the transport can take more (back-pressure)."""

    def pass_on(self, data: bytes) -> bool:
        """Send a piece within this tick of the loop, where that needs no waiting; False when it must be sent by ``chunk``."""

    async def end(self, data: bytes = b"") -> None:
        """The last piece of the body and its end."""

    def abort(self) -> None:
        """Close the connection without the body's proper end, so that nobody takes what was sent for whole."""


class Exchange(Protocol):
    """A request on its way to an engine, as far as its caller may end it."""

    def hang_up(self, grace_s: float) -> None:
        """The caller is gone: stop sending, read on for at most ``grace_s``, then end."""

    def expire(self, limit_s: float) -> None:
        """Read on for at most ``limit_s``, then end."""


class Reply(Exchange, Protocol):
    """An engine's reply."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Headers:
        """Reply headers, names in lower case, in their order."""

    @property
    def complete(self) -> bool:
        """Whether the body ended as its framing promised."""

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end; raises ``UpstreamBroken`` or ``UpstreamTimeout``."""

    async def pump(self, sink: Callable[[bytes], bool]) -> bool:
        """Give each piece to a sink until it returns False (then True: there may be more) or the body ends (then False)."""

    def close(self) -> None:
        """End now. A reply that was read whole leaves its connection to others, any other closes it."""


class Upstream(Protocol):
    """The way to engines."""

    async def send(
        self, destination: Destination, head: bytes, body: bytes, begun: Callable[[Exchange], None]
    ) -> Reply:
        """Send a request and wait for the reply's head.

        ``begun`` is called with the exchange once it may be hung up, before the wait. Raises
        ``UpstreamUnreachable``, ``UpstreamTimeout`` or ``UpstreamBroken``.
        """


class Spool(Protocol):
    """The local durable log of one worker."""

    def open(self, entry: Opened) -> None:
        """Write an open entry; raises ``SpoolFull`` when there is no room."""

    def progress(self, entry: Progress) -> None:
        """Write what is known of a stream so far; dropped, and counted, when there is no room."""

    def close(self, entry: Closed) -> int:
        """Write a close entry; the position to wait for. Raises ``SpoolFull``."""

    async def synced(self, position: int) -> None:
        """Return once the log is on disk up to a position; raises ``Unavailable`` when the disk failed."""


class Directory(Protocol):
    """Callers and models as this worker knows them."""

    def caller(self, authorization: bytes | None, now_us: int) -> Caller:
        """Who an ``Authorization`` header stands for; raises ``Unauthenticated``, ``Forbidden``, ``Unavailable``."""

    def model(self, name: str) -> Model:
        """The model of a name or alias; raises ``NotFound``."""

    def targets(self, model: Model) -> tuple[Target, ...]:
        """Where a model can be asked for, best priority first."""

    def limits(self, caller: Caller, model: str) -> tuple[Limit, ...]:
        """The limits that a caller's request for a model must keep; empty for most."""

    def models(self) -> list[Model]:
        """Every model that something serves."""

    def terms(self, tenant_id: UUID) -> tuple[Term, ...]:
        """What prices a tenant's usage, by start; empty for a tenant without a plan."""

    def prices_reasoning_apart(self, tenant_id: UUID, model_name: str, at_us: int) -> bool:
        """Whether a tenant's reasoning of a model costs something else than the rest of its answers, at an instant."""


class Admission(Protocol):
    """Admits requests within their limits."""

    async def admit(self, request_id: UUID, limits: Sequence[Limit], need: Need) -> Permit:
        """All limits or none; raises ``LimitReached`` or ``LimitsUnavailable``."""

    def progress(self, permit: Permit, used: Used) -> None:
        """Say what a stream has used so far, by the engine's own running counts; never waits and never raises."""

    def settle(self, permit: Permit, used: Used) -> None:
        """Charge what was used; never waits and never raises."""


class Tokenizer(Protocol):
    """Counts text, within a time limit."""

    async def count(self, target: Target, how: Tokenize, text: str) -> int | None:
        """Tokens of a text at the engine; None when it could not be counted in time."""

    async def count_here(self, vocabulary: str, text: str) -> int | None:
        """Tokens of a text by a vocabulary of this process; None when it could not be counted in time."""
