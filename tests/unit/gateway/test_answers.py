"""What a client gets of an engine's reply in each way that it comes, and what its record says, also when nobody is there."""

import msgspec
import pytest

from billing.errors import UpstreamBroken
from billing.limits.limit import Meter
from billing.tokens.usage import Outcome, Provenance
from tests.gateway.fakes import FakeReply, World, json_reply, limit, snapshot

WHOLE = b'{"id":"c-1","choices":[{"index":0,"message":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":5}}'
ASKED = b'{"model":"tiny","messages":[]}'
SEVERAL = b'{"model":"tiny","messages":[],"n":2}'


def said(index: int, text: str, tokens: int, reason: str | None = None) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    timings = {"cache_n": 3, "prompt_n": 1, "predicted_n": tokens}
    return (
        b"data: "
        + msgspec.json.encode({"id": "c-1", "model": "weights", "choices": [choice], "timings": timings})
        + b"\n\n"
    )


def used(tokens: int) -> bytes:
    usage = {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4 + tokens}
    return (
        b"data: "
        + msgspec.json.encode({"id": "c-1", "model": "weights", "choices": [], "usage": usage})
        + b"\n\n"
    )


DONE = b"data: [DONE]\n\n"
BROKEN = UpstreamBroken("broke off")
TWO = (
    said(0, "a", 1),
    said(1, "x", 1),
    said(0, "b", 2, "stop"),
    used(2),
    said(1, "y", 2, "stop"),
    used(2),
    DONE,
)


def assembling() -> dict[str, object]:
    return {"directory": snapshot("llama.cpp", on_hang_up="stream_and_assemble")}


async def test_two_choices_are_asked_for_as_a_stream_and_come_as_one_reply() -> None:
    world = World(FakeReply(*TWO))
    await world.serve(SEVERAL)
    [sent] = world.journal.values("send")
    assert msgspec.json.decode(sent.body)["stream"] is True
    assert (world.client.status, world.client.headers[b"content-type"]) == (200, b"application/json")
    reply = msgspec.json.decode(world.client.body)
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["ab", "xy"]
    assert reply["usage"]["completion_tokens"] == world.record.usage.output.value == 4
    assert (world.record.outcome, world.record.usage.input.value) == (Outcome.COMPLETE, 4)


async def test_the_record_is_on_disk_before_any_of_an_assembled_reply_leaves() -> None:
    world = World(FakeReply(*TWO))
    await world.serve(SEVERAL)
    names = world.journal.names
    assert names.index("synced") < names.index("head") < names.index("end")


async def test_a_hang_up_on_an_assembled_reply_is_counted_to_the_token() -> None:
    worlds: list[World] = []

    def leave() -> None:
        worlds[0].client.leave()

    worlds.append(World(FakeReply(said(0, "a", 1), said(0, "b", 2), leave, said(0, "c", 3)), **assembling()))
    await worlds[0].serve(ASKED)
    record = worlds[0].record
    assert (record.outcome, record.usage.output.provenance) == (Outcome.CLIENT_CLOSED, Provenance.RUNNING)
    assert record.usage.output.value == 2


@pytest.mark.parametrize(
    ("pieces", "status", "outcome"),
    [
        ((said(0, "a", 1),), 502, Outcome.TRUNCATED),
        ((said(0, "a", 1), UpstreamBroken("broke off")), 502, Outcome.TRUNCATED),
        (
            (said(0, "a", 1), b'data: {"error":{"code":500,"message":"out of memory"}}\n\n'),
            500,
            Outcome.UPSTREAM_ERROR,
        ),
    ],
    ids=["no end", "broken off", "an error of the engine"],
)
async def test_a_stream_that_did_not_end_well_is_no_reply(
    pieces: tuple[bytes, ...], status: int, outcome: Outcome
) -> None:
    world = World(FakeReply(*pieces), **assembling())
    await world.serve(ASKED)
    assert (world.client.status, world.record.status, world.record.outcome) == (status, status, outcome)
    assert world.record.usage.output.value == 1
    assert "error" in msgspec.json.decode(world.client.body)


async def test_an_assembled_reply_is_bounded() -> None:
    world = World(FakeReply(*[said(0, "a" * 1000, number) for number in range(100)]), reply_body_bytes_max=20_000, **assembling())  # fmt: skip
    await world.serve(ASKED)
    assert (world.client.status, world.record.outcome) == (502, Outcome.TRUNCATED)


async def test_a_refusal_of_what_was_to_be_assembled_passes_as_it_is() -> None:
    refusal = b'{"error":{"message":"too long"}}'
    world = World(json_reply(refusal, status=400), **assembling())
    await world.serve(ASKED)
    assert (world.client.status, world.client.body) == (400, refusal)


@pytest.mark.parametrize(("policy", "output"), [("drain", 5), ("abort", None)])
async def test_a_backend_may_be_let_finish_a_whole_reply_that_nobody_waits_for(
    policy: str, output: int | None
) -> None:
    reply = json_reply(WHOLE)
    world = World(reply, directory=snapshot("llama.cpp", on_hang_up=policy))
    original = reply.read

    async def leave_first() -> bytes:
        if not world.client.gone:
            world.client.leave()
        return await original()

    reply.read = leave_first  # type: ignore[method-assign]  # the caller hangs up while the engine works
    await world.serve(ASKED)
    assert (world.record.outcome, world.record.status) == (Outcome.CLIENT_CLOSED, 499)
    assert world.record.usage.output.value == output
    assert reply.hung_up == (policy == "abort")


async def test_audio_that_breaks_off_holds_nothing_but_audio_and_has_no_proper_end() -> None:
    sound = FakeReply(b"\xff\xfbfirst", b"second", BROKEN, headers=[(b"content-type", b"audio/mpeg")])
    world = World(sound, engine="generic")
    await world.serve(b'{"model":"tiny","input":"hello","voice":"v"}', "/v1/audio/speech")
    assert world.client.body == b"\xff\xfbfirst"
    assert (world.client.ended, world.record.outcome) == (False, Outcome.TRUNCATED)
    assert world.journal.names.index("synced") < world.journal.names.index("abort")


async def test_an_error_after_admission_says_what_is_left_of_the_limits() -> None:
    left = [(b"x-ratelimit-remaining-requests", b"49")]
    world = World(UpstreamBroken("broke off"), limits=(limit(Meter.REQUESTS),), admission=left)
    await world.serve(ASKED)
    assert world.client.status == 502
    assert world.client.headers[left[0][0]] == left[0][1]
