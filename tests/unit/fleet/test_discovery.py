import json
from pathlib import Path
from typing import Any

import pytest

from billing.fleet.backend import EngineKind
from billing.fleet.discovery import (
    CHAT_ROUTE,
    EMBEDDING_ROUTE,
    EMPTY_EMBEDDING,
    LOAD_ROUTE,
    METADATA,
    MODELS,
    MODELS_ASKED_MAX,
    MODELS_MAX,
    OLLAMA_VERSION,
    PROPS,
    RESET_ROUTE,
    ROUNDS_MAX,
    SGLANG_INFO,
    SILENCE,
    TGI_INFO,
    TRITON,
    TRITON_INDEX,
    VERSION,
    Answer,
    Found,
    Question,
    conclude,
    further,
)

CAPTURES = Path(__file__).parents[2] / "captures"
URL = "http://127.0.0.1:8000"
NOT_THERE = Answer(404, "uvicorn", b'{"detail":"Not Found"}')
WRONG_METHOD = Answer(405, "uvicorn", b'{"detail":"Method Not Allowed"}')
Said = dict[Question, Answer]


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


def asked(listed: Answer, answers: Said | None = None, url: str = URL) -> Said:
    """What a server was asked, round by round, and answered; what it was not given to answer is not there."""
    known: Said = {MODELS: listed}
    rounds = 0
    while questions := further(url, known):
        rounds += 1
        assert not set(questions) & set(known), "no question is asked twice"
        known |= {question: (answers or {}).get(question, NOT_THERE) for question in questions}
    assert rounds <= ROUNDS_MAX
    return known


def found(listed: Answer, answers: Said | None = None, url: str = URL) -> Found:
    known = asked(listed, answers, url)
    assert (answers or {}).keys() <= known.keys(), "what the server could have said was asked for"
    concluded = conclude(url, known)
    assert concluded is not None
    return concluded


def test_a_recorded_llama_cpp_is_recognised_with_its_model() -> None:
    at = recorded("llamacpp", "GET_v1_models")
    more = {PROPS: recorded("llamacpp", "GET_props"), EMPTY_EMBEDDING: said({}, 501)}
    assert found(at, more) == Found(EngineKind.LLAMA_CPP, ("tiny",))


def test_a_recorded_vllm_is_recognised_with_its_model() -> None:
    at = recorded("vllm", "GET_v1_models")
    assert found(at, {CHAT_ROUTE: WRONG_METHOD}) == Found(EngineKind.VLLM, ("tiny",))


def test_llama_cpp_that_serves_embeddings_says_what_is_missing() -> None:
    at = recorded("llamacpp", "GET_v1_models")
    assert found(at, {EMPTY_EMBEDDING: said({}, 400)}).embedding == {"tiny"}


def test_llama_cpp_with_an_api_key_lists_models_and_hides_the_rest() -> None:
    refused = recorded("llamacpp", "error_no_auth")
    assert refused.status == 401
    at = recorded("llamacpp", "GET_v1_models")
    concluded = found(at, {PROPS: refused, EMPTY_EMBEDDING: refused})
    assert concluded == Found(EngineKind.LLAMA_CPP, ("tiny",), needs_credential=True)


def test_llama_cpp_that_still_loads_its_model_is_one_without_models() -> None:
    loading = said({"error": {"message": "Loading model", "code": 503}}, 503, "llama.cpp")
    assert found(loading) == Found(EngineKind.LLAMA_CPP)


def test_vllm_behind_its_api_key_still_tells_its_version() -> None:
    concluded = found(said({"error": "Unauthorized"}, 401), {VERSION: recorded("vllm", "GET_version")})
    assert concluded == Found(EngineKind.VLLM, needs_credential=True)


@pytest.mark.parametrize(
    ("shown", "engine"),
    [
        ({METADATA: said({"version": "1.8.3", "modelInfo": []})}, EngineKind.NIM_1),
        ({METADATA: said({"version": "2.0.0", "modelInfo": []}), VERSION: said({"version": "1"})}, EngineKind.NIM),
        ({TGI_INFO: said({"router": "text-generation-router"})}, EngineKind.TGI),
    ],
)  # fmt: skip
def test_what_refuses_to_list_its_models_may_still_show_what_it_is(shown: Said, engine: EngineKind) -> None:
    assert found(said({}, 401), shown) == Found(engine, needs_credential=True)


