"""Waiting for the gateway's workers to be ready, as a load balancer would."""

import asyncio
import time
from http import HTTPStatus

from billing.errors import Unavailable
from billing.gateway.forward import destination

READY_TIMEOUT_S = 20.0
INTERVAL_S = 0.05
REPLY_BYTES_MAX = 64 * 1024
ANSWERS_PER_WORKER = 4
"""Any worker may take a connection, so readiness is asked a few times for each."""


async def wait_until_ready(url: str, workers: int) -> None:
    """Return once ``/readyz`` has answered 200 a few times in a row; raises ``Unavailable`` after ``READY_TIMEOUT_S``."""
    place = destination(url)
    deadline = time.monotonic() + READY_TIMEOUT_S
    good = 0
    while good < workers * ANSWERS_PER_WORKER:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the gateway at {url} is not ready after {READY_TIMEOUT_S:.0f} s; see the logs"
            )
        if await _is_ready(place.host, place.port):
            good += 1
        else:
            good = 0
            await asyncio.sleep(INTERVAL_S)


async def _is_ready(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            status = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return f" {HTTPStatus.OK.value} ".encode() in status
