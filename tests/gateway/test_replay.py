"""Recorded streams replayed by a server that splits, stalls, resets and appends: proxy and real client over sockets."""

import asyncio
from collections.abc import Sequence

import pytest

from billing.gateway.proxy import Proxy
from billing.gateway.upstream import UpstreamPool
from billing.metering.event import Closed
from billing.settings import GatewaySettings
from billing.tokens.components import components
from billing.tokens.usage import Outcome
from tests.gateway.fakes import (
    CALLER,
    KEY,
    NOW_US,
    USAGE_ID,
    FakeAdmission,
    FakeClient,
    FakeClock,
    FakeDirectory,
    FakeSpool,
    FakeTokenizer,
    Journal,
    Request,
    snapshot,
)  # fmt: skip
from tests.gateway.recordings import CAPTURES, recording
from tests.gateway.scripted_engine import (
    Close,
    Reset,
    ScriptedEngine,
    Send,
    Stall,
    Step,
    chunk,
    in_turn,
    replay,
)

LIMITS = GatewaySettings()
ENGINES = {"llamacpp": "llama.cpp", "vllm": "vllm", "transformers_serve": "vllm"}
STREAMS = sorted(
    (folder, path.name.removesuffix(".request.txt"))
    for folder in ENGINES
    for path in (CAPTURES / folder).glob("*stream*.request.txt")
    if path.name.startswith(("chat_stream", "completions_stream"))
    and not (folder == "llamacpp" and "n2" in path.name)
)
ids = [f"{folder}-{name}" for folder, name in STREAMS]


async def serve(folder: str, name: str, answers: Sequence[Sequence[Step]]) -> list[tuple[Closed, FakeClient]]:
    """Let a proxy answer the recorded request once for each answer, over one pool."""
    asked = recording(folder, name)
    # One server's recordings give the model another name than the directory of these tests does.
    body = asked.request.replace(b'"tiny-markov"', b'"tiny"')
    pool = UpstreamPool(
        connect_timeout_s=2.0,
        head_timeout_s=5.0,
        idle_timeout_s=5.0,
        connections_idle_max=4,
        connection_idle_s=4.0,
    )
    served = []
    async with ScriptedEngine(in_turn(*answers)) as engine:
        for _ in answers:
            journal = Journal()
            spool, client = FakeSpool(journal), FakeClient(journal)
            directory = FakeDirectory(
                {KEY: CALLER}, snapshot(ENGINES[folder], f"http://127.0.0.1:{engine.port}")
            )
            proxy = Proxy(
                directory=directory,
                upstream=pool,
                spool=spool,
                admission=FakeAdmission(journal, []),
                tokenizer=FakeTokenizer(journal, None),
                clock=FakeClock(),
                settings=LIMITS,
            )
            headers = {b"authorization": KEY}
            await proxy.serve(Request(USAGE_ID, NOW_US, "POST", asked.path, headers, body), client)
            assert len(spool.opened) == len(spool.closed) == 1
            served.append((spool.closed[0], client))
            # The reply's end and the connection's return to the pool are noticed in the loop's next turns.
            await asyncio.sleep(0.01)
    await pool.close()
    return served


def path_of(folder: str, name: str) -> bytes:
    return (CAPTURES / folder / f"{name}.response.txt").read_bytes()


@pytest.mark.parametrize(("folder", "name"), STREAMS, ids=ids)
async def test_however_a_stream_is_split_or_stalled_it_is_counted_alike(folder: str, name: str) -> None:
    raw = path_of(folder, name)
    size = len(raw)
    answers = [
        replay(raw),
        replay(raw, split_every=7),
        replay(raw, split_every=61, chunk_bytes=13),
        replay(raw, offsets=[size // 3, size // 2], pause_s=0.02),
        replay(raw, chunk_bytes=size),
    ]
    served = await serve(folder, name, answers)
    whole, whole_client = served[0]
    assert whole.outcome is Outcome.COMPLETE
    assert whole.usage.output.value is not None or "usage_absent" in name or "usage_false" in name
    for closed, client in served:
        assert (closed.outcome, closed.usage) == (whole.outcome, whole.usage)
        assert client.body == whole_client.body
    if whole.usage.output.value is not None:
        assert components(whole.usage).total == (whole.usage.input.value or 0) + whole.usage.output.value


@pytest.mark.parametrize(("folder", "name"), STREAMS, ids=ids)
async def test_extra_bytes_after_a_reply_reach_nobody(folder: str, name: str) -> None:
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
    served = await serve(
        folder, name, [[*replay(path_of(folder, name)), Send(surplus)], replay(path_of(folder, name))]
    )
    assert served[0][0].usage == served[1][0].usage
    assert served[0][1].body == served[1][1].body
    assert b"stolen" not in served[1][1].body


@pytest.mark.parametrize("death", [Reset(), Close()], ids=["reset", "closed"])
@pytest.mark.parametrize("folder", ["llamacpp", "vllm"])
async def test_a_stream_that_breaks_off_keeps_its_last_running_count(folder: str, death: Step) -> None:
    name = "chat_stream_timings_per_token" if folder == "llamacpp" else "chat_stream_continuous_usage"
    head, _, body = path_of(folder, name).partition(b"\r\n\r\n")
    lines = [
        line
        for line in head.split(b"\r\n")
        if not line.lower().startswith((b"transfer-encoding", b"content-length"))
    ]
    wire_head = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n"
    events = [event + b"\n\n" for event in body.split(b"\n\n")][:6]
    script: list[Step] = [Send(wire_head + b"".join(map(chunk, events))), Stall(0.05), death]
    ((closed, client),) = await serve(folder, name, [script])
    assert closed.outcome is Outcome.TRUNCATED
    assert closed.error == "upstream_broken"
    assert closed.usage.output.value == (4 if folder == "llamacpp" else 6)
    assert closed.usage.output.provenance == "running"
    assert b'"error"' in client.body
    assert b"[DONE]" not in client.body
