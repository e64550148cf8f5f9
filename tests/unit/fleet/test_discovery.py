import json
from pathlib import Path
from typing import Any

import pytest

from billing.fleet.backend import EngineKind, check_name
from billing.fleet.discovery import (
    CHAT_ROUTE,
    EMBEDDING_ROUTE,
    EMPTY_EMBEDDING,
    METADATA,
    MODELS,
    MODELS_MAX,
    OLLAMA_VERSION,
    PROPS,
    SILENCE,
    TGI_INFO,
    VERSION,
    Answer,
    Found,
    Question,
    backend_name,
    conclude,
    further,
    place_of,
    public_name,
)

CAPTURES = Path(__file__).parents[2] / "captures"
NOT_THERE = Answer(404, "uvicorn", b'{"detail":"Not Found"}')
WRONG_METHOD = Answer(405, "uvicorn", b'{"detail":"Method Not Allowed"}')


def recorded(engine: str, name: str) -> Answer:
    """An answer as a real engine gave it."""
    head, _, body = (CAPTURES / engine / f"{name}.response.txt").read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers.get("server", ""), body)


def said(document: Any, status: int = 200, server: str = "uvicorn") -> Answer:
    return Answer(status, server, json.dumps(document).encode())


def listing(owner: str, *names: str) -> Answer:
    return said({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]})


def found(listed: Answer, **more: Answer) -> Found:
    """What is concluded when only what was to be asked is answered; what is not given is not there."""
    questions = {
        "props": PROPS, "version": VERSION, "metadata": METADATA, "info": TGI_INFO, "ollama": OLLAMA_VERSION,
        "chat": CHAT_ROUTE, "embedding": EMBEDDING_ROUTE, "empty_embedding": EMPTY_EMBEDDING,
    }  # fmt: skip
    given: dict[Question, Answer] = {questions[name]: answer for name, answer in more.items()}
    assert given.keys() <= set(further(listed))
    concluded = conclude(
        {MODELS: listed, **{asked: given.get(asked, NOT_THERE) for asked in further(listed)}}
    )
    assert concluded is not None
    return concluded


def test_a_recorded_llama_cpp_is_recognised_with_its_model() -> None:
    at = recorded("llamacpp", "GET_v1_models")
    concluded = found(at, props=recorded("llamacpp", "GET_props"), empty_embedding=said({}, 501))
    assert concluded == Found("llama.cpp", EngineKind.LLAMA_CPP, ("tiny",))


def test_a_recorded_vllm_is_recognised_with_its_model() -> None:
    at = recorded("vllm", "GET_v1_models")
    assert found(at, chat=WRONG_METHOD) == Found("vLLM", EngineKind.VLLM, ("tiny",))


def test_llama_cpp_that_serves_embeddings_says_what_is_missing() -> None:
    at = recorded("llamacpp", "GET_v1_models")
    assert found(at, empty_embedding=said({}, 400)).embeds


def test_llama_cpp_with_an_api_key_lists_models_and_hides_the_rest() -> None:
    refused = recorded("llamacpp", "error_no_auth")
    assert refused.status == 401
    concluded = found(recorded("llamacpp", "GET_v1_models"), props=refused, empty_embedding=refused)
    assert (concluded.needs_credential, concluded.models, concluded.embeds) == (True, ("tiny",), False)


def test_llama_cpp_that_still_loads_its_model_is_one_without_models() -> None:
    loading = said({"error": {"message": "Loading model", "code": 503}}, 503, "llama.cpp")
    assert found(loading) == Found("llama.cpp", EngineKind.LLAMA_CPP)


def test_vllm_behind_its_api_key_still_tells_its_version() -> None:
    concluded = found(said({"error": "Unauthorized"}, 401), version=recorded("vllm", "GET_version"))
    assert concluded == Found("vLLM", EngineKind.VLLM, needs_credential=True)


def test_what_refuses_everything_is_of_an_unknown_kind() -> None:
    refused = said({"error": "Unauthorized"}, 401)
    concluded = found(refused, version=refused, props=refused)
    assert (concluded.engine, concluded.needs_credential) == (None, True)


def test_a_vllm_without_a_route_for_chat_is_there_for_embeddings() -> None:
    at = listing("vllm", "BAAI/bge-m3")
    assert found(at, embedding=WRONG_METHOD).embeds
    assert not found(at, chat=WRONG_METHOD, embedding=WRONG_METHOD).embeds


