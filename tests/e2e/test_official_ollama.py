"""Ollama's own client gets through the gateway what it gets without it, from a server that speaks as Ollama does.

The server is scripted, because none of Ollama's can run here: its replies are made up in the shapes of ``api/types.go``.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import ollama
import pytest
import pytest_asyncio

from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.system import new_id, now_us
from tests.e2e.clients_kit import PLAN, Ask, Counted, asked_twice, limited_key, records_of
from tests.e2e.rig import Rig, running
from tests.gateway.scripted_engine import Received, ScriptedEngine, Send, Step, chunk, chunked_head, sized

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "qwen3:8b"
WHEN = "2026-11-24T10:00:00.123456789Z"
MESSAGES = [{"role": "user", "content": "How is the weather in Zürich?"}]
BREAKS_OFF, UNFIT = "break off", "be unfit"
REFUSALS = {UNFIT: ("400 Bad Request", f"model '{NAME}' does not support thinking")}
"""Prompts that the server answers with a status and a sentence."""
DONE = {
    "done": True, "done_reason": "stop", "total_duration": 4_883_583_458, "load_duration": 1_334_875,
    "prompt_eval_count": 26, "prompt_eval_duration": 342_546_000, "eval_count": 28, "eval_duration": 4_535_599_000,
}  # fmt: skip
CALL = {"function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2}}}
SAID: list[dict[str, Any]] = [
    {"thinking": "They want"}, {"thinking": " the weather."}, {"content": "I look"}, {"content": " it up: 🌧"},
    {"content": "", "tool_calls": [CALL]},
]  # fmt: skip
WHOLE = {"thinking": "They want the weather.", "content": "I look it up: 🌧", "tool_calls": [CALL]}
EMBEDDED: dict[str, Any] = {
    "embeddings": [[0.25, -0.5, 1e-05], [0.125, 0.75, -1]], "total_duration": 14_143_917, "load_duration": 1_019_500,
    "model": NAME, "prompt_eval_count": 8,
}  # fmt: skip
SHOWN: dict[str, Any] = {
    "license": "MIT", "modelfile": "# Modelfile\nFROM qwen3:8b\n", "parameters": 'stop "<|im_end|>"', "template": "{{ .Prompt }}",
    "details": {"parent_model": "", "format": "gguf", "family": "qwen3", "families": ["qwen3"], "parameter_size": "8.2B",
                "quantization_level": "Q4_K_M"},
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960}, "capabilities": ["completion", "tools"],
    "modified_at": "2026-11-20T09:00:00.5+01:00",
}  # fmt: skip

PLAIN: dict[str, Any] = {
    "/api/show": SHOWN, "/api/embed": EMBEDDED,
    "/api/embeddings": {"embedding": [0.25, -0.5, 1e-05]},
}  # fmt: skip
"""Replies that are not streamed and do not depend on the request."""


def lines_of(path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a chat or a generation answers, a line for each part; the text of a generation stands in no message."""
    parts = [*SAID, {"content": ""}] if asked.get("stream", True) else [WHOLE]
    lines = []
    for part in parts:
        said = {"message": {"role": "assistant"} | part}
        if path == "/api/generate":
            said = {"response": part.get("content", ""), "thinking": part.get("thinking", "")}
        lines.append({"model": asked["model"], "created_at": WHEN} | said | {"done": False})
    lines[-1] |= DONE
    return lines


def answer(received: Received) -> list[Step]:
    """What the server says to a request."""
    asked = json.loads(received.body)
    question = asked.get("prompt") or asked.get("messages", [{}])[-1].get("content")
    if question in REFUSALS:
        status, sentence = REFUSALS[question]
        return whole({"error": sentence}, status)
    if received.path in PLAIN:
        return whole(PLAIN[received.path])
    lines = lines_of(received.path, asked)
    if question == BREAKS_OFF:
        lines[2:] = [{"error": "an error was encountered while running the model: unexpected EOF"}]
    return streamed(lines) if asked.get("stream", True) else whole(lines[0])


def whole(body: dict[str, Any], status: str = "200 OK") -> list[Step]:
    return [Send(sized(json.dumps(body).encode(), status, "Content-Type: application/json; charset=utf-8"))]


