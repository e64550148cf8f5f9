"""What wrong tokens may cost: so many late answers a client and minute, and over all never more than a few at once.

The right token is let in at any time, whatever others did: somebody behind the same proxy, or on many addresses, could
keep the operator out otherwise. So the gate is no protection against guessing, and need be none: a token has 20
characters at least and 256 random bits when it is made here, and the admin API compares tokens without any gate.
"""

import asyncio
from collections.abc import Awaitable, Callable

from billing.clock import MICROSECONDS_PER_SECOND, Clock

WRONG_PER_MINUTE_MAX = 10
"""Wrong tokens of one client in a minute that are answered in full; further ones are refused at once."""
CLIENTS_MAX = 1_024
"""Clients remembered; for a new one, the one that tried longest ago is forgotten."""
WRONG_DELAY_S = 0.4
"""Every wrong token is answered so much later."""
WAITING_MAX = 8
"""Wrong tokens that wait at once; further ones are refused at once, so that many clients pile nothing up."""
BUSY_S = 1
"""When to come back where too many wait."""
MINUTE_US = 60 * MICROSECONDS_PER_SECOND

Sleep = Callable[[float], Awaitable[None]]


class Gate:
    """Counts wrong tokens by client. ``clock`` may be any that never goes back; it only measures."""

    def __init__(self, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._wrong: dict[str, tuple[int, int]] = {}
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Gate {len(self._wrong)} clients, {self._waiting} waiting>"

    async def wrong(self, client: str) -> int:
        """Count a wrong token. Returns 0 after a while; or, at once, in how many seconds another is answered in full."""
        began_us, wrong = self._counted(client)
        if wrong > WRONG_PER_MINUTE_MAX:
            return max(1, -(-(began_us + MINUTE_US - self._clock()) // MICROSECONDS_PER_SECOND))
        if self._waiting >= WAITING_MAX:
            return BUSY_S
        self._waiting += 1
        try:
            await self._sleep(WRONG_DELAY_S)
        finally:
            self._waiting -= 1
        return 0

    def right(self, client: str) -> None:
        """Forget a client that has signed in."""
        self._wrong.pop(client, None)

    def _counted(self, client: str) -> tuple[int, int]:
        """When the client's minute began and how many wrong tokens it has sent in it, this one too."""
        began_us, wrong = self._wrong.pop(client, (self._clock(), 0))
        if self._clock() - began_us >= MINUTE_US:
            began_us, wrong = self._clock(), 0
        if len(self._wrong) >= CLIENTS_MAX:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[client] = (began_us, wrong + 1)
        return self._wrong[client]
