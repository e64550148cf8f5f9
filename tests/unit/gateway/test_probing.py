"""An engine of unknown kind is asked for usage once; what it refuses is left out from then on, and the client is served."""

import msgspec
import pytest

from billing.errors import UpstreamBroken
from billing.gateway.probing import Probes
from billing.tokens.engines import GENERIC, OPENAI
from billing.tokens.usage import Outcome, Provenance
from tests.gateway.fakes import FakeReply, World, json_reply, snapshot

STREAM = b'{"model":"tiny","messages":[],"stream":true}'


def refusal(message: bytes = b"Unrecognized request argument: stream_options") -> FakeReply:
    return json_reply(b'{"error":{"message":"%b"}}' % message, status=400)


SAID = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def sent(world: World) -> list[dict[str, object]]:
    """The bodies that the engine was sent, model's name apart."""
    return [msgspec.json.decode(sent.body) for sent in world.journal.values("send")]


async def test_a_refusal_of_what_was_added_is_answered_without_it() -> None:
    world = World(refusal(), FakeReply(SAID, DONE), engine="generic")
    await world.serve(STREAM)
    assert ["stream_options" in body for body in sent(world)] == [True, False]
    assert (world.client.status, world.client.body) == (200, SAID + DONE)
    assert world.record.outcome is Outcome.COMPLETE
    assert (world.record.usage.output.value, world.record.usage.output.provenance) == (
        1,
        Provenance.ESTIMATED,
    )


async def test_it_is_remembered_for_the_backend() -> None:
    world = World(refusal(), FakeReply(SAID, DONE), FakeReply(SAID, DONE), engine="generic")
    await world.serve(STREAM)
    await world.serve(STREAM)
    assert ["stream_options" in body for body in sent(world)] == [True, False, False]


async def test_another_refusal_is_the_callers_own() -> None:
    world = World(refusal(b"messages must not be empty"), engine="generic")
    await world.serve(STREAM)
    assert len(sent(world)) == 1
    assert (world.client.status, b"must not be empty" in world.client.body) == (400, True)
    assert world.record.usage.input.value == 0


async def test_an_engine_that_is_known_is_believed() -> None:
    world = World(refusal(), engine="vllm")
    await world.serve(STREAM)
    assert len(sent(world)) == 1
    assert world.client.status == 400


async def test_a_refusal_that_breaks_off_ends_as_one_record() -> None:
    world = World(FakeReply(b'{"error', UpstreamBroken("broke off"), status=400), engine="generic")
    await world.serve(STREAM)
    assert world.record.outcome is Outcome.TRUNCATED
    assert world.client.status == 502


POISON = [
    (
        b'{"model":"tiny","messages":[],"stream":false,"stream_options":{"include_usage":true}}',
        b"stream_options needs stream",
    ),
    (b'{"model":"tiny","messages":[{"role":"include_usage"}],"stream":true}', b"unknown role include_usage"),
]
"""Requests of a caller who would like the counting to end, and what an engine says to them."""


@pytest.mark.parametrize(("asked", "message"), POISON, ids=["his own option", "his own text"])
async def test_what_a_caller_could_have_written_teaches_nothing(asked: bytes, message: bytes) -> None:
    world = World(refusal(message), FakeReply(SAID, DONE), engine="generic")
    await world.serve(asked)
    assert world.client.status == 400
    await world.serve(STREAM)
    assert "stream_options" in sent(world)[-1]
    assert len(sent(world)) == 2


async def test_a_second_refusal_teaches_nothing_either() -> None:
    world = World(refusal(), refusal(b"no such model"), FakeReply(SAID, DONE), engine="generic")
    await world.serve(STREAM)
    await world.serve(STREAM)
    assert ["stream_options" in body for body in sent(world)] == [True, False, True]


def test_a_backend_that_was_changed_is_tried_again() -> None:
    probes = Probes()
    [backend] = snapshot("generic").everything().backends
    assert probes.engine_at(backend, GENERIC) is GENERIC
    probes.remember(backend)
    assert probes.engine_at(backend, GENERIC).stream_options == {}
    assert probes.engine_at(backend, OPENAI) is OPENAI
    changed = msgspec.structs.replace(backend, version=backend.version + 1)
    assert probes.engine_at(changed, GENERIC) is GENERIC
