"""What is asked over the network: real llama.cpp, and servers that say what other engines say or misbehave."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from billing.errors import Unavailable
from billing.fleet.backend import EngineKind
from billing.fleet.client import REPLY_BYTES_MAX, look, models_of
from billing.fleet.discovery import Found
from billing.infra.golden.model import GOLDEN, model_path
from billing.infra.golden.runner import LlamaServer

Reply = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SLOW_S = 5.0
POST_ONLY = "405 Method Not Allowed"


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_path(tmp_path_factory.mktemp("models"), GOLDEN)


@pytest.fixture
def llama(golden: Path, tmp_path: Path) -> Iterator[Callable[..., LlamaServer]]:
    with contextlib.ExitStack() as stack:

        def start(**options: bool) -> LlamaServer:
            server = LlamaServer.start(golden, "golden", log_path=tmp_path / "llama.log", **options)
            stack.callback(server.stop)
            return server

        yield start


@contextlib.asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[tuple[str, list[str]]]:
    """A server on loopback that hands each request's head to ``reply``; its address and the lines it was asked with."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())  # type: ignore[arg-type] # a handler runs in a task
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.partition(" HTTP/1.1")[0])
            await reply(head, reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)


def saying(routes: dict[str, object], *, key: str = "") -> Reply:
    """Answers JSON by path, 404 elsewhere, and 401 to whoever does not bring the key."""

    async def reply(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(" ")[1]
        status = "200 OK" if path in routes else "404 Not Found"
        if routes.get(path) == POST_ONLY:
            status = POST_ONLY
        if key and f"authorization: Bearer {key}" not in head:
            status = "401 Unauthorized"
        body = json.dumps(routes.get(path, {})).encode()
        # In two chunks, as servers of Python write.
        parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:]) if part)
        writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + parts)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return reply