def streamed(lines: list[dict[str, Any]]) -> list[Step]:
    """Each line in a chunk of its own, as Ollama sends them; the last one and what ends the body come together."""
    chunks = [chunk(json.dumps(line, ensure_ascii=False).encode() + b"\n") for line in lines]
    chunks[-1] += b"0\r\n\r\n"
    return [Send(chunked_head("Content-Type: application/x-ndjson")), *map(Send, chunks)]


class Sides(NamedTuple):
    """A gateway, and the server behind it by itself."""

    rig: Rig
    server: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sides]:
    async with ScriptedEngine(answer) as engine:
        url = f"http://127.0.0.1:{engine.port}"
        folder = tmp_path_factory.mktemp("ollama") / "data"
        async with running(folder, {}) as rig, rig.database() as database:
            fleet = FleetService(database, now_us, new_id)
            await fleet.add_backend("ollama-1", url, "ollama")
            await fleet.add_model(NAME, [DeploymentRequest(backend="ollama-1")])
            await rig.price(PLAN)
            yield Sides(rig, url)


def through(sides: Sides, label: str, key: str | None = None) -> ollama.AsyncClient:
    """A client of the gateway; what it asks is on record with a label."""
    headers = {"authorization": f"Bearer {key or sides.rig.key}", "idempotency-key": label}
    return ollama.AsyncClient(sides.rig.url, headers=headers, trust_env=False)


def direct(sides: Sides) -> ollama.AsyncClient:
    """A client without the gateway."""
    return ollama.AsyncClient(sides.server, trust_env=False)


def chat(**options: Any) -> Ask:
    asked = {"model": NAME, "messages": MESSAGES} | options
    return lambda client: client.chat(**asked)


def generate(**options: Any) -> Ask:
    asked = {"model": NAME, "prompt": "Why?"} | options
    return lambda client: client.generate(**asked)


async def all_of(answer: Any, seen: list[Any]) -> Any:
    """An answer, or all that is streamed of one; ``seen`` keeps what came before an error."""
    if not hasattr(answer, "__aiter__"):
        return answer
    async for part in answer:
        seen.append(part)  # noqa: PERF401 - a comprehension would keep nothing when the stream raises
    return seen


def read(ask: Ask, seen: list[Any] | None = None) -> Ask:
    """The same question, its answer read to the end."""

    async def to_the_end(client: ollama.AsyncClient) -> Any:
        return await all_of(await ask(client), [] if seen is None else seen)

    return to_the_end


def weather(city: str, days: int) -> str:
    """Tell the weather.

    Args:
        city: where
        days: how far ahead
    """
    return f"{city} {days}"


CHAT = Counted("chat", "ollama", stream=False, outcome="complete", input=26, output=28)
TEXT = CHAT._replace(operation="generate")
READ = CHAT._replace(operation="embeddings", input=8, output=0)
ASKED: dict[str, tuple[Ask, Counted]] = {
    "chat": (chat(), CHAT),
    "chat, streamed": (chat(stream=True, think=True), CHAT._replace(stream=True)),
    "chat with tools": (chat(tools=[weather], options={"num_predict": 99}, keep_alive="5m"), CHAT),
    "chat by a schema": (chat(format={"type": "object"}, stream=True), CHAT._replace(stream=True)),
    "generate": (generate(), TEXT),
    "generate, streamed": (generate(stream=True), TEXT._replace(stream=True)),
    "embed": (lambda client: client.embed(model=NAME, input=["a", "b"]), READ),
    "embeddings": (lambda client: client.embeddings(model=NAME, prompt="a"), READ._replace(input=None)),
    "show": (lambda client: client.show(NAME), CHAT._replace(operation="show", input=0, output=0)),
}


@pytest.mark.parametrize("label", ASKED)
async def test_the_client_gets_the_same_and_it_is_counted(sides: Sides, label: str) -> None:
    ask, expected = ASKED[label]
    alone, got = await asked_twice(direct(sides), through(sides, label), read(ask))
    assert got == alone
    (record,) = await records_of(sides.rig, label)
    assert record._replace(reasoning=None) == expected
    # Ollama counts no reasoning apart: its share of the answer's tokens is estimated.
    share = (record.reasoning or 0) / (record.output or 1)
    assert 0 < share < 1 if record.operation in {"chat", "generate"} else record.reasoning is None


