"""Ending a child that serves by uvicorn, also when it is told to before it serves."""

import asyncio

import uvicorn

from billing.app.supervisor import POLL_INTERVAL_S, StopSignal


async def obey(stop: StopSignal, server: uvicorn.Server) -> None:
    """End the server as soon as a stop signal has come.

    uvicorn takes the signals itself while it serves and raises them again afterwards. One that comes before that, while
    the process is still getting ready, would otherwise be lost, and its parent would wait in vain.
    """
    while not stop.received:  # noqa: ASYNC110 - set by a signal handler, which may not touch the loop
        await asyncio.sleep(POLL_INTERVAL_S)
    server.should_exit = True