@pytest.mark.parametrize("owner", ["vllm", "system"])
def test_nim_is_a_vllm_that_has_metadata(owner: str) -> None:
    at = listing(owner, "meta/llama-3.1-8b-instruct")
    concluded = found(at, metadata=said({"version": "2.0.0", "modelInfo": []}), chat=WRONG_METHOD)
    assert concluded == Found("NIM", EngineKind.NIM, ("meta/llama-3.1-8b-instruct",))


@pytest.mark.parametrize(
    ("listed", "more", "title"),
    [
        (listing("sglang", "qwen3-8b"), {}, "SGLang"),
        (listing("tensorrt_llm", "llama"), {}, "TensorRT-LLM"),
        (listing("library", "llama3.2:latest"), {"ollama": said({"version": "0.12.6"})}, "Ollama"),
        (NOT_THERE, {"ollama": said({"version": "0.1.20"})}, "Ollama"),
        (listing("HF/zephyr", "HF/zephyr"), {"info": said({"router": "text-generation-router"})}, "TGI"),
        (listing("system", "some-model"), {}, "a model server of an unknown kind"),
    ],
)
def test_engines_that_are_not_metered_are_named_all_the_same(
    listed: Answer, more: dict[str, Answer], title: str
) -> None:
    concluded = found(listed, **more)
    assert (concluded.title, concluded.engine) == (title, None)


@pytest.mark.parametrize(
    "listed",
    [
        NOT_THERE,
        SILENCE,
        Answer(200, "nginx", b"<html>Welcome</html>"),
        said(None),
        said({"data": "nothing"}),
        said({"data": [{"name": "no id"}]}),
        Answer(200, "", b"\xff\xfe"),
        Answer(200, "", b"[" * 100_000),
        Answer(302, "nginx"),
    ],
)
def test_what_lists_no_models_and_is_no_engine_we_know_is_no_model_server(listed: Answer) -> None:
    assert conclude({MODELS: listed}) is None


def test_models_are_taken_once_each_without_what_no_request_could_name() -> None:
    names = ("a", "a", "", "line\nbreak", "x" * 600, "b")
    assert found(listing("vllm", *names), chat=WRONG_METHOD).models == ("a", "b")


def test_no_more_than_a_bounded_number_of_models_is_taken() -> None:
    at = listing("vllm", *(f"lora-{number}" for number in range(MODELS_MAX + 50)))
    assert len(found(at, chat=WRONG_METHOD).models) == MODELS_MAX


@pytest.mark.parametrize(
    ("engine", "url", "name"),
    [
        (EngineKind.LLAMA_CPP, "http://127.0.0.1:8080", "llama-cpp-8080"),
        (EngineKind.VLLM, "http://localhost:8000", "vllm-8000"),
        (EngineKind.VLLM, "http://[::1]:8000", "vllm-8000"),
        (EngineKind.NIM, "https://gpu-7.Example.org", "nim-gpu-7.example.org-443"),
        (EngineKind.VLLM, "http://gpu-7:8000/pool/3/", "vllm-gpu-7-8000-pool-3"),
        (EngineKind.VLLM, "http://[2001:db8::1]:8000", "vllm-2001-db8-1-8000"),
        (EngineKind.VLLM, f"http://{'long.' * 30}org:8000", "vllm-" + "long." * 11 + "lon"),
    ],
)
def test_a_backend_is_named_by_engine_and_port_and_away_from_here_by_host(
    engine: EngineKind, url: str, name: str
) -> None:
    assert check_name(backend_name(engine, url)) == name


def test_two_ways_of_writing_an_address_are_one_place() -> None:
    assert place_of("http://localhost:8000/") == place_of("http://127.0.0.1:8000")
    assert place_of("http://gpu-7") == place_of("http://GPU-7:80")
    assert place_of("http://gpu-7:8000") != place_of("https://gpu-7:8000")


@pytest.mark.parametrize(
    ("model", "public"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("llama3.2:latest", "llama3.2:latest"),
        ("/models/llama-3.1-8b.gguf", "llama-3.1-8b.gguf"),
        ("./tiny", "tiny"),
        ("/models/my model", None),
        ("/", None),
    ],
)
def test_a_model_keeps_its_name_or_gets_the_last_part_of_its_path(model: str, public: str | None) -> None:
    assert public_name(model) == public
