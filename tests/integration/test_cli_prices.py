"""Plans with tiers, allowances, fees and minimums on the command line: what is warned of, and what is printed."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from billing.tokens.usage import Outcome, Provenance
from tests.cli_kit import Terminal, words
from tests.invoice_kit import at, record, save, usage, usage_id

USED = usage_id("2026-11-02T10:00:00Z", 1)
PLAN = """\
plan: globex
currency: USD
label: Volume prices, per 1,000,000 tokens
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000000
    monthly_fee: "500.00"
    minimum: "1000.00"
    billable: {interrupted: bill, complete: {estimated: bill}}
    rates:
      - model: "llama-*"
        input: {tiers: [{up_to: 1000000, price: "0.50"}, {price: "0.30"}], allowance: 100000}
        cached_input: "0.05"
        output: {price: "1.50", allowance: 1000}
      - model: golden
        total: {tiers: [{up_to: 500, price: "20000"}, {up_to: 1000, price: "10000"}, {price: free}]}
"""
PREVIEW_COMMAND = ("invoices", "preview", "--tenant", "globex", "--period", "2026-11")


@pytest.fixture
def furnished(migrated_url: str, tmp_path: Path) -> Terminal:
    """A tenant with the plan above and some usage."""
    terminal = Terminal(migrated_url, tmp_path)
    tenant = terminal.json("tenants", "create", "globex")
    key = terminal.json("keys", "create", "--tenant", "globex")
    backend = terminal.json("backends", "add", "a", "--url", "http://127.0.0.1:8080", "--engine", "vllm")
    terminal.ok("plans", "apply", "-", text=PLAN)
    terminal.ok(
        "subscriptions", "create", "--tenant", "globex", "--plan", "globex", "--starts-at", "2026-11-01"
    )
    owned = {
        "tenant_id": UUID(tenant["id"]), "key_id": UUID(key["id"]), "backend_id": UUID(backend["id"]),
    }  # fmt: skip
    records = [
        record(USED, usage(1_500_000, 2_000, cached=200_000), model="llama-3.1-8b", **owned),
        record(usage_id("2026-11-02T11:00:00Z", 2), usage(900, 300), **owned),
        record(
            usage_id("2026-11-03T10:00:00Z", 3), usage(1_000, 40, provenance=Provenance.RUNNING), model="llama-3.1-8b",
            outcome=Outcome.INTERRUPTED, **owned,
        ),
        record(usage_id("2026-11-03T11:00:00Z", 4), usage(700, 70), outcome=Outcome.UPSTREAM_ERROR, **owned),
        record(usage_id("2026-11-04T11:00:00Z", 5), usage(800, 80), model="mistral", **owned),
    ]  # fmt: skip
    asyncio.run(save(terminal.url, records, at("2026-11-04T12:00:00Z")))
    return terminal


SHOWN = """\
                       Uncached   Cached   Cache   Answer
 Model           Per      input    input   write   output   Reasoning
 ────────────────────────────────────────────────────────────────────
 llama-*   1,000,000      below     0.05   below    below       below

 Model     Counted together   Tokens of a period         Per       Price
 ───────────────────────────────────────────────────────────────────────
 golden    total              first 500            1,000,000   20,000.00
                              next 500             1,000,000   10,000.00
                              all others                   –        free
 llama-*   input              first 100,000                –    included
                              next 1,000,000       1,000,000        0.50
                              all others           1,000,000        0.30
           output             first 1,000                  –    included
                              all others           1,000,000        1.50

Monthly fee  500.00 USD a period
Minimum      1,000.00 USD a period
Billable     complete, estimated: bill; interrupted: bill
"""

PREVIEW = """\
                                                                Price
 Model          Component        Tier          Tokens   per 1,000,000        Amount
 ──────────────────────────────────────────────────────────────────────────────────
 golden         total            tier 1           500       20,000.00      10.00000
                                 tier 2           500       10,000.00       5.00000
                                 tier 3           200            free       0.00000
 llama-3.1-8b   uncached input   included     100,000               –       0.00000
                                 tier 1     1,000,000            0.50       0.50000
                                 tier 2       201,000            0.30       0.06030
                cached input                  200,000            0.05       0.01000
                answer output    included       1,000               –       0.00000
                                                1,040            1.50       0.00156

 Usage          exact                       1,504,240                      15.57186
 Fee            monthly                                                   500.00000
 Minimum        up to 1,000.00                                            984.42814

 Subtotal       exact                                                   1,500.00000
 Total          rounded once                                      USD      1,500.00

What is up to the minimum becomes less while more is used in the period.

 Not billed   Outcome          Provenance   Requests   Tokens   Worth
 ────────────────────────────────────────────────────────────────────
 waived       upstream error   reported            1      770    0.00

Waived: the caller did not get a whole answer.

                                              At risk,
 Unrated           Component        Tokens   estimated   Why
 ───────────────────────────────────────────────────────────────
 mistral           uncached input      800       16.00   no rate
 mistral           answer output        80        1.60   no rate

 Revenue at risk   USD                 880       17.60

Unrated usage is not billed at 0: it waits until a plan prices it (billing plans apply FILE). At risk is an estimate, at the dearest price that the plan has for such usage.
"""
"""The input of llama-3.1-8b that is not cached is 1,300,000 of a whole answer and 1,000 of an interrupted one, which this
plan bills: 100,000 included + 1,000,000 × 0.50 + 201,000 × 0.30 per 1,000,000. At risk by golden's dearest tier:
800 and 80 × 20,000.00 / 1,000,000; golden's third tier is free, so that what was waived is worth nothing."""


