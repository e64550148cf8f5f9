"""A value that is shown to everybody who looks: made at most once at a time, and not again before it is old."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from billing.clock import Clock

Value = TypeVar("Value")

REST_FACTOR = 9
"""After making took t, the value is kept for at least nine times t: looking costs a tenth of the database at most."""


class Kept(Generic[Value]):
    """Makes a value when it is asked for and the last one is older than ``age_us``, however many ask at once."""

    def __init__(self, make: Callable[[], Awaitable[Value]], age_us: int, clock: Clock) -> None:
        self._make = make
        self._age_us = age_us
        self._clock = clock
        self._lock = asyncio.Lock()
        self._made: tuple[Value] | None = None
        self._until_us = 0

    def __repr__(self) -> str:
        return f"<Kept {'a value' if self._made else 'nothing'} until {self._until_us}>"

    async def get(self) -> Value:
        """The present value; raises what making it raises, and then nothing is kept."""
        async with self._lock:
            if self._made is None or self._clock() >= self._until_us:
                self._made = None
                began_us = self._clock()
                made = await self._make()
                ended_us = self._clock()
                self._made = (made,)
                self._until_us = ended_us + max(self._age_us, REST_FACTOR * (ended_us - began_us))
            return self._made[0]
