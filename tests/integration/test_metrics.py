"""Metrics of several processes, answered as one: what is added up, what outlives a process and what does not."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing.access import token
from billing.app.metrics_server import serve_metrics
from billing.errors import Misconfigured
from billing.infra import telemetry
from billing.infra.telemetry import Flusher, Run, keep_flushing, named
from billing.settings import Settings

ROOT = Path(__file__).parents[2]
WORKER = "tests.integration.metrics_worker"
TOKEN = "adm-for-tests-only-0123456789"


def samples(data: bytes) -> dict[str, float]:
    """``name{label="value"}`` to what it is."""
    return {
        sample.name
        + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(data.decode())
        for sample in family.samples
    }


class Workers:
    """Processes that count into a run's folder, as a supervisor would start them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = Run.begin(root)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, requests: int, age_s: float = 0.0) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(requests), str(age_s)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), **self.run.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"counted\n"
        return process

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        self.run.forget(process.pid)

    def samples(self) -> dict[str, float]:
        return samples(telemetry.exposition(self.root))


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "run" / "metrics")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    made.run.end()


def test_counters_of_all_processes_add_up_and_gauges_are_the_worst_of_the_living(workers: Workers) -> None:
    workers.start(3, age_s=0.5)
    workers.start(4, age_s=2.5)
    found = workers.samples()
    assert found["billing_requests_total{outcome=complete}"] == 7
    assert found["billing_refusals_total{kind=limit_reached}"] == 4
    assert found["billing_unrecorded_total{kind=spool_full}"] == 2
    assert found["billing_tokens_total{component=uncached_input}"] == 7 * 500
    assert found["billing_tokens_total{component=answer_output}"] == 7 * 33
    assert found["billing_tokens_total{component=reasoning}"] == 7 * 20
    assert found["billing_up{process=gateway}"] == 2
    assert found["billing_directory_age_seconds"] == 2.5
    assert found["billing_request_duration_seconds_count"] == 7
    assert found["billing_request_duration_seconds_sum"] == pytest.approx(7 * 1.234567)
    assert found["billing_request_duration_seconds_bucket{le=1.0}"] == 0
    assert found["billing_request_duration_seconds_bucket{le=2.5}"] == 7
    assert found["billing_time_to_first_token_seconds_bucket{backend=b}{le=0.1}{model=golden}"] == 7
    assert not [name for name in found if "upstream" in name]


def test_a_killed_worker_takes_its_gauges_along_and_leaves_its_counts(workers: Workers) -> None:
    first = workers.start(3, age_s=9.0)
    workers.start(4, age_s=1.0)
    workers.kill(first)
    found = workers.samples()
    assert found["billing_requests_total{outcome=complete}"] == 7
    assert found["billing_up{process=gateway}"] == 1
    assert found["billing_directory_age_seconds"] == 1.0
    workers.start(5)
    assert workers.samples()["billing_requests_total{outcome=complete}"] == 12


def test_no_sample_names_a_tenant_or_a_key(workers: Workers) -> None:
    workers.start(1)
    text = telemetry.exposition(workers.root).decode()
    labels = {
        name for family in text_string_to_metric_families(text) for s in family.samples for name in s.labels
    }
    assert labels <= {
        "outcome",
        "kind",
        "component",
        "process",
        "le",
        "decision",
        "scope",
        "meter",
        "result",
        "model",
        "backend",
        "unit",
    }


def test_two_parents_on_one_host_are_shown_together_and_an_ended_run_no_more(workers: Workers) -> None:
    workers.start(3)
    other = Workers(workers.root)
    process = other.start(4)
    assert workers.samples()["billing_requests_total{outcome=complete}"] == 7
    process.kill()
    process.communicate()
    other.run.end()
    assert workers.samples()["billing_requests_total{outcome=complete}"] == 3
    assert [path.name for path in workers.root.iterdir()] == [workers.run.folder.name]


def test_what_a_killed_parent_left_is_neither_shown_nor_kept(tmp_path: Path) -> None:
    ended = Workers(tmp_path)
    process = ended.start(3)
    process.kill()
    process.communicate()
    ended.run._lock.release()  # as the kernel does when a parent is killed
    assert samples(telemetry.exposition(tmp_path)) == {}
    assert list(ended.run.folder.glob("*.db"))
    fresh = Run.begin(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh.folder]
    fresh.end()
    fresh.end()
    assert list(tmp_path.iterdir()) == []


def test_without_any_run_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert telemetry.exposition(tmp_path / "missing") == b""


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="metrics cannot be kept in"):
        Run.begin(tmp_path / "file" / "metrics")


def test_a_flusher_carries_differences_only(workers: Workers) -> None:
    carried: list[tuple[str, float]] = []

    class Child:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def inc(self, amount: float) -> None:
            carried.append((self.kind, amount))

    class Parent:
        def labels(self, kind: str) -> Child:
            return Child(kind)

    counts: Counter[str] = Counter()
    flush = Flusher(lambda: counts, Parent(), named("refused_"))  # type: ignore[arg-type]  # as much of a counter as is used
    flush()
    counts["refused_conflict"] += 3
    counts["complete"] += 9
    flush()
    flush()
    counts["refused_conflict"] += 1
    flush()
    assert carried == [("conflict", 3), ("conflict", 1)]


async def test_what_is_counted_last_is_flushed_at_the_end() -> None:
    flushed: list[int] = []
    task = asyncio.create_task(keep_flushing([lambda: flushed.append(len(flushed))], interval_s=0.01))
    await asyncio.sleep(0.05)
    before = len(flushed)
    assert before >= 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(flushed) == before + 1


@pytest.fixture
def served(workers: Workers, tmp_path: Path) -> Iterator[str]:
    settings = Settings(data_dir=tmp_path, admin_token_hash=token.hash_of(TOKEN))
    with serve_metrics(settings, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


def ask(url: str, authorization: str | None = None) -> httpx.Response:
    return httpx.get(url, headers={"authorization": authorization} if authorization else {}, timeout=5)


def test_a_gateways_parent_answers_for_its_workers_to_whoever_has_the_token(
    workers: Workers, served: str
) -> None:
    workers.start(3)
    answer = ask(f"{served}/metrics", f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert samples(answer.content)["billing_requests_total{outcome=complete}"] == 3
    assert [
        ask(f"{served}/metrics", sent).status_code for sent in (None, "Bearer wrong", f"Basic {TOKEN}")
    ] == [401] * 3
    assert ask(f"{served}/other", f"Bearer {TOKEN}").status_code == 404


def test_a_taken_port_is_said_and_no_token_opens_nothing(served: str, tmp_path: Path) -> None:
    port = int(served.rpartition(":")[2])
    with pytest.raises(Misconfigured, match="choose another --metrics-port"), serve_metrics(Settings(data_dir=tmp_path), "127.0.0.1", port):  # fmt: skip
        pass
    with serve_metrics(Settings(data_dir=tmp_path), "127.0.0.1", 0) as other:
        assert ask(f"http://127.0.0.1:{other}/metrics", f"Bearer {TOKEN}").status_code == 503


def test_what_one_counter_counted_is_added_up_over_processes(workers: Workers) -> None:
    for requests in (3, 4):
        workers.start(requests)
    assert telemetry.sums(workers.root, "billing_requests_total", ("outcome",)) == {("complete",): 7}
    assert telemetry.sums(workers.root, "billing_nothing_total", ("outcome",)) == {}
    assert telemetry.sums(workers.root / "missing", "billing_requests_total", ("outcome",)) == {}
