"""What ``billing`` prints of usage that is unknown or has no rate, and of text that a terminal would obey."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.metering.event import UsageRecord
from billing.tokens.usage import Outcome, Provenance
from tests.cli_kit import Terminal, words
from tests.invoice_kit import at, record, save, usage, usage_id

UNKNOWN = usage_id("2026-11-02T10:00:00Z", 1)
UNRATED = usage_id("2026-11-02T10:00:00Z", 2)
PARTLY = usage_id("2026-11-02T10:00:00Z", 3)
HOSTILE = "\x1b]0;owned\x07\x9b2J\u202egpj"
ESCAPED = r"\x1b]0;owned\x07\x9b2J\u202egpj"
PLAN = """\
plan: input-only
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates: [{model: golden, input: "0.50"}]
"""


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    made = Terminal(migrated_url, tmp_path)
    tenant = made.json("tenants", "create", "acme")
    key = made.json("keys", "create", "--tenant", "acme", "--tag", "team=")
    owned = {"tenant_id": UUID(tenant["id"]), "key_id": UUID(key["id"])}
    asyncio.run(
        save(made.url, [each(owned) for each in (unknown, unrated, partly)], at("2026-11-03T10:00:01Z"))
    )
    return made


def unknown(owned: dict[str, UUID]) -> UsageRecord:
    made = record(UNKNOWN, usage(None, None), outcome=Outcome.INTERRUPTED, tags={"team": HOSTILE}, **owned)
    opened = msgspec.structs.replace(made.opened, end_user=HOSTILE, idempotency_key=HOSTILE)
    return msgspec.structs.replace(made, opened=opened, response_id=HOSTILE)


def unrated(owned: dict[str, UUID]) -> UsageRecord:
    return record(UNRATED, usage(100, 50, provenance=Provenance.ESTIMATED), model="silver", **owned)


def partly(owned: dict[str, UUID]) -> UsageRecord:
    used = usage(200, 40, provenance=Provenance.RUNNING)
    return record(PARTLY, used, outcome=Outcome.INTERRUPTED, **owned)


def subscribe(terminal: Terminal) -> None:
    terminal.ok("plans", "apply", "-", text=PLAN)
    terminal.ok(
        "subscriptions", "create", "--tenant", "acme", "--plan", "input-only", "--starts-at", "2026-11-01"
    )


PREVIEW = ("invoices", "preview", "--tenant", "acme", "--period", "2026-11")


def test_what_has_no_rate_or_no_count_is_never_worth_nothing(terminal: Terminal) -> None:
    subscribe(terminal)
    rows = words(terminal.ok(*PREVIEW))
    assert ["waived", "interrupted", "unknown", "1", "unknown", "unknown"] in rows
    assert ["waived", "interrupted", "running", "1", "240", "0.10"] in rows
    assert rows[rows.index(["waived", "interrupted", "running", "1", "240", "0.10"]) + 1 :][:2] == [
        ["and", "40"],
        ["tokens", "unrated"],
    ]
    assert ["under", "review", "complete", "estimated", "1", "150", "unrated"] in rows


def test_json_says_null_where_nobody_knows(terminal: Terminal) -> None:
    subscribe(terminal)
    found = terminal.json(*PREVIEW)
    assert (found["tokens"], found["tokens_unrated"], found["subtotal"], found["total"]) == (
        0,
        0,
        "0",
        "0.00",
    )
    assert found["waived"]["requests_unknown"] == 1
    assert found["waived"]["reasons"] == [
        {
            "outcome": "interrupted", "provenance": "none", "requests": 1, "requests_unknown": 1,
            "tokens": None, "tokens_unrated": None, "units": {}, "units_unrated": {}, "amount": None,
        },
        {
            "outcome": "interrupted", "provenance": "running", "requests": 1, "requests_unknown": 0,
            "tokens": 200, "tokens_unrated": 40, "units": {}, "units_unrated": {}, "amount": "0.1",
        },
    ]  # fmt: skip
    assert (found["under_review"]["tokens"], found["under_review"]["tokens_unrated"]) == (0, 150)
    assert found["under_review"]["amount"] is None
    assert terminal.json("trace", str(UNKNOWN))["amount"] is None
    assert terminal.json("trace", str(UNRATED))["amount"] is None
    assert terminal.json("trace", str(PARTLY))["amount"] == "0.1"


def test_without_a_plan_nothing_is_worth_anything_yet(terminal: Terminal) -> None:
    found = terminal.json(*PREVIEW)
    assert (found["currency"], found["subtotal"], found["total"], found["waived"]["amount"]) == (None,) * 4
    assert ["under", "review", "complete", "estimated", "1", "150", "unrated"] in words(terminal.ok(*PREVIEW))


def test_what_was_stored_is_shown_and_not_obeyed_in_a_plain_pipe(terminal: Terminal) -> None:
    environment = {**os.environ, **terminal.environment, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}
    for options in ((), ("--json",)):
        shown = subprocess.run(
            [sys.executable, "-m", "billing.cli.main", "trace", str(UNKNOWN), *options],
            capture_output=True, check=True, timeout=60, env=environment,
        ).stdout.decode("utf-8")  # fmt: skip
        assert shown.replace("\n", "").isprintable()
        assert shown.count("gpj") == 4
        assert options or shown.count(ESCAPED) == 4


def test_a_tag_that_is_given_twice_is_refused(terminal: Terminal) -> None:
    command = ("keys", "create", "--tenant", "acme", "--tag", "team=a", "--tag", "team=b")
    assert terminal.fails(*command) == "error: --tag: team is given twice, as 'a' and as 'b'"


def test_a_far_year_is_a_usage_error_of_one_sentence(terminal: Terminal) -> None:
    for text in ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "2201-01-01"):
        result = terminal.run(
            "subscriptions", "create", "--tenant", "acme", "--plan", "p", "--starts-at", text
        )
        assert (result.exit_code, result.stdout) == (2, "")
        assert "lies outside the years 2000 to 2200 in UTC" in " ".join(result.stderr.split())
    plan = PLAN.replace("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00")
    assert terminal.fails("plans", "apply", "-", text=plan) == (
        "error: versions[0].effective: 0001-01-01T00:00:00+14:00 lies outside the years 2000 to 2200 in UTC; write for "
        "example 2026-01-01T00:00:00Z"
    )
    assert "is not a usage id" in terminal.fails("trace", "ffffffff-ffff-7fff-bfff-ffffffffffff")
