"""What official clients read of an answer's cost, against real llama.cpp, and that it is what the invoice will say."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from billing.infra.golden.model import GOLDEN, model_path
from billing.infra.golden.runner import LlamaServer
from billing.infra.system import new_id, now_us
from billing.infra.zones import zone_of
from billing.invoicing.service.invoicing import InvoicingService
from billing.metering.stored import StoredRecord
from tests.e2e.rig import Rig, running

PLAN = """
plan: told
currency: EUR
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates:
      - {model: golden, input: "0.50", cached_input: "0.05", output: "1.50", reasoning: "1.00"}
"""
MESSAGES: Any = [
    {"role": "system", "content": "You answer in one paragraph."},
    {"role": "user", "content": "How are the tokens of an answer counted?"},
]
ASKS = {"x-billing-usage": "true"}
OUTPUT, REASONING = 53, 20


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    folder = tmp_path_factory.mktemp("golden")
    server = LlamaServer.start(model_path(folder, GOLDEN), "golden", log_path=folder / "llama.log", slots=1)
    yield server
    server.stop()


@pytest.fixture
async def rig(golden: LlamaServer, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "data", {"golden": ("llama.cpp", golden.url)}) as rig:
        await rig.price(PLAN)
        yield rig


def expected(record: StoredRecord) -> Decimal:
    """By hand, of what is on record."""
    assert record.input.value is not None
    cached = record.cached_input.value or 0
    assert (record.output.value, record.reasoning.value) == (OUTPUT, REASONING)
    milli = Decimal("0.50") * (record.input.value - cached) + Decimal("0.05") * cached
    return (milli + Decimal("1.50") * (OUTPUT - REASONING) + Decimal("1.00") * REASONING) / 1000


async def test_openais_client_reads_the_cost_of_streams_and_whole_replies(rig: Rig) -> None:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.key, default_headers=ASKS) as client:
        stream = await client.chat.completions.create(model="golden", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]
        usage: Any = chunks[-1].usage
        assert (usage.completion_tokens, chunks[-1].choices) == (OUTPUT, [])
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        raw = await client.chat.completions.with_raw_response.create(model="golden", messages=MESSAGES)
        whole = Decimal(raw.headers["x-billing-cost"])
        assert raw.headers["x-billing-currency"] == "EUR"
        assert "x-billing-cost-estimate" not in raw.headers
        assert raw.parse().usage is not None
        response = await client.responses.create(model="golden", input=MESSAGES[1]["content"], stream=True)
        completed: Any = [event async for event in response][-1]
        assert completed.response.usage.cost["currency"] == "EUR"
    records = {(record.operation, record.stream): record for record in await rig.records(3)}
    assert usage.cost == {
        "amount": str(expected(records["chat", True])), "currency": "EUR", "estimate": False,
    }  # fmt: skip
    assert whole == expected(records["chat", False])
    assert records["chat", False].reasoning.provenance == "counted"
    async with rig.database() as database:
        invoicing = InvoicingService(database, now_us, new_id, zone_of)
        shown = await invoicing.trace(str(records["chat", True].id))
    assert shown.amount == Decimal(usage.cost["amount"])


async def test_anthropics_client_reads_the_cost_of_a_stream(rig: Rig) -> None:
    async with anthropic.AsyncAnthropic(base_url=rig.url, api_key=rig.key, default_headers=ASKS) as client:
        stream = await client.messages.create(
            model="golden", messages=[MESSAGES[1]], max_tokens=200, stream=True
        )
        deltas: list[Any] = [event async for event in stream if event.type == "message_delta"]
    [record] = await rig.records(1)
    assert record.reasoning.provenance == "counted", "llama.cpp sends no counter in this dialect"
    assert deltas[-1].usage.cost == {
        "amount": str(expected(record).normalize()), "currency": "EUR", "estimate": False,
    }  # fmt: skip


async def test_clients_that_do_not_ask_see_nothing_of_it(rig: Rig) -> None:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.key) as client:
        stream = await client.chat.completions.create(
            model="golden", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        usage = [chunk async for chunk in stream][-1].usage
        assert usage is not None
        assert "cost" not in usage.model_dump()
        raw = await client.chat.completions.with_raw_response.create(model="golden", messages=MESSAGES)
        assert not [name for name in raw.headers if name.startswith("x-billing")]
