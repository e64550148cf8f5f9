"""The smallest proxy with httpx2 as its upstream client."""

from collections.abc import AsyncIterator

import httpx2
from litestar import Litestar

from bench.decisions.proxy_app import Answer, engine_url, mounted


class HttpxAnswer:
    """A reply of httpx2's."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.aiter_raw()
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end, where httpx2 frees the connection."""
        return await anext(self._pieces, b"")

    def close(self) -> None:
        """Nothing: the body was read to its end."""


class HttpxClient:
    """An httpx2 client without limits."""

    def __init__(self) -> None:
        self._url = f"{engine_url()}/v1/chat/completions"
        self._client: httpx2.AsyncClient | None = None

    async def __call__(self, body: bytes) -> Answer:
        """Send a request."""
        if self._client is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
            self._client = httpx2.AsyncClient(limits=limits, timeout=60, trust_env=False)
        headers = {"content-type": "application/json"}
        request = self._client.build_request("POST", self._url, content=body, headers=headers)
        return HttpxAnswer(await self._client.send(request, stream=True))


def app() -> Litestar:
    """Litestar mount, httpx2."""
    return mounted(HttpxClient())