def test_what_refuses_everything_is_of_an_unknown_kind() -> None:
    refused = said({"error": "Unauthorized"}, 401)
    concluded = found(refused, {VERSION: refused, PROPS: refused})
    assert concluded == Found(None, needs_credential=True)
    assert concluded.title == "something"


@pytest.mark.parametrize("owner", ["vllm", "tensorrt_llm", "mudler"])
def test_a_server_without_a_route_for_chat_is_there_for_embeddings(owner: str) -> None:
    at = listing(owner, "BAAI/bge-m3")
    assert found(at, {EMBEDDING_ROUTE: WRONG_METHOD}).embedding == {"BAAI/bge-m3"}
    assert not found(at, {CHAT_ROUTE: WRONG_METHOD, EMBEDDING_ROUTE: WRONG_METHOD}).embedding


def test_a_server_that_lists_models_to_anybody_and_answers_only_holders_of_a_key_says_so() -> None:
    at = listing("HF/zephyr", "HF/zephyr")
    more = {TGI_INFO: said({"router": "text-generation-router"}), CHAT_ROUTE: said({}, 401)}
    assert found(at, more) == Found(EngineKind.TGI, ("HF/zephyr",), needs_credential=True)


@pytest.mark.parametrize(
    ("owner", "version", "engine"),
    [
        ("system", "1.8.3", EngineKind.NIM_1),
        ("vllm", "1.15.0", EngineKind.NIM_1),
        ("vllm", "2.0.0", EngineKind.NIM),
        ("system", "2.3.1", EngineKind.NIM),
    ],
)
def test_nim_says_its_version_with_its_metadata(owner: str, version: str, engine: EngineKind) -> None:
    at = listing(owner, "meta/llama-3.1-8b-instruct")
    metadata = said({"version": version, "modelInfo": [], "assetInfo": [], "licenseInfo": {}})
    assert found(at, {METADATA: metadata, CHAT_ROUTE: WRONG_METHOD}) == Found(
        engine, ("meta/llama-3.1-8b-instruct",)
    )


def test_an_embedding_nim_is_there_for_embeddings() -> None:
    at = listing("organization-owner", "nvidia/nv-embedqa-e5-v5")
    concluded = found(
        at, {METADATA: said({"version": "1.3.0", "modelInfo": []}), EMBEDDING_ROUTE: WRONG_METHOD}
    )
    assert concluded == Found(
        EngineKind.NIM_1, ("nvidia/nv-embedqa-e5-v5",), embedding=frozenset({"nvidia/nv-embedqa-e5-v5"})
    )


@pytest.mark.parametrize(
    ("listed", "more", "engine"),
    [
        (listing("sglang", "qwen3-8b"), {SGLANG_INFO: said({"is_generation": True})}, EngineKind.SGLANG),
        (listing("tensorrt_llm", "llama"), {CHAT_ROUTE: WRONG_METHOD}, EngineKind.TENSORRT_LLM),
        (listing("library", "llama3.2:latest"), {OLLAMA_VERSION: said({"version": "0.12.6"})}, EngineKind.OLLAMA),
        (NOT_THERE, {OLLAMA_VERSION: said({"version": "0.1.20"})}, EngineKind.OLLAMA),
        (listing("HF/zephyr", "HF/zephyr"), {TGI_INFO: said({"router": "text-generation-router"})}, EngineKind.TGI),
        (listing("Qwen", "Qwen/Qwen3-8B"), dict.fromkeys((LOAD_ROUTE, RESET_ROUTE, CHAT_ROUTE), WRONG_METHOD),
         EngineKind.TRANSFORMERS),
        (listing("Qwen", "Qwen/Qwen3-8B"), dict.fromkeys((LOAD_ROUTE, CHAT_ROUTE), WRONG_METHOD), EngineKind.GENERIC),
        (listing("system", "some-model"), {METADATA: said({"version": "3"})}, EngineKind.GENERIC),
        (said({"data": []}), {}, EngineKind.GENERIC),
    ],
)  # fmt: skip
def test_each_engine_is_recognised_by_what_only_it_says(
    listed: Answer, more: Said, engine: EngineKind
) -> None:
    concluded = found(listed, more)
    assert (concluded.engine, concluded.embedding) == (engine, frozenset())
    assert concluded.title == engine.facts.title


def test_sglang_says_whether_its_model_generates() -> None:
    at = listing("sglang", "gte-qwen2")
    assert found(at, {SGLANG_INFO: said({"is_generation": False})}).embedding == {"gte-qwen2"}


def shown(model: str) -> Question:
    return Question("POST", "/api/show", json.dumps({"model": model}, separators=(",", ":")).encode())


