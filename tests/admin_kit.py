"""The admin API in this process on a real database: sends what an operator sends, reads what is answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar

from billing.access import token
from billing.app.control_child import application
from billing.infra.postgres import Database
from billing.settings import Settings

TOKEN = "adm-for-tests-only-0123456789"
PROBLEM = "application/problem+json"


class Api:
    """``ok`` expects a status and gives the JSON; ``refused`` expects a problem."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
        self.headers = {"authorization": f"Bearer {TOKEN}"}
        # As under a real server: what nobody expected is answered, and not raised into the client.
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # Litestar's own types
        self.client = httpx.AsyncClient(transport=transport, base_url="http://control")

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        options.setdefault("headers", self.headers)
        return await self.client.request(method, path, **options)

    async def ok(self, method: str, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        answer = await self.send(
            method, f"/api/v1{path}", **({"json": body} if body is not None else {}), **options
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    async def made(self, path: str, body: Any) -> Any:
        return await self.ok("POST", path, body, 201)

    async def refused(
        self, status: int, method: str, path: str, body: Any = None, **options: Any
    ) -> dict[str, Any]:
        sent = {"json": body} if body is not None else {}
        answer = await self.send(method, f"/api/v1{path}", **sent, **options)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
        found: dict[str, Any] = answer.json()
        assert found["status"] == status
        assert found["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
        return found

    async def pages(self, path: str, limit: int) -> list[Any]:
        """Every entry of a list, read page by page."""
        found: list[Any] = []
        after = ""
        for _ in range(100):
            page = await self.ok("GET", f"{path}{'&' if '?' in path else '?'}limit={limit}{after}")
            assert len(page["data"]) <= limit
            found += page["data"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"
        raise AssertionError("the pages do not end")


@asynccontextmanager
async def admin_api(
    url: str, data_dir: Path, token_hash: str | None = token.hash_of(TOKEN)
) -> AsyncIterator[Api]:
    """The application of the control process on a migrated database."""
    settings = Settings(data_dir=data_dir, database_url=url, admin_token_hash=token_hash)
    database, owner = Database(url, role="control"), Database(url, pool_size=1)
    api = Api(application(database, owner, settings))
    try:
        yield api
    finally:
        await api.client.aclose()
        await database.close()
        await owner.close()
