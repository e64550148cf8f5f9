"""How often a wrong token may be tried: per address so many a minute, and over all never more than a few at once."""

import asyncio
from collections.abc import Awaitable, Callable

from billing.clock import MICROSECONDS_PER_SECOND, Clock

WRONG_PER_MINUTE_MAX = 10
"""Wrong tokens from one address in a minute; then even the right one waits for the minute's end."""
ADDRESSES_MAX = 1_024
"""Addresses remembered; for a new one, the one that tried longest ago is forgotten."""
WRONG_DELAY_S = 0.4
"""Every wrong token is answered so much later."""
WAITING_MAX = 8
"""Wrong tokens that wait at once, so that all addresses together try no more than 20 a second."""
MINUTE_US = 60 * MICROSECONDS_PER_SECOND

Sleep = Callable[[float], Awaitable[None]]


class Gate:
    """Counts wrong tokens by address. ``clock`` may be any that never goes back; it only measures."""

    def __init__(self, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._wrong: dict[str, tuple[int, int]] = {}
        self._waiting = asyncio.Semaphore(WAITING_MAX)

    def __repr__(self) -> str:
        return f"<Gate {len(self._wrong)} addresses>"

    def wait_s(self, address: str) -> int:
        """Seconds that an address has to wait before it may try again; 0 is now."""
        began_us, wrong = self._wrong.get(address, (0, 0))
        left_us = began_us + MINUTE_US - self._clock()
        return max(0, -(-left_us // MICROSECONDS_PER_SECOND)) if wrong >= WRONG_PER_MINUTE_MAX else 0

    async def wrong(self, address: str) -> None:
        """Count a wrong token, and let its answer wait."""
        began_us, wrong = self._wrong.pop(address, (self._clock(), 0))
        if self._clock() - began_us >= MINUTE_US:
            began_us, wrong = self._clock(), 0
        if len(self._wrong) >= ADDRESSES_MAX:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[address] = (began_us, wrong + 1)
        async with self._waiting:
            await self._sleep(WRONG_DELAY_S)

    def right(self, address: str) -> None:
        """Forget an address that has signed in."""
        self._wrong.pop(address, None)
