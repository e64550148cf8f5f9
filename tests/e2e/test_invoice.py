"""From replayed answers of real engines to an issued invoice whose every line was calculated by hand."""

import asyncio
import json
from pathlib import Path
from typing import Any

from billing.infra.system import new_id, now_us
from billing.infra.zones import zone_of
from billing.invoicing.period import month_of
from billing.invoicing.service.invoicing import InvoicingService
from billing.pricing.service import PricingService
from tests.cli_kit import Terminal
from tests.e2e.rig import running
from tests.gateway.recordings import CAPTURES, recording
from tests.gateway.scripted_engine import Received, ScriptedEngine, Step, replay

PLAN = """
plan: per-token
currency: USD
label: Prices per token
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1
    rates:
      - {model: v, input: "0.15", cached_input: "0.015", output: "0.60", reasoning: "0.30"}
      - {model: l, input: "0.20", cached_input: "0.02", output: "0.80"}
"""
SENT = [("v", "vllm", "chat_nonstream"), ("v", "vllm", "chat_stream_n2_usage_true"),
        ("l", "llamacpp", "completions_nonstream"), ("l", "llamacpp", "chat_stream_usage_true")]  # fmt: skip
# v: 32 + 32 tokens of input, none cached; 53 of output with 20 of reasoning, and two choices of 53 with 20 each.
# l: 4 + 32 of input with 31 of them cached; 53 + 53 of output. The recorded stream has no running counts, so nobody
# knows how much of it was reasoning, and it has no price of its own.
LINES = [
    ("l", "uncached_input", 4 + 1, "1.00"),
    ("l", "cached_input", 31, "0.62"),
    ("l", "answer_output", 53 + 53, "84.80"),
    ("v", "uncached_input", 32 + 32, "9.60"),
    ("v", "answer_output", 33 + 66, "59.40"),
    ("v", "reasoning", 20 + 40, "18.00"),
]
TOTAL = "173.42"


async def test_the_invoice_of_acme_equals_what_was_calculated_by_hand(tmp_path: Path) -> None:
    answers = iter([CAPTURES / engine / f"{name}.response.txt" for _, engine, name in SENT])

    def answer(_: Received) -> list[Step]:
        return replay(next(answers))

    async with ScriptedEngine(answer) as engine:
        url = f"http://127.0.0.1:{engine.port}"
        async with running(tmp_path / "data", {"v": ("vllm", url), "l": ("llama.cpp", url)}) as rig:
            async with rig.database() as database:
                pricing = PricingService(database, now_us, new_id)
                await pricing.apply(PLAN)
                await pricing.subscribe(rig.tenant_id, "per-token")
            async with rig.client() as client:
                for model, folder, name in SENT:
                    recorded = recording(folder, name)
                    body = {**json.loads(recorded.request), "model": model}
                    reply = await client.post(recorded.path, json=body)
                    assert reply.status_code == 200, reply.text
            await rig.recorded(len(SENT))
            async with rig.database() as database:
                invoicing = InvoicingService(database, now_us, new_id, zone_of)
                month = month_of(now_us(), zone_of("UTC")).month
                [closed] = await invoicing.close(month, "acme", early=True)
                assert closed.invoice is not None
                number = closed.invoice.number
                assert number == "INV-000001"
                assert (await invoicing.verify(number)).is_same
                assert (await invoicing.reconciliation(number)).is_equal
            terminal = Terminal(rig.postgres.url, tmp_path)
            shown = await asyncio.to_thread(terminal.ok, "invoices", "show", number, "--format", "json")
    content: Any = json.loads(shown)["content"]
    fields = ("model", "component", "quantity", "amount")
    assert [tuple(line[field] for field in fields) for line in content["lines"]] == LINES
    assert (content["total"], content["currency"]) == (TOTAL, "USD")