def listing(owner: str, *names: str) -> dict[str, object]:
    return {"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]}


async def test_a_real_llama_cpp_is_found_with_its_model_and_generates_nothing(
    llama: Callable[..., LlamaServer],
) -> None:
    server = llama()
    before = server.metrics()
    assert await look(server.url) == Found(EngineKind.LLAMA_CPP, ("golden",))
    assert server.metrics() == before


async def test_a_real_llama_cpp_for_embeddings_is_told_apart(llama: Callable[..., LlamaServer]) -> None:
    found = await look(llama(embeddings=True).url)
    assert found is not None
    assert found.embedding == {"golden"}


async def test_an_engine_is_asked_below_the_path_of_its_address_and_never_for_an_answer() -> None:
    routes = {"/pool/v1/models": listing("vllm", "a", "b"), "/pool/v1/chat/completions": {}}
    async with serving(saying(routes)) as (url, asked):
        assert await look(f"{url}/pool/") == Found(EngineKind.VLLM, ("a", "b"))
    assert asked[0] == "GET /pool/v1/models"
    assert sorted(asked[1:]) == [
        "GET /pool/v1/chat/completions", "GET /pool/v1/embeddings", "GET /pool/v1/metadata",
    ]  # fmt: skip


async def test_ollama_is_found_with_what_each_of_its_models_is_for() -> None:
    routes = {
        "/v1/models": listing("library", "llama3.2:latest", "bge-m3:latest"),
        "/api/version": {"version": "0.12.6"},
    }
    abilities = {"llama3.2:latest": "completion", "bge-m3:latest": "embedding"}

    async def reply(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        more: dict[str, object] = {}
        if head.startswith("POST /api/show "):
            length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
            model = json.loads(await reader.readexactly(length))["model"]
            more = {"/api/show": {"capabilities": [abilities[model]]}}
        await saying({**routes, **more})(head, reader, writer)

    async with serving(reply) as (url, asked):
        assert await look(url) == Found(
            EngineKind.OLLAMA, ("llama3.2:latest", "bge-m3:latest"), embedding=frozenset({"bge-m3:latest"})
        )
    assert asked.count("POST /api/show") == 2
    assert not {line for line in asked if line.startswith("POST")} - {"POST /api/show"}


async def test_triton_is_found_with_the_models_that_take_text() -> None:
    routes = {
        "/v2": {"name": "triton", "version": "2.60.0", "extensions": ["model_repository", "statistics"]},
        "/v2/repository/index": [
            {"name": name, "version": "1", "state": "READY"} for name in ("ensemble", "post processing")
        ],
        "/v2/models/ensemble": {"name": "ensemble", "inputs": [{"name": "text_input", "datatype": "BYTES"}]},
        "/v2/models/post%20processing": {"inputs": [{"name": "TOKENS_BATCH", "datatype": "INT32"}]},
    }
    async with serving(saying(routes)) as (url, asked):
        assert await look(url) == Found(EngineKind.TRITON, ("ensemble",))
    assert not [line for line in asked if "generate" in line or "infer" in line]


METADATA: dict[str, object] = {"modelInfo": [], "assetInfo": [], "licenseInfo": {}}


@pytest.mark.parametrize(
    ("engine", "routes"),
    [
        (EngineKind.SGLANG, {"/v1/models": listing("sglang", "a"), "/get_model_info": {"is_generation": True}}),
        (EngineKind.TENSORRT_LLM, {"/v1/models": listing("tensorrt_llm", "a")}),
        (EngineKind.TGI, {"/v1/models": listing("a", "a"), "/info": {"router": "text-generation-router"}}),
        (EngineKind.NIM_1, {"/v1/models": listing("system", "a"), "/v1/metadata": METADATA | {"version": "1.8.3"}}),
        (EngineKind.NIM, {"/v1/models": listing("vllm", "a"), "/v1/metadata": METADATA | {"version": "2.0.0"}}),
        (EngineKind.TRANSFORMERS, {
            "/v1/models": listing("a", "a"), "/load_model": POST_ONLY, "/reset": POST_ONLY,
            "/v1/chat/completions": POST_ONLY,
        }),
        (EngineKind.GENERIC, {"/v1/models": listing("me", "a"), "/v1/chat/completions": POST_ONLY}),
    ],
)  # fmt: skip
async def test_each_engine_is_found_with_its_kind(engine: EngineKind, routes: dict[str, object]) -> None:
    async with serving(saying(routes)) as (url, asked):
        assert await look(url) == Found(engine, ("a",))
    assert {line.split()[0] for line in asked} == {"GET"}, "nothing is asked that could change anything"


async def test_models_can_be_listed_with_a_credential_where_they_are_not_without() -> None:
    async with serving(saying({"/v1/models": listing("vllm", "a")}, key="secret")) as (url, _):
        found = await look(url)
        assert found is not None
        assert found.needs_credential
        assert await models_of(url, "secret") == ("a",)
        assert await models_of(url, "wrong") == ()


async def test_a_web_server_is_no_model_server() -> None:
    async with serving(saying({"/": {}})) as (url, _):
        assert await look(url) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_there_is_said_at_once(host: str) -> None:
    async with serving(saying({})) as (address, _):
        url = address.replace("127.0.0.1", host)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer: nobody listens there"):
        await look(url)
    assert time.monotonic() - began < 0.4


async def silent(_head: str, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(SLOW_S)


async def babbling(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    await asyncio.sleep(SLOW_S)


async def hanging_up(_head: str, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def dripping(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (silent, "does not answer in time"),
        (babbling, "does not answer in HTTP"),
        (hanging_up, "the connection ended without a reply"),
        (dripping, "does not answer in time"),
    ],
)
async def test_what_misbehaves_costs_no_more_than_its_time(reply: Reply, said: str) -> None:
    async with serving(reply) as (url, _):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=said):
            await look(url, 0.2)
        assert time.monotonic() - began < 1


async def test_an_endless_reply_is_cut_and_is_no_list_of_models() -> None:
    sent = 0

    async def endless(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"[" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(endless) as (url, _):
        assert await look(url, SLOW_S) is None
    assert sent < 40 * REPLY_BYTES_MAX  # of four questions, most of it in the sockets of both sides


async def test_what_one_question_does_not_answer_leaves_the_others_worth_something() -> None:
    known = saying({"/v1/models": listing("vllm", "a"), "/v1/chat/completions": {}})

    async def partly(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (silent if "metadata" in head else known)(head, reader, writer)

    async with serving(partly) as (url, _):
        assert await look(url, 0.3) == Found(EngineKind.VLLM, ("a",))
