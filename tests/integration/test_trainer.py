"""The example trainer against a real control process: killed and started again, it counts no token twice and loses none."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli_kit import Terminal
from tests.metering_kit import sql

PROGRAM = Path(__file__).parents[2] / "examples/trainer.py"
TOKEN = "adm-for-tests-only-0123456789"
STEPS = 120
TOKENS = 1_000
DEADLINE_S = 60.0
KILLS = 8


class Running:
    """A control process and trainers that report to it; ``refuse`` lets it be away for a time."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "DATABASE_URL": self.url,
            "BILLING_DATA_DIR": str(self.folder / "data"), "BILLING_ADMIN_TOKEN": TOKEN,
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "billing.cli.main", "control", "--port", str(self.port)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while not _answers(f"http://127.0.0.1:{self.port}/readyz"):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE_S)

    def trainer(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable, "-W", "error", str(PROGRAM), "--url", f"http://127.0.0.1:{self.port}", "--tenant", "acme",
                "--job", "17", "--model", "tuned", "--steps", str(STEPS), "--batch-tokens", str(TOKENS), "--step-s", "0.01",
                "--checkpoint", str(self.folder / "checkpoint.json"), *options,
            ],
            env={"BILLING_ADMIN_TOKEN": TOKEN}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def running(migrated_url: str, tmp_path: Path) -> Iterator[Running]:
    Terminal(migrated_url, tmp_path / "data").ok("tenants", "create", "acme")
    made = Running(migrated_url, tmp_path)
    yield made
    made.stop()


def _recorded(url: str) -> tuple[int, int]:
    """Requests and trained tokens in the rollup."""
    [row] = sql(
        url, "SELECT coalesce(sum(requests), 0)::int, coalesce(sum(training), 0)::int FROM usage_rollup"
    )
    return row[0], row[1]


@pytest.mark.slow
def test_killed_again_and_again_it_counts_every_token_once(running: Running) -> None:
    running.start()
    choice = random.Random(17)
    for _ in range(KILLS):
        with running.trainer() as trainer:
            assert trainer.stdout is not None
            # Somewhere in a step that is new to this process, wherever that is.
            for _ in range(choice.randrange(2, 8)):
                trainer.stdout.readline()
            time.sleep(choice.random() * 0.02)
            trainer.kill()
        kept = json.loads((running.folder / "checkpoint.json").read_text())
        requests, tokens = _recorded(running.url)
        assert requests * TOKENS == tokens
        assert kept["step"] - len(kept["pending"]) <= requests <= kept["step"]
    with running.trainer() as trainer:
        said, _ = trainer.communicate(timeout=DEADLINE_S)
    assert trainer.returncode == 0
    assert f"done: {STEPS} steps, {STEPS * TOKENS} tokens" in said
    assert _recorded(running.url) == (STEPS, STEPS * TOKENS)


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for_and_an_answer_that_was_lost_is_a_duplicate(
    running: Running,
) -> None:
    checkpoint = running.folder / "checkpoint.json"
    with running.trainer("--steps", "3") as trainer:
        assert trainer.stdout is not None
        while "3 events wait" not in trainer.stdout.readline():
            assert trainer.poll() is None
        kept = checkpoint.read_text()
        running.start()
        said, _ = trainer.communicate(timeout=DEADLINE_S)
    assert said.splitlines()[-4:-1] == [f"step-{step} accepted" for step in (1, 2, 3)]
    assert json.loads(checkpoint.read_text()) == {"step": 3, "pending": []}

    # As if it had been killed after the answer and before the events were taken out of the file.
    checkpoint.write_text(kept)
    with running.trainer("--steps", "4") as trainer:
        said, _ = trainer.communicate(timeout=DEADLINE_S)
    assert [line.split()[1] for line in said.splitlines()[1:5]] == ["duplicate"] * 3 + ["accepted"]
    assert _recorded(running.url) == (4, 4 * TOKENS)


@pytest.mark.slow
def test_what_the_server_refuses_stops_the_trainer_with_its_reason(running: Running) -> None:
    running.start()
    with running.trainer("--tenant", "nobody") as trainer:
        said, _ = trainer.communicate(timeout=DEADLINE_S)
    assert (trainer.returncode, said.splitlines()[-1]) == (1, "step-1 rejected")
    assert _recorded(running.url) == (0, 0)
