"""`billing events send`, typed."""

import json
from pathlib import Path
from typing import Any

import pytest

from billing.admin.moment import written
from billing.infra.system import now_us
from tests import events_kit
from tests.cli_kit import Terminal, words
from tests.metering_kit import sql

NOW = written(now_us())
SEND = ("events", "send")


def event(number: int = 1, **said: Any) -> Any:
    return events_kit.event(number, time=NOW, **said)


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    made = Terminal(migrated_url, tmp_path)
    made.ok("tenants", "create", "acme")
    return made


def test_a_file_is_recorded_once_with_a_verdict_on_each_event(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text(json.dumps([event(1), event(2)]))
    result = terminal.run(*SEND, str(file))
    assert (result.exit_code, result.stderr) == (0, "2 events: 2 accepted.\n")
    assert [row[0] for row in words(result.stdout)] == ["Verdict", "accepted", "accepted"]
    again = terminal.run(*SEND, str(file))
    assert (again.exit_code, again.stderr) == (0, "2 events: 2 duplicate.\n")
    trace = terminal.ok("trace", terminal.json(*SEND, str(file))[0]["usage_id"])
    assert "4,096" in trace


def test_what_is_wrong_is_said_and_ends_with_1(terminal: Terminal) -> None:
    sent = json.dumps([event(1), event(1, training=7), event(3, outptu=5)])
    result = terminal.run(*SEND, "-", "--json", text=sent)
    assert result.exit_code == 1
    assert [(each["verdict"], each["param"]) for each in json.loads(result.stdout)] == [
        ("accepted", None), ("conflict", None), ("rejected", "[2].data.outptu"),
    ]  # fmt: skip
    shown = " ".join(terminal.run(*SEND, "-", text=sent).stdout.split())
    assert "conflict" in shown
    [row] = sql(terminal.url, "SELECT DISTINCT actor FROM audit_entry WHERE subject = 'usage_quarantine'")
    assert row["actor"].startswith("cli:")


def test_a_single_event_has_paths_without_a_place(terminal: Terminal) -> None:
    result = terminal.run(*SEND, "-", "--json", text=json.dumps(event(input=3)))
    assert json.loads(result.stdout)[0]["param"] == "data.output"


def test_a_large_file_is_sent_in_batches(terminal: Terminal) -> None:
    sent = [event(number, training=1) for number in range(2_001)]
    sent[2_000]["time"] = "now"
    result = terminal.run(*SEND, "-", "--limit", "1", text="\ufeff" + json.dumps(sent))
    assert (result.exit_code, "2,001 events: 2,000 accepted, 1 rejected." in result.stderr) == (1, True)
    found = json.loads(terminal.run(*SEND, "-", "--json", text=json.dumps(sent)).stdout)
    assert [found[0]["verdict"], found[2_000]["param"]] == ["duplicate", "[2000].time"]


def test_what_is_no_event_is_an_error_of_one_line(terminal: Terminal) -> None:
    assert terminal.fails(*SEND, "-", text="{").startswith("error: the body cannot be read as JSON")
    assert terminal.fails(*SEND, "-", text="[" * 100_000) == "error: the body is nested too deep"
    assert terminal.run(*SEND, "-", text="[]").stdout == "The file holds no events.\n"
