"""`billing up` beside real model servers, and what it does with each kind of server that it finds."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from billing.app.up import Intake, Looked, Served, first_request, look_around
from billing.fleet.backend import EngineKind
from billing.fleet.discovery import Found
from billing.fleet.service import FleetService
from billing.infra.child import start_child
from billing.infra.golden.model import GOLDEN, model_path
from billing.infra.golden.runner import LlamaServer
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us
from billing.settings import ControlSettings, GatewaySettings, Settings
from tests.e2e.rig import free_port

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
URL = "http://127.0.0.1:8080"
LLAMA = Found(EngineKind.LLAMA_CPP, ("golden",))


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[LlamaServer]:
    server = LlamaServer.start(model_path(tmp_path, GOLDEN), "golden", log_path=tmp_path / "llama.log")
    yield server
    server.stop()


@pytest.fixture
async def fleet(migrated_url: str) -> AsyncIterator[FleetService]:
    database = Database(migrated_url, role="control", pool_size=2)
    yield FleetService(database, now_us, new_id)
    await database.close()


@contextlib.contextmanager
def up(data_dir: Path, log: Path, options: Sequence[str]) -> Iterator[str]:
    """`billing up` until the block ends; what it has printed when it was ready."""
    arguments = [
        "--data-dir",
        str(data_dir),
        "up",
        "--port",
        str(free_port()),
        "--control-port",
        "0",
        "--workers",
        "1",
        *options,
    ]
    process = start_child(
        [sys.executable, "-m", "billing.cli.main", *arguments],
        log_path=log,
        death_signal=signal.SIGTERM,
        environment={"PATH": "/usr/bin:/bin"},
    )
    try:
        yield _ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)


def _ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while "Ctrl-C" not in (said := log.read_text() if log.exists() else ""):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return said


def typed(said: str, key: str) -> str:
    """What answers the request that was printed, typed into a shell as it stands."""
    [request] = re.findall(r"^  (curl (?:.*\\\n)*.*)$", said, re.MULTILINE)
    script = f"export KEY={key}\n{request} --silent --show-error"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30
    ).stdout


def test_the_first_start_finds_the_server_and_prints_a_request_that_works(
    llama: LlamaServer, tmp_path: Path
) -> None:
    data_dir, options = tmp_path / "data", ["--backend", llama.url, "--backend", "http://127.0.0.1:9"]
    with up(data_dir, tmp_path / "first.log", options) as said:
        assert (
            f"found llama.cpp on {llama.url}: 1 model (golden); added as backend llama-cpp-{llama.port}"
            in said
        )
        assert "error: --backend: http://127.0.0.1:9 does not answer: nobody listens there" in said
        [key] = re.findall(r"sk-\w+", said)
        assert " a1 a2 a3" in typed(said, key)
    with up(data_dir, tmp_path / "second.log", options) as said:
        assert f"1 model (golden); it is backend llama-cpp-{llama.port}" in said
        assert "sk-" not in said
        assert " a1 a2 a3" in typed(said, key)


async def test_looking_at_ports_where_nobody_is_takes_no_time() -> None:
    began = time.monotonic()
    looked = await look_around(Settings())
    assert time.monotonic() - began < 1
    assert [each.url for each in looked] == [
        f"http://127.0.0.1:{port}" for port in (8000, 8080, 11434, 30000)
    ]


async def test_our_own_ports_are_never_looked_at() -> None:
    settings = Settings(gateway=GatewaySettings(port=8000), control=ControlSettings(port=30000))
    assert [each.url for each in await look_around(settings)] == [URL, "http://127.0.0.1:11434"]
    named = ["http://localhost:8000", "http://127.0.0.1:30000"]
    assert await look_around(settings, named) == [
        Looked(url, fault=f"{url} is this gateway itself") for url in named
    ]


async def test_a_server_and_its_models_are_added_once(fleet: FleetService) -> None:
    first, second = Intake(fleet), Intake(fleet)
    assert await first.take(URL, LLAMA) == [
        f"found llama.cpp on {URL}: 1 model (golden); added as backend llama-cpp-8080"
    ]
    assert await second.take("http://localhost:8080/", LLAMA) == [
        "found llama.cpp on http://localhost:8080/: 1 model (golden); it is backend llama-cpp-8080"
    ]
    [model] = await fleet.list_models(10)
    assert [(place.backend, place.backend_model) for place in model.placements] == [
        ("llama-cpp-8080", "golden")
    ]


async def test_a_model_that_came_later_is_added_to_the_backend_that_is_there(fleet: FleetService) -> None:
    vllm = Found(EngineKind.VLLM, ("base",))
    await Intake(fleet).take(URL, vllm)
    [line] = await Intake(fleet).take(URL, Found(EngineKind.VLLM, ("base", "lora")))
    assert line.endswith("2 models (base, lora); it is backend vllm-8080, new: lora")


async def test_a_model_of_somebody_else_s_name_is_left_alone(fleet: FleetService) -> None:
    await Intake(fleet).take(URL, LLAMA)
    other = Found(EngineKind.VLLM, ("golden", "more"))
    _, note = await Intake(fleet).take("http://127.0.0.1:8000", other)
    assert note == (
        "  golden is answered elsewhere already; here too: billing models deploy golden --backend vllm-8000"
    )
    assert [model.model.name for model in await fleet.list_models(10)] == ["golden", "more"]


async def test_a_model_known_by_a_path_is_sold_under_its_last_part(fleet: FleetService) -> None:
    found = Found(EngineKind.VLLM, ("/models/llama-3.1-8b", "/models/my model"))
    _, note = await Intake(fleet).take(URL, found)
    [model] = await fleet.list_models(10)
    assert (model.model.name, model.placements[0].backend_model) == ("llama-3.1-8b", "/models/llama-3.1-8b")
    assert "'/models/my model' cannot be a public name: billing models add NAME" in note


async def test_a_server_that_wants_a_credential_is_not_added_but_how_is_said(fleet: FleetService) -> None:
    found = Found(EngineKind.VLLM, needs_credential=True)
    said = await Intake(fleet).take(URL, found)
    assert said[-1] == (f"  billing backends add vllm-8080 --url {URL} --engine vllm --credential-file FILE")
    assert await fleet.list_backends(10) == []


async def test_once_it_has_its_credential_only_its_models_are_asked_for(fleet: FleetService) -> None:
    await fleet.add_backend("mine", URL, "vllm", credential="secret")
    said = await Intake(fleet).take(URL, Found(EngineKind.VLLM, needs_credential=True))
    assert said[1:] == ["  add its models by name: billing models add MODEL --backend mine"]
    assert (await fleet.list_backends(10))[0].has_credential


async def test_a_backend_that_lacks_the_credential_it_needs_is_pointed_at(fleet: FleetService) -> None:
    await fleet.add_backend("mine", URL, "llama.cpp")
    said = await Intake(fleet).take(URL, Found(EngineKind.LLAMA_CPP, ("golden",), needs_credential=True))
    assert said[1:] == ["  ATTENTION: it wants a credential, which backend mine has not"]


async def test_a_server_of_another_kind_than_its_backend_s_is_pointed_at(fleet: FleetService) -> None:
    await fleet.add_backend("mine", URL, "vllm")
    line, how = await Intake(fleet).take(URL, LLAMA)
    assert line.endswith("ATTENTION: backend mine counts tokens there as vllm does")
    assert how == "  billing backends change mine --engine llama.cpp"
    assert await fleet.list_models(10) == []


async def test_what_was_archived_stays_so(fleet: FleetService) -> None:
    await Intake(fleet).take(URL, LLAMA)
    await fleet.archive_model("golden")
    intake = Intake(fleet)
    said = await intake.take("http://127.0.0.1:8001", LLAMA)
    assert said[1:] == ["  model golden is archived and stays so"]
    assert await intake.best() is None
    await fleet.archive_backend("llama-cpp-8080")
    [line] = await Intake(fleet).take(URL, LLAMA)
    assert line.endswith("backend llama-cpp-8080 is archived and stays so")


async def test_what_shows_no_kind_of_its_own_is_what_the_operator_says_it_is(fleet: FleetService) -> None:
    await fleet.add_backend("mine", URL, "vllm")
    [line] = await Intake(fleet).take(URL, Found(EngineKind.GENERIC, ("qwen",)))
    assert line.endswith("1 model (qwen); it is backend mine, new: qwen")


async def test_every_engine_is_added_with_its_kind(fleet: FleetService) -> None:
    intake = Intake(fleet)
    for port, kind in enumerate(EngineKind, 8000):
        [line] = await intake.take(f"http://127.0.0.1:{port}", Found(kind, (f"model-{port}",)))
        assert line.startswith(f"found {kind.facts.title} on http://127.0.0.1:{port}: 1 model")
    assert {backend.engine for backend in await fleet.list_backends(100)} == set(EngineKind)


async def test_a_server_with_models_of_both_sorts_says_which_are_for_embeddings(fleet: FleetService) -> None:
    url = "http://127.0.0.1:11434"
    found = Found(EngineKind.OLLAMA, ("bge-m3", "llama3.2", "qwen3"), embedding=frozenset({"bge-m3"}))
    intake = Intake(fleet)
    [line] = await intake.take(url, found)
    assert line.startswith(f"found Ollama on {url}: 3 models (bge-m3, llama3.2, qwen3), ")
    assert line.endswith("of which for embeddings: bge-m3; added as backend ollama-11434")
    assert await intake.best() == Served("llama3.2")


async def test_a_server_that_lists_no_models_gets_them_by_name(fleet: FleetService) -> None:
    said = await Intake(fleet).take(URL, Found(EngineKind.TRITON))
    assert said == [
        f"found Triton on {URL}: 0 models; added as backend triton-8080",
        "  it lists no models; add them by name: billing models add MODEL --backend triton-8080",
    ]


async def test_a_backend_that_lets_nobody_in_is_still_known_by_its_address(fleet: FleetService) -> None:
    await fleet.add_backend("mine", URL, "openai", credential="secret")
    intake = Intake(fleet)
    assert await intake.take(URL, Found(None, needs_credential=True)) == [
        f"found something on {URL}: 0 models; it is backend mine",
        "  add its models by name: billing models add MODEL --backend mine",
    ]
    assert intake.has_found


async def test_whatever_refuses_everybody_may_be_no_model_server_at_all(fleet: FleetService) -> None:
    intake = Intake(fleet)
    said = await intake.take(URL, Found(None, needs_credential=True))
    assert said[0].startswith(f"something on {URL} wants a credential; if it is a model server,")
    assert not intake.has_found


async def test_the_first_request_is_rather_a_chat(fleet: FleetService) -> None:
    intake = Intake(fleet)
    assert await intake.best() is None
    await intake.take("http://127.0.0.1:8002", Found(EngineKind.TRITON, ("ensemble",)))
    assert await intake.best() == Served("ensemble", chats=False)
    embedder = Found(EngineKind.VLLM, ("bge-m3",), embedding=frozenset({"bge-m3"}))
    await Intake(fleet).take("http://127.0.0.1:8001", embedder)
    await intake.take("http://127.0.0.1:8001", embedder)
    await intake.take(URL, LLAMA)
    assert await intake.best() == Served("golden")
    later = Intake(fleet)
    await later.take("http://127.0.0.1:8001", embedder)
    assert await later.best() == Served("bge-m3", embeds=True)


@pytest.mark.parametrize(
    ("served", "path", "asked"),
    [
        (Served("golden"), "/v1/chat/completions", {"model": "golden", "messages": [{"role": "user", "content": "Hello"}]}),
        (Served("bge-m3", embeds=True), "/v1/embeddings", {"model": "bge-m3", "input": "Hello"}),
        (Served("ensemble", chats=False), "/v2/models/ensemble/generate", {"text_input": "Hello", "max_tokens": 20}),
    ],
)  # fmt: skip
def test_each_sort_of_model_is_asked_as_it_can_be(
    served: Served, path: str, asked: dict[str, object]
) -> None:
    where, body = first_request(served)
    assert (where, json.loads(body)) == (path, asked)