async def test_the_answer_is_all_that_the_server_said(sides: Sides) -> None:
    async with through(sides, "said") as client:
        whole_answer, parts = await chat()(client), await read(chat(stream=True))(client)
    assert (
        whole_answer.message.content
        == "".join(part.message.content or "" for part in parts)
        == WHOLE["content"]
    )
    assert whole_answer.message.tool_calls[0].function.arguments == {"city": "Zürich", "days": 2}
    assert [part.eval_count for part in parts] == [None] * len(SAID) + [28]


async def test_the_client_lists_what_the_gateway_has_of_ollamas_dialect(sides: Sides) -> None:
    async with through(sides, "list") as client:
        listed_models, running_models = await client.list(), await client.ps()
    assert [model.model for model in listed_models.models] == [NAME]
    assert [model.name for model in running_models.models] == [NAME]


BROKEN = {
    "chat": chat(messages=[{"role": "user", "content": BREAKS_OFF}], stream=True),
    "generate": generate(prompt=BREAKS_OFF, stream=True),
}


GUESSED = {"chat": 24, "generate": 13}
"""Input that is guessed from the request's size, where the engine failed before it told any; for review, and waived."""


@pytest.mark.parametrize("operation", BROKEN)
async def test_an_error_in_the_middle_of_a_stream_is_raised_as_without_the_gateway(
    sides: Sides, operation: str
) -> None:
    label, seen = f"broken {operation}", []
    for client in (direct(sides), through(sides, label)):
        parts: list[Any] = []
        async with client:
            with pytest.raises(ollama.ResponseError) as raised:
                await read(BROKEN[operation], parts)(client)
        seen.append((parts, raised.value.error, raised.value.status_code))
    assert seen[0] == seen[1]
    assert len(seen[1][0]) == 2
    expected = CHAT._replace(
        operation=operation, stream=True, outcome="upstream_error", input=GUESSED[operation], output=2
    )
    assert await records_of(sides.rig, label) == [expected]


async def test_an_engines_own_refusal_is_raised_as_without_the_gateway_and_costs_nothing(
    sides: Sides,
) -> None:
    raised = []
    for client in (direct(sides), through(sides, "unfit")):
        async with client:
            with pytest.raises(ollama.ResponseError) as refusal:
                await generate(prompt=UNFIT)(client)
        raised.append((refusal.value.error, refusal.value.status_code))
    assert raised == [(REFUSALS[UNFIT][1], 400)] * 2
    assert await records_of(sides.rig, "unfit") == [
        TEXT._replace(outcome="upstream_error", input=0, output=0)
    ]


async def test_the_client_raises_the_gateways_errors_with_their_sentences(sides: Sides) -> None:
    raised = {}
    async with through(sides, "refused", "sk-wrong") as stranger, through(sides, "refused") as client:
        for name, asker, ask in (
            ("stranger", stranger, chat()),
            ("no model", client, chat(model="nobody's")),
            ("streamed", client, chat(model="nobody's", stream=True)),
        ):
            with pytest.raises(ollama.ResponseError) as refusal:
                await read(ask)(asker)
            raised[name] = (refusal.value.status_code, refusal.value.error)
    assert [status for status, _ in raised.values()] == [401, 404, 404]
    assert raised["streamed"][1] == raised["no model"][1]
    assert "nobody's" in raised["no model"][1]
    assert not [sentence for _, sentence in raised.values() if sentence.startswith("{")]


async def test_a_limit_is_an_error_of_the_client_that_says_when_to_come_back(sides: Sides) -> None:
    async with through(sides, "limited", await limited_key(sides.rig, "ollama")) as client:
        await chat()(client)
        with pytest.raises(ollama.ResponseError) as refused:
            await chat()(client)
    assert refused.value.status_code == 429
    assert "60 requests a minute" in refused.value.error
