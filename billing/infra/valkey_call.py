"""What is asked of Valkey and what comes back: a call, a script, an error reply, and which of them mean "not now"."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from billing.errors import Unavailable

Part = bytes | str | int | float
"""One word of a command."""
Reply = asyncio.Future[Any]
"""bytes, int, None, a list of these, or ``ValkeyError`` inside a list; raises ``Unavailable`` or ``ValkeyError``."""

Request = Callable[..., Reply]
"""Sends the words of one command on a connection that nobody else uses yet."""
Greeter = Callable[[Request, bool], Awaitable[None]]
"""Begins a connection, of a cluster's server or of another; what it raises ends the attempt to connect."""

NOT_NOW = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS", "OOM",
                     "READONLY", "TRYAGAIN", "WRONGPASS"})  # fmt: skip
"""Codes that speak of the server's state and not of the command: its caller's failure policy applies."""
MAY_HAVE_RUN = frozenset({"NOPERM"})
"""Of these, what a script may meet after its first write. All others are looked at before a command runs, or before a
script's first write: a server may not stop a script that has written (``scriptVerifyOOM`` and
``scriptVerifyWriteCommandAllow`` in script.c of Redis 7 and Valkey)."""


class NotExecuted(Unavailable):
    """The command was not run, and nothing was written: it was never sent, or the server refused it beforehand."""


class ValkeyError(Exception):
    """The server's error reply to one command, in its own words; ``code`` is the first of them (``WRONGTYPE``)."""

    @property
    def code(self) -> str:
        """What kind of error it is, in capitals."""
        return str(self).partition(" ")[0]


class Script:
    """A Lua script, sent by its SHA-1; the source follows only where the server does not know it."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        # The protocol names scripts by SHA-1; nothing is protected by it.
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Script {self.sha.decode()[:8]}, {len(self.source)} characters>"


class Retry:
    """What a call remembers once it was sent more than once, or waits for a connection."""

    __slots__ = ("asking", "redirects")

    def __init__(self) -> None:
        self.redirects = 0
        self.asking = False
        """Whether the server is told first that the slot is still on its way to it (``ASKING``)."""


class Call:
    """One command from its making to its reply; it keeps its place in the line also when nobody waits any more."""

    __slots__ = ("future", "parts", "retry", "script")

    def __init__(self, future: Reply, parts: tuple[Part, ...], script: Script | None = None) -> None:
        self.future = future
        self.parts = parts
        self.script = script
        self.retry: Retry | None = None

    def __repr__(self) -> str:
        state = "done" if self.future.done() else "waiting"
        return f"<Call {self.parts[0]!r} {state}>"

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)
            # Taken note of: a release that is sent and forgotten is no reason for a line in the log.
            self.future.exception()

    def limit(self, loop: asyncio.AbstractEventLoop, left_s: float, timeout_s: float) -> Retry:
        """Make it end in ``left_s`` seconds wherever it is sent meanwhile; the first limit holds."""
        if self.retry is None:
            self.retry = Retry()
            loop.call_later(left_s, self.fail, late(timeout_s))
        return self.retry

    def by_source(self) -> None:
        """Turn EVALSHA into EVAL, once."""
        if self.script is not None:
            self.parts = (b"EVAL", self.script.source, *self.parts[2:])
            self.script = None


def late(timeout_s: float) -> Unavailable:
    """The error of a call that was not answered in time; its outcome is unknown."""
    return Unavailable(f"Valkey did not answer within {timeout_s * 1000:g} ms")


def error_of(reply: ValkeyError) -> Exception:
    """What the caller gets for an error reply: itself, or ``Unavailable`` if it speaks of the server's state.

    ``NotExecuted`` where the reply proves it. A call is sent again only after a reply that proves it too.
    """
    code = reply.code
    if code not in NOT_NOW:
        return reply
    kind = Unavailable if code in MAY_HAVE_RUN else NotExecuted
    return kind(f"Valkey cannot serve now: {reply}")
