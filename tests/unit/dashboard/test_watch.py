import asyncio
from uuid import UUID

import pytest

from billing.dashboard.engine_view import engine_row
from billing.dashboard.watch import EngineState, EngineWatch
from billing.errors import Unavailable
from billing.fleet.backend import Backend, EngineKind
from billing.metering.totals.total import BackendTotal

FIRST, SECOND = UUID(int=1), UUID(int=2)


class House:
    """Backends, their pages, and what is on record of them."""

    def __init__(self) -> None:
        self.now_us = 1_000_000
        self.backends = [self.backend(FIRST, "gpu-1"), self.backend(SECOND, "gpu-2")]
        self.pages = {"http://gpu-1/metrics": page(100, 50), "http://gpu-2/metrics": page(0, 0)}
        self.records: list[BackendTotal] = []
        self.asked_since: list[int] = []
        self.watch = EngineWatch(self, self, lambda: self.now_us, self.fetch)

    @staticmethod
    def backend(id_: UUID, name: str) -> Backend:
        return Backend(
            id_, name, f"http://{name}", EngineKind.LLAMA_CPP, has_credential=False, created_at_us=0
        )

    async def list_backends(self, rows_max: int) -> list[Backend]:
        return self.backends[:rows_max]

    async def backend_totals(self, since_us: int) -> list[BackendTotal]:
        self.asked_since.append(since_us)
        return self.records

    async def fetch(self, url: str) -> str:
        if url not in self.pages:
            raise Unavailable("cannot be reached: Connection refused")
        return self.pages[url]

    async def look(self) -> list[EngineState]:
        await self.watch.look()
        self.now_us += 3_000_000
        return list(self.watch.states)


def page(input_tokens: int, output_tokens: int, running: int = 0) -> str:
    return (
        f"llamacpp:prompt_tokens_total {input_tokens}\nllamacpp:tokens_predicted_total {output_tokens}\n"
        f"llamacpp:requests_processing {running}\nllamacpp:requests_deferred 0\n"
    )


async def test_what_the_engine_counted_since_the_first_look_is_held_beside_the_records() -> None:
    house = House()
    await house.look()
    house.pages["http://gpu-1/metrics"] = page(118, 103)
    house.records = [BackendTotal(FIRST, 1, 0, 0, 18, 53)]
    first, second = await house.look()
    assert engine_row(first).verdict.text == "equal"
    assert engine_row(second).verdict.text == "equal", "nothing counted, nothing recorded"
    assert house.asked_since == [1_000_000, 1_000_000], "one sum for all that began at one look"


async def test_requests_in_flight_are_named_with_the_difference() -> None:
    house = House()
    await house.look()
    house.pages["http://gpu-1/metrics"] = page(118, 60, running=1)
    row = engine_row((await house.look())[0])
    assert row.verdict.text == "1 request in flight"
    assert [each.difference for each in row.comparisons] == ["+18", "+10"]
    assert row.notes == ("1 request in flight: counted there, not recorded yet",)


async def test_an_engine_that_does_not_answer_is_said_and_asked_again() -> None:
    house = House()
    await house.look()
    answer = house.pages.pop("http://gpu-1/metrics")
    away = engine_row((await house.look())[0])
    assert away.verdict.text == "cannot be reached: Connection refused"
    assert [each.engine for each in away.comparisons] == ["0", "0"], "the last that was seen stays"
    house.pages["http://gpu-1/metrics"] = answer
    assert engine_row((await house.look())[0]).verdict.text == "equal"


async def test_a_page_without_counters_is_said() -> None:
    house = House()
    house.pages["http://gpu-2/metrics"] = "nothing here"
    row = engine_row((await house.look())[1])
    assert (row.verdict.text, row.comparisons) == ("/metrics has no llamacpp:tokens_predicted_total", ())


async def test_a_backend_that_is_gone_is_forgotten() -> None:
    house = House()
    await house.look()
    house.backends.pop()
    assert [each.backend.name for each in await house.look()] == ["gpu-1"]


async def test_a_look_that_fails_is_logged_and_the_watch_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    await house.look()
    house.backends = None  # type: ignore[assignment]  # a defect
    async with house.watch.running():
        await asyncio.sleep(0.01)
    assert "could not be compared" in caplog.text
    assert len(house.watch.states) == 2, "the last look is still shown"