def test_a_plan_is_shown_with_what_counts_over_a_period(furnished: Terminal) -> None:
    _, title, *shown = [line for line in words(furnished.ok("plans", "show", "globex")) if line]
    assert " ".join(title).startswith("Version 1 · from 2026-01-01 00:00 UTC · in force")
    assert shown == [line for line in words(SHOWN) if line]


def test_a_preview_shows_tiers_fee_true_up_and_revenue_at_risk(furnished: Terminal) -> None:
    _, _, *table = furnished.ok(*PREVIEW_COMMAND).splitlines()
    assert words("\n".join(table)) == words(PREVIEW)


def test_the_lines_of_a_preview_as_json_add_up_to_its_total(furnished: Terminal) -> None:
    found = furnished.json(*PREVIEW_COMMAND)
    owed = [*found["lines"], *found["charges"]]
    assert sum(line["amount_minor"] for line in owed) == found["total_minor"] == 150_000
    assert (found["usage_amount"], found["subtotal"], found["total"]) == ("15.57186", "1500", "1500.00")
    assert [(line["kind"], line["agreed"], line["amount"]) for line in found["charges"]] == [
        ("fee", "500", "500"),
        ("minimum", "1000", "984.42814"),
    ]
    golden = [
        (line["component"], line["tier"], line["included"]) for line in owed[:4] if line["model"] == "golden"
    ]
    assert golden == [("total", tier, False) for tier in range(3)]
    assert [each["at_risk_estimate"] for each in found["unrated"]] == ["16", "1.6"]


def test_a_month_without_usage_owes_the_fee_and_the_minimum(furnished: Terminal) -> None:
    printed = words(furnished.ok(*PREVIEW_COMMAND[:-1], "2026-12"))
    assert ["Fee", "monthly", "500.00"] in printed
    assert ["Total", "rounded", "once", "USD", "1,500.00"] in printed
    assert ["Nothing", "was", "used", "in", "this", "period."] in printed


@pytest.mark.parametrize("command", [("plans", "show", "globex"), PREVIEW_COMMAND, ("trace", str(USED))])
def test_it_fits_eighty_columns(furnished: Terminal, command: tuple[str, ...]) -> None:
    furnished.environment["COLUMNS"] = "80"
    shown = furnished.ok(*command).splitlines()
    sentences = ("Version", "Volume", "What", "Unrated usage", "Marginal")
    assert max(len(line) for line in shown if not line.startswith(sentences)) <= 80


def test_a_trace_says_which_price_is_an_estimate(furnished: Terminal) -> None:
    lines = [" ".join(each) for each in words(furnished.ok("trace", str(USED)))]
    # The month's 1,301,000 tokens of input are beyond the first tier: 1,300,000 × 0.30 / 1,000,000.
    assert "uncached input 1,300,000 0.30 1,000,000 0.390 globex v1, llama-*, marginal, tier 2" in lines
    assert "cached input 200,000 0.05 1,000,000 0.010 globex v1, llama-*" in lines
    assert "answer output 2,000 1.50 1,000,000 0.003 globex v1, llama-*, marginal" in lines
    assert any(line.startswith("Marginal: tiers and allowances count over a whole period") for line in lines)
    marginal = {
        each["component"]: each["is_marginal"] for each in furnished.json("trace", str(USED))["costs"]
    }
    assert marginal == {"uncached_input": True, "cached_input": False, "answer_output": True}


def test_what_is_hardly_meant_in_a_plan_is_warned_of_and_applied(furnished: Terminal) -> None:
    text = PLAN.replace("plan: globex", "plan: other").replace("allowance: 100000", "allowance: 2000000")
    applied = furnished.run("plans", "apply", "-", text=text)
    assert (applied.exit_code, "Plan other (USD) is new." in applied.stdout) == (0, True)
    assert (
        "warning: from 2026-01-01T00:00:00Z, llama-* input: the allowance of 2,000,000 is larger than the first tier, to "
        "1,000,000; tiers count after the allowance, so that the first ends at 3,000,000 tokens\n"
    ) in applied.stderr


def test_a_stored_plan_is_what_its_file_says_and_stays_so(furnished: Terminal) -> None:
    assert furnished.ok("plans", "apply", "-", text=PLAN).startswith(
        "Plan globex (USD) is as the file says already."
    )
    assert (
        "llama-* answer_output 1.5 per 1,000,000, 1,000 included (counted with all output) → "
        in furnished.fails("plans", "apply", "-", text=PLAN.replace("allowance: 1000}", "allowance: 2000}"))
    )
    version = furnished.json("plans", "show", "globex")["versions"][0]
    assert (version["monthly_fee"], version["minimum"]) == ("500", "1000")
    llama = next(each["prices"] for each in version["rates"] if each["model"] == "llama-*")
    assert llama["cache_write"] == {
        "shape": "graduated",
        "tiers": [
            {"up_to": 1_000_000, "price": "0.5", "per": 1_000_000},
            {"up_to": None, "price": "0.3", "per": 1_000_000},
        ],
        "unit": "tokens",
        "allowance": 100_000,
        "pool": "input",
    }
    assert llama["cached_input"] == {
        "shape": "unit", "price": "0.05", "per": 1_000_000, "unit": "tokens", "allowance": 0, "pool": None,
    }  # fmt: skip
