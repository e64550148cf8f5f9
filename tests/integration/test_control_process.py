"""`billing control` as a process: started, asked, killed, started again, stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli_kit import Terminal

DEADLINE_S = 20.0


class Control:
    """The command in a process of its own, on a port that it picks."""

    def __init__(self, url: str, data_dir: Path, log: Path) -> None:
        self.data_dir = data_dir
        self.log = log
        environment = {
            "PATH": os.environ["PATH"], "DATABASE_URL": url, "BILLING_DATA_DIR": str(data_dir), "HOME": str(data_dir),
        }  # fmt: skip
        self.port = free_port()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "billing.cli.main", "control", "--port", str(self.port)],
                env=environment,
                stdout=file,
                stderr=file,
            )

    def get(self, path: str, text: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {text}"} if text else {}
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=5)
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def child(self) -> int:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(found[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    return Terminal(migrated_url, tmp_path / "data")


@pytest.fixture
def control(terminal: Terminal, tmp_path: Path) -> Iterator[Any]:
    started: list[Control] = []

    def start() -> Control:
        started.append(Control(terminal.url, tmp_path / "data", tmp_path / "log"))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.slow
def test_it_serves_with_the_token_that_the_command_line_made_and_survives_its_childs_death(
    terminal: Terminal, control: Any
) -> None:
    text = terminal.ok("admin-token", "--new").strip()
    running = control()
    assert running.get("/readyz").json()["status"] == "ready"
    assert running.get("/api/v1/tenants", text).json() == {"data": [], "next": None}
    assert running.get("/api/v1/tenants", "adm-wrong").status_code == 401
    assert 'billing_up{process="control"} 1.0' in running.get("/metrics", text).text

    signed_in = httpx.post(
        f"http://127.0.0.1:{running.port}/login", data={"token": text}, headers={"x-forwarded-proto": "https"}
    )
    assert (signed_in.status_code, "Secure" in signed_in.headers["set-cookie"]) == (303, True)
    wrong = httpx.delete(f"http://127.0.0.1:{running.port}/api/v1/tenants")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, OPTIONS, POST")

    first = running.child()
    os.kill(first, signal.SIGKILL)
    assert running.get("/api/v1/tenants", text).status_code == 200
    assert running.child() != first
    assert 'billing_up{process="control"} 1.0' in running.get("/metrics", text).text

    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(DEADLINE_S) == 0
    assert list((running.data_dir / "run" / "metrics").iterdir()) == []
    assert text not in running.log.read_text()


@pytest.mark.slow
def test_without_a_token_it_says_what_to_do_and_opens_nothing(control: Any) -> None:
    running = control()
    assert running.get("/healthz").json() == {"status": "ok"}
    assert running.get("/api/v1/tenants", "anything").status_code == 503
    assert "billing admin-token --new" in running.log.read_text()
