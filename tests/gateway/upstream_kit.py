"""What the tests of the upstream client share: both event loops, and a pool with short limits."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from billing.gateway.forward import Destination
from billing.gateway.reply import Reply
from billing.gateway.upstream import UpstreamPool

SCENARIO_LIMIT_S = 15.0
HEAD = b"POST /v1/x HTTP/1.1\r\nHost: engine\r\nContent-Length: 2\r\n\r\n"
BODY = b"{}"


def both_loops(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The scenario as two tests, on asyncio's loop and on uvloop; whatever either loop complains about fails it."""

    def test(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        complaints: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(SCENARIO_LIMIT_S):
                await scenario(**arguments)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(watched())
        assert not complaints, complaints

    test.__name__ = scenario.__name__
    test.__module__ = scenario.__module__
    first = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    test.__signature__ = inspect.Signature([first, *inspect.signature(scenario).parameters.values()])  # type: ignore[attr-defined]  # pytest reads it
    factories = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
    twice: Callable[..., None] = pytest.mark.parametrize(
        "loop_factory", factories, ids=["asyncio", "uvloop"]
    )(test)
    return twice


@asynccontextmanager
async def pool_with(**changes: Any) -> AsyncIterator[UpstreamPool]:
    """A pool, closed at the end."""
    limits: dict[str, Any] = {
        "connect_timeout_s": 1.0,
        "head_timeout_s": 5.0,
        "idle_timeout_s": 5.0,
        "connections_idle_max": 8,
        "connection_idle_s": 5.0,
    }
    pool = UpstreamPool(**(limits | changes))
    try:
        yield pool
    finally:
        await pool.close()
        assert repr(pool) == "<UpstreamPool closed, 0 open>"


async def read_all(reply: Reply) -> list[bytes]:
    """Every piece until the end."""
    pieces = []
    while piece := await reply.read():
        pieces.append(piece)
    return pieces


async def ask(pool: UpstreamPool, origin: Destination, head: bytes = HEAD, body: bytes = BODY) -> bytes:
    """The whole body of one exchange."""
    return b"".join(await read_all(await pool.send(origin, head, body)))


async def until(condition: Callable[[], bool], limit_s: float = 2.0) -> None:
    """Wait until something became true."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in the kernel and in other objects
            await asyncio.sleep(0.005)
