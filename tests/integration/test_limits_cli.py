"""``billing limits`` on a real database: what an operator types, and what is printed."""

from pathlib import Path

import pytest

from billing.clock import to_datetime
from billing.infra.system import now_us
from tests.cli_kit import Terminal, words


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    terminal = Terminal(migrated_url, tmp_path)
    terminal.ok("tenants", "create", "acme")
    terminal.ok("projects", "create", "web", "--tenant", "acme")
    terminal.ok("backends", "add", "local", "--url", "http://127.0.0.1:8080", "--engine", "vllm")
    terminal.ok("models", "add", "golden", "--backend", "local=weights")
    return terminal


def test_limits_are_set_listed_and_removed(terminal: Terminal) -> None:
    key = terminal.json("keys", "create", "--tenant", "acme")
    said = terminal.ok("limits", "set", "--tenant", "acme", "--requests", "50")
    assert said == "50 requests a minute of tenant acme: refuses, and is closed while Valkey is away.\n"
    made = terminal.json(
        "limits", "set", "--tenant", "acme", "--key", key["prefix"], "--model", "golden", "--tokens",
        "100000", "--burst", "5000", "--shadow", "--on-failure", "open",
    )  # fmt: skip
    assert made | {"id": "", "created_at": ""} == {
        "id": "", "tenant": "acme", "scope": "key", "project": None, "key": key["prefix"], "model": "golden",
        "meter": "tokens", "amount": 100_000, "window_s": 60, "burst": 5_000, "strict": False, "boost": None, "boost_until": None,
        "enforce": "shadow", "on_failure": "open",
        "created_at": "",
    }  # fmt: skip
    terminal.ok("limits", "set", "--tenant", "acme", "--project", "web", "--concurrency", "8")
    strict = ("--output-tokens", "1000", "--per", "hour", "--strict", "--per-end-user")
    said = terminal.ok("limits", "set", "--tenant", "acme", *strict)
    assert said.startswith(
        "1,000 output tokens an hour of each end user of tenant acme: refuses, and is closed"
    )
    listed = [" ".join(line[:-1]) for line in words(terminal.ok("limits", "list", "--tenant", "acme"))]
    assert listed[1] == "50 requests a minute acme tenant all closed"
    assert f"acme key {key['prefix']}… golden shadow" in listed[2]
    assert "8 requests at once acme project web all closed" in listed
    assert listed[-2:] == ["1,000 output tokens an hour acme tenant all closed", "strict each end"]
    gone = terminal.ok("limits", "remove", made["id"], "--tenant", "acme")
    assert gone == f"100,000 tokens a minute of key {key['prefix']}… on model golden: no longer in force.\n"
    assert [each["amount"] for each in terminal.json("limits", "list")] == [50, 8, 1_000]


def test_what_cannot_be_set_is_said_in_one_line(terminal: Terminal) -> None:
    assert "give one of --requests" in terminal.fails("limits", "set", "--tenant", "acme")
    both = ("--requests", "5", "--concurrency", "5")
    assert "a limit has one kind" in terminal.fails("limits", "set", "--tenant", "acme", *both)
    assert "no tenant 'nobody'" in terminal.fails("limits", "set", "--tenant", "nobody", "--concurrency", "5")
    assert "1 to 1,000,000,000,000" in terminal.fails(
        "limits", "set", "--tenant", "acme", "--concurrency", "0"
    )
    open_ = ("--tokens", "5", "--strict", "--on-failure", "open")
    assert "a strict limit is closed" in terminal.fails("limits", "set", "--tenant", "acme", *open_)


def test_no_limits_say_what_to_do(terminal: Terminal) -> None:
    assert "billing limits set --tenant acme --requests 50" in terminal.ok(
        "limits", "list", "--tenant", "acme"
    )


def test_a_boost_is_set_shown_and_ended(terminal: Terminal) -> None:
    made = terminal.json("limits", "set", "--tenant", "acme", "--tokens", "1000")
    which = ("limits", "boost", made["id"], "--tenant", "acme")
    until = to_datetime(now_us() + 3_600_000_000).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = terminal.ok(*which, "--amount", "5000", "--until", until)
    assert said == f"1,000 tokens a minute of tenant acme: 5,000 until {until}.\n"
    assert terminal.json("limits", "list")[0]["boost_until"] == until
    assert "5,000 until" in " ".join(terminal.ok("limits", "list").split())
    assert terminal.ok(*which, "--end").endswith("no boost.\n")
    assert "give --amount and --until, or --end" in terminal.fails(*which, "--amount", "5000")
    assert "a boost of 1,000 tokens a minute is 1,001" in terminal.fails(
        *which, "--amount", "9", "--until", until
    )
