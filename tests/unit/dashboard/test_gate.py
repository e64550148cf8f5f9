import asyncio

from billing.dashboard.gate import BUSY_S, CLIENTS_MAX, WAITING_MAX, WRONG_DELAY_S, WRONG_PER_MINUTE_MAX, Gate


class Time:
    """A clock that goes on by waiting."""

    def __init__(self) -> None:
        self.us = 0

    def clock(self) -> int:
        return self.us

    async def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


async def test_ten_wrong_tokens_of_a_client_are_answered_late_and_further_ones_refused_at_once() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for number in range(1, WRONG_PER_MINUTE_MAX + 1):
        assert await gate.wrong("a") == 0
        assert time.us == int(number * WRONG_DELAY_S * 1_000_000)
    assert await gate.wrong("a") == 56
    assert time.us == 4_000_000
    assert await gate.wrong("b") == 0
    time.us = 60_000_000
    assert await gate.wrong("a") == 0


async def test_whoever_goes_on_is_answered_again_when_the_minute_is_over() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for _ in range(3 * WRONG_PER_MINUTE_MAX):
        await gate.wrong("a")
    time.us = 59_999_999
    assert await gate.wrong("a") == 1
    time.us = 60_000_000
    assert await gate.wrong("a") == 0


async def test_a_right_token_counts_from_the_beginning() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for _ in range(WRONG_PER_MINUTE_MAX):
        await gate.wrong("a")
    gate.right("a")
    assert await gate.wrong("a") == 0


async def test_it_remembers_only_so_many_clients() -> None:
    time = Time()
    gate = Gate(time.clock, time.sleep)
    for number in range(CLIENTS_MAX + 5):
        await gate.wrong(str(number))
    assert repr(gate) == f"<Gate {CLIENTS_MAX} clients, 0 waiting>"


async def test_many_clients_pile_up_no_answers_that_wait() -> None:
    release = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await release.wait()

    gate = Gate(lambda: 0, sleep)
    tasks = [asyncio.create_task(gate.wrong(str(number))) for number in range(3 * WAITING_MAX)]
    await asyncio.sleep(0)
    assert repr(gate) == f"<Gate {3 * WAITING_MAX} clients, {WAITING_MAX} waiting>"
    release.set()
    answers = await asyncio.gather(*tasks)
    assert [answers.count(0), answers.count(BUSY_S)] == [WAITING_MAX, 2 * WAITING_MAX]
    assert await gate.wrong("another") == 0
