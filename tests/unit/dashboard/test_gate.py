import asyncio

from billing.dashboard.gate import ADDRESSES_MAX, WAITING_MAX, WRONG_PER_MINUTE_MAX, Gate


class Time:
    """A clock that goes on by waiting."""

    def __init__(self) -> None:
        self.us = 0

    def clock(self) -> int:
        return self.us

    async def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


async def test_after_ten_wrong_tokens_an_address_waits_for_its_minute_s_end() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for _ in range(WRONG_PER_MINUTE_MAX):
        assert gate.wait_s("a") == 0
        await gate.wrong("a")
    assert gate.wait_s("a") == 56
    assert gate.wait_s("b") == 0
    time.us = 60_000_000
    assert gate.wait_s("a") == 0


async def test_a_new_minute_and_a_right_token_count_from_the_beginning() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for _ in range(WRONG_PER_MINUTE_MAX - 1):
        await gate.wrong("a")
        await gate.wrong("b")
    time.us = 60_000_000
    await gate.wrong("a")
    gate.right("b")
    await gate.wrong("b")
    assert (gate.wait_s("a"), gate.wait_s("b")) == (0, 0)


async def test_it_remembers_only_so_many_addresses() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for number in range(ADDRESSES_MAX + 5):
        await gate.wrong(str(number))
    assert repr(gate) == f"<Gate {ADDRESSES_MAX} addresses>"


async def test_wrong_tokens_of_many_addresses_wait_for_each_other() -> None:
    waiting, release = 0, asyncio.Event()

    async def sleep(_seconds: float) -> None:
        nonlocal waiting
        waiting += 1
        await release.wait()

    gate = Gate(lambda: 0, sleep)
    tasks = [asyncio.create_task(gate.wrong(str(number))) for number in range(3 * WAITING_MAX)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting == WAITING_MAX
    release.set()
    await asyncio.gather(*tasks)
