"""The smallest proxy with aiohttp as its upstream client."""

import aiohttp
from litestar import Litestar

from bench.decisions.proxy_app import Answer, engine_url, mounted


class AiohttpAnswer:
    """A reply of aiohttp's."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.raw_headers]

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end."""
        return await self._response.content.readany()

    def close(self) -> None:
        """No more will be read."""
        self._response.release()


class AiohttpClient:
    """aiohttp, told to do as little as it can."""

    def __init__(self) -> None:
        self._url = f"{engine_url()}/v1/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, body: bytes) -> Answer:
        """Send a request."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {"content-type": "application/json"}
        return AiohttpAnswer(await self._session.post(self._url, data=body, headers=headers))


def app() -> Litestar:
    """Litestar mount, aiohttp."""
    return mounted(AiohttpClient())
