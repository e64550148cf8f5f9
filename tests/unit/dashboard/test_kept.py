import asyncio

import pytest

from billing.dashboard.kept import Kept
from billing.errors import Unavailable


class Maker:
    """Makes numbers, each taking so long."""

    def __init__(self, takes_us: int = 0) -> None:
        self.now_us = 1_000
        self.takes_us = takes_us
        self.made = 0

    async def make(self) -> int:
        self.made += 1
        self.now_us += self.takes_us
        await asyncio.sleep(0)
        return self.made

    def clock(self) -> int:
        return self.now_us


async def test_whoever_looks_at_once_is_shown_one_value() -> None:
    maker = Maker()
    kept = Kept(maker.make, 500, maker.clock)
    assert await asyncio.gather(*(kept.get() for _ in range(5))) == [1] * 5
    maker.now_us += 499
    assert await kept.get() == 1
    maker.now_us += 1
    assert await kept.get() == 2


async def test_what_took_long_is_kept_nine_times_as_long() -> None:
    maker = Maker(takes_us=1_000)
    kept = Kept(maker.make, 500, maker.clock)
    await kept.get()
    maker.now_us += 8_999
    assert await kept.get() == 1
    maker.now_us += 1
    assert await kept.get() == 2


async def test_a_failure_is_raised_and_not_kept() -> None:
    faults = [Unavailable("Postgres went away")]

    async def make() -> str:
        if faults:
            raise faults.pop()
        return "back"

    kept = Kept(make, 500, lambda: 0)
    with pytest.raises(Unavailable):
        await kept.get()
    assert await kept.get() == "back"
