"""The deterministic models and the real engine that serves them: the yardstick of every metering test, measured itself."""

import hashlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from billing.errors import Misconfigured, Unavailable
from billing.infra.golden.model import GOLDEN, SLOW, ModelSpec, build_model, model_path, tokenizer_path
from billing.infra.golden.runner import PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED, LlamaServer
from billing.tokens.prometheus import parse_counters

HELLO = [{"role": "user", "content": "Hello there"}]
INPUT_TOKENS = {
    "one short message": (HELLO, 17),
    "a system message and a question": (
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What does a token cost?"}],
        32,
    ),
    "a conversation with earlier reasoning, digits, accents and an emoji": (
        [
            {"role": "user", "content": "Charge 1,234.56 € for the café 🚀\n\n  please"},
            {"role": "assistant", "reasoning_content": " r1 r2", "content": " a1 a2 a3"},
            {"role": "user", "content": "Why is my invoice higher?"},
        ],
        78,
    ),
}
REASONING = "".join(f" r{number}" for number in range(1, 21))
ANSWER = "".join(f" a{number}" for number in range(1, 31))
VOCABULARY_SHA256 = "853080399461e412cb3d1668b3b699dc9cc3cb35d888e48e2c2535f652b76770"
UNREPORTED_TOKENS_MAX = 2
"""Tokens that the engine may generate behind the last event that it sends to a departing client; 0 or 1 was measured."""
PREDICTED = re.compile(rb'"predicted_n":(\d+)')
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def golden(models: Path) -> Iterator[LlamaServer]:
    server = LlamaServer.start(model_path(models, GOLDEN), "golden", slots=1, log_path=models / "golden.log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def slow(models: Path) -> Iterator[LlamaServer]:
    server = LlamaServer.start(model_path(models, SLOW), "slow", slots=1, log_path=models / "slow.log")
    yield server
    server.stop()


def send(
    server: LlamaServer, path: str, body: dict[str, Any]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def post(server: LlamaServer, path: str, **body: Any) -> dict[str, Any]:
    connection, reply = send(server, path, body)
    answer: dict[str, Any] = json.loads(reply.read())
    connection.close()
    assert reply.status == 200, answer
    return answer


def chat(server: LlamaServer, **body: Any) -> dict[str, Any]:
    return post(server, "/v1/chat/completions", **{"messages": HELLO, **body})


def streamed(server: LlamaServer, path: str = "/v1/chat/completions", **body: Any) -> list[dict[str, Any]]:
    connection, reply = send(server, path, {"stream": True, "timings_per_token": True, **body})
    lines = [line for line in reply if line.startswith(b"data: ")]
    connection.close()
    assert lines.pop() == b"data: [DONE]\n"
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def streamed_chat(server: LlamaServer, **body: Any) -> list[dict[str, Any]]:
    return streamed(server, messages=HELLO, stream_options={"include_usage": True}, **body)


def next_count(reply: http.client.HTTPResponse) -> int:
    """The running count of the next event."""
    while not (line := reply.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    count: int = json.loads(line.removeprefix(b"data: "))["timings"]["predicted_n"]
    return count


def running_counts(events: list[dict[str, Any]], key: str) -> list[int]:
    deltas = [event for event in events if event["choices"] and event["choices"][0]["delta"].get(key)]
    return [event["timings"]["predicted_n"] for event in deltas]


def counted(server: LlamaServer) -> dict[str, int]:
    """The engine's counters once it has nothing more to count."""
    deadline = time.monotonic() + DEADLINE_S
    before: dict[str, int] = {}
    while time.monotonic() < deadline:
        counters = parse_counters(server.metrics())
        now = {name: int(counters[name]) for name in (PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED)}
        if now == before:
            return now
        before = now
        time.sleep(0.1)
    raise AssertionError("the engine did not come to rest")


def has_ended(process: int) -> bool:
    """Whether the process of a descriptor ends in time; closes the descriptor."""
    ended, _, _ = select.select([process], [], [], DEADLINE_S)
    os.close(process)
    return bool(ended)


class TestBuilding:
    def test_equal_specs_give_equal_bytes(self, tmp_path: Path) -> None:
        for name in ("one.gguf", "two.gguf"):
            build_model(tmp_path / name, GOLDEN)
        assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()

    def test_a_model_is_built_once_and_then_reused(self, tmp_path: Path) -> None:
        first = model_path(tmp_path, GOLDEN)
        born = first.stat()
        assert model_path(tmp_path, GOLDEN).stat() == born
        assert sorted(tmp_path.iterdir()) == [first, tokenizer_path(first)]

    def test_another_spec_is_another_file(self, tmp_path: Path) -> None:
        shorter = ModelSpec(name="golden", layers=2, width=128, answer_tokens=29)
        assert model_path(tmp_path, shorter) != model_path(tmp_path, GOLDEN)

    @pytest.mark.parametrize("spec", [GOLDEN, SLOW])
    def test_building_takes_less_than_two_seconds(self, tmp_path: Path, spec: ModelSpec) -> None:
        started = time.perf_counter()
        model_path(tmp_path, spec)
        assert time.perf_counter() - started < 2

    def test_the_vocabulary_is_the_same_everywhere(self, models: Path) -> None:
        vocabulary = Tokenizer.from_file(str(tokenizer_path(model_path(models, GOLDEN)))).get_vocab()
        tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
        assert len(tokens) == 1024 + 2 + 20 + 30
        assert hashlib.sha256("\n".join(tokens).encode()).hexdigest() == VOCABULARY_SHA256

    @pytest.mark.parametrize("width", [64, 100])
    def test_a_width_that_cannot_hold_the_answer_is_refused(self, tmp_path: Path, width: int) -> None:
        with pytest.raises(Misconfigured, match=f"width {width}"):
            build_model(tmp_path / "narrow.gguf", ModelSpec(name="narrow", layers=1, width=width))


class TestCounting:
    @pytest.mark.parametrize("temperature", [0, 0.8, 2])
    def test_a_whole_answer_is_53_tokens_at_any_temperature(
        self, golden: LlamaServer, temperature: float
    ) -> None:
        reply = chat(golden, temperature=temperature)
        assert reply["choices"][0]["message"] == {
            "role": "assistant",
            "content": ANSWER,
            "reasoning_content": REASONING,
        }
        assert reply["choices"][0]["finish_reason"] == "stop"
        assert (
            reply["usage"]["completion_tokens"]
            == reply["timings"]["predicted_n"]
            == GOLDEN.completion_tokens
            == 53
        )

    @pytest.mark.parametrize("temperature", [0, 2])
    def test_a_streamed_answer_is_53_tokens_too(self, golden: LlamaServer, temperature: float) -> None:
        last = streamed_chat(golden, temperature=temperature)[-1]
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == last["timings"]["predicted_n"] == 53

    def test_without_thinking_the_answer_is_direct(self, golden: LlamaServer) -> None:
        reply = chat(golden, chat_template_kwargs={"enable_thinking": False})
        assert reply["choices"][0]["message"] == {"role": "assistant", "content": ANSWER}
        assert reply["usage"]["completion_tokens"] == GOLDEN.direct_completion_tokens == 31

    @pytest.mark.parametrize("case", INPUT_TOKENS)
    def test_five_ways_of_counting_the_input_agree(
        self, golden: LlamaServer, models: Path, case: str
    ) -> None:
        messages, expected = INPUT_TOKENS[case]
        text = post(golden, "/apply-template", messages=messages)["prompt"]
        tokens = post(golden, "/tokenize", content=text)["tokens"]
        tokenizer = Tokenizer.from_file(str(tokenizer_path(model_path(models, GOLDEN))))
        before = counted(golden)
        reply = chat(golden, messages=messages)
        after = counted(golden)
        assert tokenizer.encode(text).ids == tokens
        assert len(tokens) == expected
        assert reply["usage"]["prompt_tokens"] == expected
        assert reply["timings"]["cache_n"] + reply["timings"]["prompt_n"] == expected
        assert sum(after[name] - before[name] for name in (PROMPT_TOKENS, PROMPT_TOKENS_CACHED)) == expected

    def test_one_slot_reads_all_but_the_last_token_of_a_repeated_prompt_from_its_cache(
        self, golden: LlamaServer
    ) -> None:
        chat(golden)
        usage = chat(golden)["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1

    def test_embeddings_count_their_input(self, models: Path) -> None:
        model = model_path(models, GOLDEN)
        server = LlamaServer.start(
            model, "embedder", embeddings=True, slots=1, log_path=models / "embeddings.log"
        )
        try:
            one = post(server, "/v1/embeddings", input="Hello there")
            two = post(server, "/v1/embeddings", input=["Hello there", "What does a token cost?"])
        finally:
            server.stop()
        assert one["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
        assert two["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
        first, second = (item["embedding"] for item in two["data"])
        assert first == pytest.approx(one["data"][0]["embedding"])
        assert first != pytest.approx(second)


class TestRunningCounts:
    """What an engine tells in the middle of a stream, which is what a broken-off answer is billed by."""

    def test_every_delta_carries_the_count_so_far(self, golden: LlamaServer) -> None:
        events = streamed_chat(golden)
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
        assert events[0]["timings"]["predicted_n"] == 1
        assert running_counts(events, "reasoning_content") == list(range(2, 22))
        assert running_counts(events, "content") == list(range(23, 53))

    def test_the_finishing_event_leaves_its_count_to_the_usage_event(self, golden: LlamaServer) -> None:
        finish, usage = streamed_chat(golden)[-2:]
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert "timings" not in finish
        assert usage["timings"]["predicted_n"] == 53

    def test_reasoning_is_the_difference_of_two_counts(self, golden: LlamaServer) -> None:
        events = streamed_chat(golden)
        assert running_counts(events, "reasoning_content")[-1] - events[0]["timings"]["predicted_n"] == 20

    def test_plain_completions_report_usage_unasked(self, golden: LlamaServer) -> None:
        events = streamed(golden, "/v1/completions", prompt="Hello there")
        assert [event["timings"]["predicted_n"] for event in events] == [*range(1, 54), 53]
        assert events[-1]["usage"]["completion_tokens"] == 53
        assert events[-1]["usage"]["prompt_tokens"] == 5

    @pytest.mark.slow
    def test_the_slow_model_thinks_for_100_tokens_and_writes_350(self, slow: LlamaServer) -> None:
        events = streamed_chat(slow)
        assert running_counts(events, "reasoning_content") == list(range(2, 102))
        assert events[-1]["usage"]["completion_tokens"] == SLOW.completion_tokens == 350

    @pytest.mark.parametrize("read_tokens", [5, 40, 120])
    def test_half_closing_ends_a_stream_and_leaves_few_tokens_unreported(
        self, slow: LlamaServer, read_tokens: int
    ) -> None:
        before = counted(slow)[TOKENS_PREDICTED]
        body = {"messages": HELLO, "stream": True, "timings_per_token": True}
        connection, reply = send(slow, "/v1/chat/completions", body)
        counts = [next_count(reply)]
        while counts[-1] < read_tokens:
            counts.append(next_count(reply))
        connection.sock.shutdown(socket.SHUT_WR)
        # What was under way still arrives; then the engine closes without a finish, a usage or a last chunk.
        remaining = reply.fp.read()
        reply.close()
        connection.close()
        assert b'finish_reason":"' not in remaining
        assert b"usage" not in remaining
        last = [int(number) for number in PREDICTED.findall(remaining)][-1:] or counts[-1:]
        assert 0 <= counted(slow)[TOKENS_PREDICTED] - before - last[0] <= UNREPORTED_TOKENS_MAX

    def test_the_engine_closes_after_a_stream_although_it_promised_to_keep_alive(
        self, golden: LlamaServer
    ) -> None:
        connection, reply = send(golden, "/v1/chat/completions", {"messages": HELLO, "stream": True})
        assert reply.getheader("Connection") is None
        assert reply.getheader("Keep-Alive") is not None
        reply.read()
        assert connection.sock.recv(1) == b""
        connection.close()


class TestRunning:
    def test_stopping_ends_the_process_at_once(self, models: Path) -> None:
        server = LlamaServer.start(model_path(models, GOLDEN), "brief", log_path=models / "brief.log")
        assert repr(server) == f"<LlamaServer brief {server.url} pid={server.pid} running>"
        started = time.perf_counter()
        server.stop()
        assert time.perf_counter() - started < 1
        assert not server.is_running
        assert repr(server).endswith(f"ended {-signal.SIGTERM}>")

    def test_a_server_that_cannot_start_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="ended before it was ready") as refused:
            LlamaServer.start(tmp_path / "absent.gguf", "absent", log_path=tmp_path / "log")
        assert f"cannot serve {tmp_path / 'absent.gguf'}" in str(refused.value)

    def test_a_server_dies_with_the_process_that_started_it(self, models: Path) -> None:
        program = (
            "import sys, time, pathlib; from billing.infra.golden.runner import LlamaServer\n"
            "server = LlamaServer.start(pathlib.Path(sys.argv[1]), 'orphan', log_path=pathlib.Path(sys.argv[2]))\n"
            "print(server.pid, flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", program, str(model_path(models, GOLDEN)), str(models / "orphan.log")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            orphan = os.pidfd_open(int(parent.stdout.readline()))
            parent.kill()
        assert has_ended(orphan)

    def test_a_server_started_by_hand_tells_its_address_and_dies_with_its_parent(self, models: Path) -> None:
        arguments = ["--model", str(model_path(models, GOLDEN)), "--alias", "by hand"]
        program = (
            "import subprocess, sys\n"
            "server = subprocess.Popen([sys.executable, '-m', 'billing.infra.golden.server', *sys.argv[1:]])\n"
            "print(server.pid, flush=True); server.wait()"
        )
        with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            orphan = os.pidfd_open(int(parent.stdout.readline()))
            assert parent.stdout.readline().startswith(b"listening http://127.0.0.1:")
            parent.kill()
        assert has_ended(orphan)
