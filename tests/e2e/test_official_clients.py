"""OpenAI's own client gets through the gateway what it gets without it, from real llama.cpp.

Anthropic's and Ollama's are in files of their own beside this one.
"""

import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import openai
import pydantic
import pytest
import pytest_asyncio

from tests.e2e.clients_kit import (
    CITY,
    MESSAGES,
    WAITED_S_MIN,
    Ask,
    Counted,
    Sides,
    asked_twice,
    both_sides,
    events_in,
    gathered,
    limited_key,
    listed,
    plain,
    records_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
CALLED: Any = {
    "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": 1, "max_tokens": 1_000,
}  # fmt: skip
USAGE: Any = {"stream_options": {"include_usage": True}}


class Verdict(pydantic.BaseModel):
    """What a structured answer must be."""

    verdict: Literal["yes", "no"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sides]:
    async with both_sides(tmp_path_factory.mktemp("openai")) as made:
        yield made


def direct(sides: Sides, label: str) -> openai.AsyncOpenAI:
    """A client without the gateway."""
    url = sides.embedder if label.startswith("embeddings") else sides.golden
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def through(sides: Sides, label: str, **options: Any) -> openai.AsyncOpenAI:
    """A client of the gateway; what it asks is on record with a label."""
    usual: Any = {"base_url": f"{sides.rig.url}/v1", "api_key": sides.rig.key, "max_retries": 0}
    return openai.AsyncOpenAI(**(usual | options), default_headers={"idempotency-key": label})


async def both(sides: Sides, label: str, ask: Ask) -> tuple[Any, Any]:
    return await asked_twice(direct(sides, label), through(sides, label), ask)


def chat(**options: Any) -> Ask:
    asked = {"model": "golden", "messages": MESSAGES} | options
    if options.get("stream"):
        return lambda client: listed(client.chat.completions.create(**asked))
    return lambda client: client.chat.completions.create(**asked)


def helped(**options: Any) -> Ask:
    """By the client's own helper, which gathers a stream into a whole answer and reads what is in it."""
    asked = {"model": "golden", "messages": MESSAGES} | USAGE | options
    return lambda client: gathered(client.chat.completions.stream(**asked), "get_final_completion")


def parsed(**options: Any) -> Ask:
    asked = {"model": "golden", "messages": MESSAGES, "response_format": Verdict} | options
    return lambda client: client.chat.completions.parse(**asked)


def completion(**options: Any) -> Ask:
    asked = {"model": "golden", "prompt": "Counting", "max_tokens": 60} | options
    if options.get("stream"):
        return lambda client: listed(client.completions.create(**asked, **USAGE))
    return lambda client: client.completions.create(**asked)


def response(**options: Any) -> Ask:
    return lambda client: client.responses.create(model="golden", input="Counting", **options)


def embeddings(**options: Any) -> Ask:
    asked = {"model": "embedder", "input": ["How many?", "A second text."]} | options
    return lambda client: client.embeddings.create(**asked)


CHAT = Counted("chat", "openai", stream=False, outcome="complete", input=41, output=53, reasoning=20)
STREAM = CHAT._replace(stream=True)
TOLD = CHAT._replace(input=None, output=None)
TEXT = Counted("completions", "openai", stream=False, outcome="complete", input=3, output=53)
EMBEDDED = Counted("embeddings", "openai", stream=False, outcome="complete", input=None, output=0)
ASKED: dict[str, tuple[Ask, Counted]] = {
    "chat": (chat(), CHAT),
    "chat, streamed": (chat(stream=True), STREAM),
    "chat, streamed with usage": (chat(stream=True, **USAGE), STREAM),
    "chat, cut off": (chat(max_tokens=10), CHAT._replace(output=10, reasoning=9)),
    "two choices, streamed": (chat(n=2, stream=True), STREAM._replace(output=106, reasoning=40)),
    "log probabilities": (chat(logprobs=True, top_logprobs=2, max_tokens=9), CHAT._replace(output=9, reasoning=8)),
    "log probabilities, streamed": (chat(logprobs=True, stream=True), STREAM),
    "tools": (chat(**CALLED), TOLD),
    "tools, streamed": (helped(**CALLED), TOLD._replace(stream=True)),
    "structured": (parsed(temperature=0), TOLD),
    "structured, streamed": (helped(response_format=Verdict, temperature=0), TOLD._replace(stream=True)),
    "completion": (completion(), TEXT),
    "completion, streamed": (completion(stream=True), TEXT._replace(stream=True)),
    "completion of tokens": (completion(prompt=[9, 10, 11, 12], max_tokens=5), TEXT._replace(input=4, output=5)),
    "completions, streamed": (
        completion(prompt=["a", "b c"], max_tokens=7, stream=True), TEXT._replace(stream=True, output=14)
    ),
    "response": (response(), TOLD._replace(operation="responses")),
    "embeddings": (embeddings(), EMBEDDED),
    "embeddings of floats": (embeddings(encoding_format="float"), EMBEDDED),
}  # fmt: skip


@pytest.mark.parametrize("label", ASKED)
async def test_the_client_gets_the_same_and_it_is_counted(sides: Sides, label: str) -> None:
    ask, expected = ASKED[label]
    alone, got = await both(sides, label, ask)
    assert plain(got) == plain(alone)
    assert await records_of(sides.rig, label) == [told(expected, alone)]


def told(expected: Counted, answer: Any) -> Counted:
    """The expected record; what it leaves open is what the engine's own answer says."""
    usage = getattr(answer[-1] if isinstance(answer, list) else answer, "usage", None)
    if expected.input is None:
        told_input = getattr(usage, "prompt_tokens", None) or getattr(usage, "input_tokens", None)
        expected = expected._replace(input=told_input)
    if expected.output is None:
        told_output = getattr(usage, "completion_tokens", None) or getattr(usage, "output_tokens", None)
        expected = expected._replace(output=told_output)
    return expected


async def test_what_tools_and_schemas_ask_for_is_in_the_answer(sides: Sides) -> None:
    """That both sides are equal says little where the engine did not do it."""
    async with through(sides, "asked for") as client:
        called = (await chat(**CALLED)(client)).choices[0]
        streamed = (await helped(**CALLED)(client))[-1].choices[0]
        structured = (await parsed(temperature=0)(client)).choices[0]
    assert called.finish_reason == streamed.finish_reason == "tool_calls"
    for message in (called.message, streamed.message):
        assert '"Bern"' in message.tool_calls[0].function.arguments
    assert isinstance(structured.message.parsed, Verdict)


SEVERAL: dict[str, tuple[Ask, Counted]] = {
    "two choices": (chat(n=2), CHAT._replace(output=106, reasoning=40)),
    "two prompts": (completion(prompt=["a", "b c"], max_tokens=7), TEXT._replace(output=14)),
}


@pytest.mark.parametrize("label", SEVERAL)
async def test_several_choices_are_the_same_with_the_usage_that_the_engine_does_not_tell(
    sides: Sides, label: str
) -> None:
    ask, expected = SEVERAL[label]
    alone, got = await both(sides, label, ask)
    assert got.usage.completion_tokens == expected.output == 2 * alone.usage.completion_tokens
    assert got.usage.prompt_tokens == expected.input
    alone.usage = got.usage
    assert plain(got) == plain(alone)
    assert await records_of(sides.rig, label) == [expected]


async def test_a_streamed_response_is_the_engines_own_event_for_event(sides: Sides) -> None:
    """Over plain HTTP: this version of the client cannot read llama.cpp's events, with or without a gateway."""
    label = "response, streamed"
    body = {"model": "golden", "input": "Counting", "stream": True}
    headers = sides.rig.headers | {"idempotency-key": label}
    async with httpx2.AsyncClient(trust_env=False) as client:
        bodies = [
            (await client.post(f"{url}/v1/responses", json=body, headers=headers)).text
            for url in (sides.golden, sides.golden, sides.rig.url)
        ]
    _, alone, got = map(events_in, bodies)
    assert plain(got) == plain(alone)
    usage = alone[-1]["response"]["usage"]
    expected = STREAM._replace(
        operation="responses", input=usage["input_tokens"], output=usage["output_tokens"]
    )
    assert await records_of(sides.rig, label) == [expected]


async def test_the_client_lists_the_gateways_models(sides: Sides) -> None:
    async with through(sides, "models") as client:
        assert {model.id async for model in client.models.list()} == {"golden", "embedder"}
        assert (await client.models.retrieve("golden")).id == "golden"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody's")


async def test_the_client_raises_its_own_errors(sides: Sides) -> None:
    async with through(sides, "stranger", api_key="sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await chat()(stranger)
    async with through(sides, "refused here") as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await chat(model="nobody's")(client)
        with pytest.raises(openai.BadRequestError) as unfit:
            await chat(messages="no list")(client)
    assert (unknown.value.code, missing.value.code) == ("invalid_api_key", "model_not_found")
    assert (missing.value.param, unfit.value.param) == ("model", "messages")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_own_refusal_is_raised_as_without_the_gateway_and_costs_nothing(
    sides: Sides, *, stream: bool
) -> None:
    label = f"refused by the engine, streamed {stream}"
    refusals = []
    for client in (direct(sides, label), through(sides, label)):
        async with client:
            with pytest.raises(openai.BadRequestError) as raised:
                await chat(temperature="hot", stream=stream)(client)
        refusals.append((str(raised.value), raised.value.body))
    assert refusals[0] == refusals[1]
    free = CHAT._replace(stream=stream, outcome="upstream_error", input=0, output=0, reasoning=None)
    assert await records_of(sides.rig, label) == [free]


async def test_a_limit_is_a_rate_limit_error_and_the_client_comes_back_when_it_was_told(sides: Sides) -> None:
    key = await limited_key(sides.rig, "openai")
    hasty, patient = (through(sides, "limited", api_key=key, max_retries=retries) for retries in (0, 2))
    async with hasty, patient:
        await chat(max_tokens=1)(hasty)
        with pytest.raises(openai.RateLimitError) as refused:
            await chat(max_tokens=1)(hasty)
        began = time.monotonic()
        await chat(max_tokens=1)(patient)
    assert time.monotonic() - began > WAITED_S_MIN
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] == "1"
    assert len(await records_of(sides.rig, "limited", 2)) == 2
