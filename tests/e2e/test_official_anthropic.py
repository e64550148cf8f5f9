"""Anthropic's own client gets through the gateway what it gets without it, from real llama.cpp."""

import time
from collections.abc import AsyncIterator
from typing import Any

import anthropic
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
    gathered,
    limited_key,
    listed,
    plain,
    records_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYSTEM, QUESTION = MESSAGES[0]["content"], MESSAGES[1:]
CALLED: Any = {
    "tools": [{"name": "weather", "input_schema": CITY}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    # The engine takes no seed in this dialect. So it always says the likeliest, and that is one call after another.
    "extra_body": {"temperature": 0},
}
TOOL_TURN: Any = [
    *QUESTION,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sides]:
    async with both_sides(tmp_path_factory.mktemp("anthropic")) as made:
        yield made


def through(sides: Sides, label: str, **options: Any) -> anthropic.AsyncAnthropic:
    """A client of the gateway, whose key it sends as ``x-api-key``; what it asks is on record with a label."""
    usual: Any = {"base_url": sides.rig.url, "api_key": sides.rig.key, "max_retries": 0}
    return anthropic.AsyncAnthropic(**(usual | options), default_headers={"idempotency-key": label})


def direct(sides: Sides) -> anthropic.AsyncAnthropic:
    """A client without the gateway."""
    return anthropic.AsyncAnthropic(base_url=sides.golden, api_key="none", max_retries=0)


def message(**options: Any) -> Ask:
    asked = {"model": "golden", "system": SYSTEM, "messages": QUESTION, "max_tokens": 200} | options
    if options.get("stream"):
        return lambda client: listed(client.messages.create(**asked))
    return lambda client: client.messages.create(**asked)


def helped(**options: Any) -> Ask:
    """By the client's own helper, which gathers a stream into a whole message."""
    asked = {"model": "golden", "system": SYSTEM, "messages": QUESTION, "max_tokens": 200} | options
    return lambda client: gathered(client.messages.stream(**asked), "get_final_message")


WHOLE = Counted("messages", "anthropic", stream=False, outcome="complete", input=41, output=53, reasoning=20)
STREAM = WHOLE._replace(stream=True)
ASKED: dict[str, tuple[Ask, Counted]] = {
    "message": (message(), WHOLE),
    "message, streamed": (message(stream=True), STREAM),
    "message, streamed by the helper": (helped(), STREAM),
    "message, cut off": (message(max_tokens=10), WHOLE._replace(output=10, reasoning=9)),
    "tools": (message(**CALLED), WHOLE._replace(input=None, output=None)),
    "tools, streamed": (helped(**CALLED), STREAM._replace(input=None, output=None)),
    "a tool's result": (message(messages=TOOL_TURN, **CALLED), WHOLE._replace(input=None, output=None)),
}  # fmt: skip


@pytest.mark.parametrize("label", ASKED)
async def test_the_client_gets_the_same_and_it_is_counted(sides: Sides, label: str) -> None:
    ask, expected = ASKED[label]
    alone, got = await asked_twice(direct(sides), through(sides, label), ask)
    assert plain(got) == plain(alone)
    if expected.input is None:
        usage = (alone[-1] if isinstance(alone, list) else alone).usage
        whole = usage.input_tokens + usage.cache_read_input_tokens
        expected = expected._replace(input=whole, output=usage.output_tokens)
    assert await records_of(sides.rig, label) == [expected]


async def test_what_a_tool_asks_for_is_in_the_answer(sides: Sides) -> None:
    """That both sides are equal says little where the engine did not do it."""
    async with through(sides, "asked for") as client:
        answers = [await message(**CALLED)(client), (await helped(**CALLED)(client))[-1]]
    for answer in answers:
        called = next(block for block in answer.content if block.type == "tool_use")
        assert (called.name, called.input) == ("weather", {"city": "Bern"})


async def test_tokens_are_counted_as_without_the_gateway_and_cost_nothing(sides: Sides) -> None:
    def ask(client: anthropic.AsyncAnthropic) -> Any:
        return client.messages.count_tokens(model="golden", system=SYSTEM, messages=QUESTION)

    alone, got = await asked_twice(direct(sides), through(sides, "count"), ask)
    assert (plain(got), got.input_tokens) == (plain(alone), 41)
    (record,) = await records_of(sides.rig, "count")
    assert (record.operation, record.input, record.output) == ("count_tokens", None, 0)


async def test_the_client_raises_its_own_errors(sides: Sides) -> None:
    async with through(sides, "stranger", api_key="sk-wrong") as stranger:
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await message()(stranger)
    async with through(sides, "refused here") as client:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await message(model="nobody's")(client)
        with pytest.raises(anthropic.BadRequestError) as unfit:
            await message(messages="no list")(client)
    raised = {error.value.type: error.value for error in (unknown, missing, unfit)}
    assert set(raised) == {"authentication_error", "not_found_error", "invalid_request_error"}
    assert all(error.request_id for error in raised.values())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_own_refusal_is_raised_as_without_the_gateway_and_costs_nothing(
    sides: Sides, *, stream: bool
) -> None:
    label = f"refused by the engine, streamed {stream}"
    refusals = []
    for client in (direct(sides), through(sides, label)):
        async with client:
            with pytest.raises(anthropic.BadRequestError) as raised:
                await message(extra_body={"temperature": "hot"}, stream=stream)(client)
        refusals.append((str(raised.value), raised.value.body))
    assert refusals[0] == refusals[1]
    free = WHOLE._replace(stream=stream, outcome="upstream_error", input=0, output=0, reasoning=None)
    assert await records_of(sides.rig, label) == [free]


async def test_a_limit_is_a_rate_limit_error_and_the_client_comes_back_when_it_was_told(sides: Sides) -> None:
    key = await limited_key(sides.rig, "anthropic")
    hasty, patient = (through(sides, "limited", api_key=key, max_retries=retries) for retries in (0, 2))
    async with hasty, patient:
        await message(max_tokens=1)(hasty)
        with pytest.raises(anthropic.RateLimitError) as refused:
            await message(max_tokens=1)(hasty)
        began = time.monotonic()
        await message(max_tokens=1)(patient)
    assert time.monotonic() - began > WAITED_S_MIN
    assert refused.value.type == "rate_limit_error"
    headers = refused.value.response.headers
    assert headers["retry-after"] == "1"
    assert headers["anthropic-ratelimit-requests-limit"] == "60"
    assert len(await records_of(sides.rig, "limited", 2)) == 2