def test_ollama_says_of_each_model_what_it_can() -> None:
    at = listing("library", "llama3.2:latest", "nomic-embed-text:latest", "old:latest")
    more = {
        OLLAMA_VERSION: said({"version": "0.12.6"}),
        shown("llama3.2:latest"): said({"capabilities": ["completion", "tools"]}),
        shown("nomic-embed-text:latest"): said({"capabilities": ["embedding"]}),
        shown("old:latest"): said({"template": ""}),
    }
    assert found(at, more).embedding == {"nomic-embed-text:latest"}


def test_no_more_than_a_bounded_number_of_models_is_asked_about() -> None:
    at = listing("library", *(f"model-{number}" for number in range(MODELS_ASKED_MAX + 5)))
    known = asked(at, {OLLAMA_VERSION: said({"version": "0.12.6"})})
    assert sum(question.path == "/api/show" for question in known) == MODELS_ASKED_MAX


def triton_model(name: str, text: str) -> tuple[Question, Answer]:
    inputs = [{"name": text, "datatype": "BYTES", "shape": [-1]}]
    return Question("GET", f"/v2/models/{name}"), said({"name": name, "inputs": inputs})


def test_triton_s_models_are_those_that_take_text() -> None:
    index = [
        {"name": name, "version": "1", "state": "READY"} for name in ("ensemble", "tensorrt_llm", "a b/..")
    ]
    more = {
        TRITON: said({"name": "ours", "version": "2.60.0", "extensions": ["classification", "model_repository"]}),
        TRITON_INDEX: said(index),
        **dict([triton_model("ensemble", "text_input"), triton_model("tensorrt_llm", "input_ids")]),
        Question("GET", "/v2/models/a%20b%2F.."): NOT_THERE,
    }  # fmt: skip
    assert found(said({"error": "Bad Request"}, 400), more) == Found(EngineKind.TRITON, ("ensemble",))


@pytest.mark.parametrize("index", [NOT_THERE, said({}), said([{"model": 1}]), Answer(200, "", b"\xff")])
def test_a_triton_that_does_not_list_its_repository_is_one_without_models(index: Answer) -> None:
    more = {TRITON: said({"extensions": ["model_repository"]}), TRITON_INDEX: index}
    assert found(NOT_THERE, more) == Found(EngineKind.TRITON)


def test_a_name_of_dots_is_no_step_in_a_path() -> None:
    more = {TRITON: said({"extensions": ["model_repository"]}), TRITON_INDEX: said([{"name": ".."}])}
    assert Question("GET", "/v2/models/%2E%2E") in asked(NOT_THERE, more)


@pytest.mark.parametrize("url", ["https://api.openai.com", "https://eu.API.openai.com/"])
@pytest.mark.parametrize("answer", [said({"error": {}}, 401), said({}, 503), Answer(200, "", b"<html>")])
def test_openai_itself_is_known_by_its_address_and_asked_nothing_more(url: str, answer: Answer) -> None:
    assert asked(answer, url=url) == {MODELS: answer}
    concluded = conclude(url, {MODELS: answer})
    assert concluded is not None
    assert concluded.engine is EngineKind.OPENAI
    assert concluded.needs_credential is (answer.status != 200)


def test_another_host_is_not_openai_whatever_its_models_are_called() -> None:
    assert found(listing("openai", "gpt-4o"), url="https://api.openai.com.example.org").engine is (
        EngineKind.GENERIC
    )
    assert found(listing("openai", "gpt-4o"), url="https://notapi.openai.com").engine is EngineKind.GENERIC


def test_models_listed_to_a_holder_of_a_credential_are_taken() -> None:
    concluded = conclude("https://api.openai.com", {MODELS: listing("openai", "gpt-4o")})
    assert concluded == Found(EngineKind.OPENAI, ("gpt-4o",))


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
    assert conclude(URL, {MODELS: listed}) is None
    assert conclude(URL, asked(listed)) is None


def test_models_are_taken_once_each_without_what_no_request_could_name() -> None:
    names = ("a", "a", "", "line\nbreak", "x" * 600, "b")
    assert found(listing("vllm", *names), {CHAT_ROUTE: WRONG_METHOD}).models == ("a", "b")


def test_no_more_than_a_bounded_number_of_models_is_taken() -> None:
    at = listing("vllm", *(f"lora-{number}" for number in range(MODELS_MAX + 50)))
    assert len(found(at, {CHAT_ROUTE: WRONG_METHOD}).models) == MODELS_MAX
