"""Who may call the control process, what it refuses and how, and what every reply carries."""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from litestar.routes import HTTPRoute

from tests.admin_kit import TOKEN, Api, admin_api

OPEN = {"/healthz", "/readyz", "/api/docs", "/api/docs/openapi.json", "/api/v1/openapi.json"}
"""What anybody may ask: it tells nothing of anybody's business."""


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        yield made


def routes(api: Api) -> list[tuple[str, str]]:
    """Every method and path that the process serves, with something in place of each parameter."""
    return [
        (method, re.sub(r"\{[^}]+\}", "x", route.path))
        for route in api.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"HEAD"}
    ]


PAGES = ("/requests/", "/invoices/", "/login", "/logout", "/static/")
"""What browsers are shown: they are sent to sign in instead, which has tests of its own."""


def is_page(path: str) -> bool:
    return path == "/" or path.startswith(PAGES)


async def test_a_page_sends_whoever_is_not_signed_in_to_where_that_is_done(api: Api) -> None:
    for path in ("/", "/requests/x", "/invoices/x", "/invoices/x/csv"):
        answer = await api.send("GET", path, headers={})
        assert (answer.status_code, answer.headers.get("location", "")[:6]) == (303, "/login"), path


async def test_every_route_but_the_open_ones_asks_for_the_token(api: Api) -> None:
    closed = [
        (method, path)
        for method, path in routes(api)
        if not (path in OPEN or path.startswith("/api/docs/") or is_page(path))
    ]
    assert len(closed) > 30
    for method, path in closed:
        for headers in ({}, {"authorization": "Bearer adm-wrong"}, {"authorization": f"Basic {TOKEN}"}):
            answer = await api.send(method, path, headers=headers)
            assert answer.status_code == 401, f"{method} {path} answered {answer.status_code}"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN not in answer.text


async def test_the_open_ones_answer_without_it(api: Api) -> None:
    for path in OPEN:
        assert (await api.send("GET", path, headers={})).status_code == 200, path


async def test_without_a_configured_token_nobody_is_let_in(migrated_url: str, tmp_path: Path) -> None:
    async with admin_api(migrated_url, tmp_path, None) as api:
        problem = await api.refused(503, "GET", "/tenants")
        assert "billing admin-token --new" in problem["detail"]
        assert (await api.send("GET", "/metrics")).status_code == 503
        assert (await api.send("GET", "/healthz")).status_code == 200


async def test_a_body_is_not_read_before_the_token(api: Api) -> None:
    answer = await api.send("POST", "/api/v1/tenants", headers={}, content=b"x" * 3_000_000)
    assert answer.status_code == 401


async def test_every_reply_is_guarded_against_browsers(api: Api) -> None:
    for path in ("/api/v1/tenants", "/api/docs", "/nowhere", "/healthz"):
        headers = (await api.send("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


async def test_what_is_not_there_is_said_as_a_problem(api: Api) -> None:
    unknown = await api.refused(404, "GET", "/nowhere")
    assert unknown["detail"].startswith("there is nothing at GET /api/v1/nowhere")
    wrong = await api.refused(405, "DELETE", "/tenants")
    assert wrong["detail"].startswith("/api/v1/tenants does not take DELETE")
    missing = await api.refused(404, "GET", "/tenants/nobody")
    assert missing["detail"] == "there is no tenant 'nobody'"
    assert missing["type"] == "urn:billing:problem:not_found"


@pytest.mark.parametrize(
    ("sent", "detail", "param"),
    [
        ({"json": {"slug": 5}}, "slug: Expected `str`, got `int`", "slug"),
        ({"json": {}}, "Object missing required field `slug`", None),
        ({"json": {"slug": "acme", "nam": "x"}}, "Object contains unknown field `nam`", None),
        ({"json": {"slug": "Acme!"}}, "slug: 'Acme!' is not a slug", "slug"),
        ({"json": {"slug": "acme", "timezone": "Mars/Base"}}, "timezone: 'Mars/Base' is not the name", "timezone"),
        ({"content": b"{"}, "the request's body cannot be read as JSON: ", None),
        ({}, "the request's body cannot be read as JSON: there is none", None),
        ({"json": {"slug": "acme", "name": "a\0b"}}, "the request holds the character NUL", None),
        ({"content": b"[" * 1_000}, "the request's body is nested deeper than 64 levels", None),
        ({"content": b"[" * 990 + b"]" * 990}, "the request's body is nested deeper than 64 levels", None),
        ({"content": b'{"slug":' * 100_000}, "the request's body is nested deeper than 64 levels", None),
        ({"content": b'{"slug": "\xff"}'}, "the request's body is not UTF-8: byte 11 is 0xff", None),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_is_refused_with_its_place(
    api: Api, sent: dict[str, object], detail: str, param: str | None
) -> None:
    problem = await api.refused(400, "POST", "/tenants", **sent)
    assert problem["detail"].startswith(detail)
    assert problem.get("param") == param


async def test_a_place_deep_in_a_body_is_named(api: Api) -> None:
    body = {"name": "m", "deployments": [{"backend": "a"}, {"backend": "a", "weight": "x"}]}
    problem = await api.refused(400, "POST", "/models", body)
    assert problem["param"] == "deployments[1].weight"


async def test_no_route_fails_on_a_body_that_is_nested_without_end(api: Api) -> None:
    for method, path in routes(api):
        if method in {"POST", "PUT", "PATCH"} and path.startswith("/api/"):
            headers = api.headers | {"content-type": "application/json"}
            answer = await api.send(method, path, headers=headers, content=b'{"a":' * 1_500)
            assert (answer.status_code, "nested" in answer.text) == (400, True), (
                f"{method} {path}: {answer.text}"
            )


@pytest.mark.parametrize(
    "odd", ["%00", "a%00b", "%ff", "%C0%80", "%ED%A0%80", "%", "%zz", "%0a", "x" * 30_000]
)
async def test_an_odd_name_in_an_address_is_refused_or_not_found(api: Api, odd: str) -> None:
    for method, path in routes(api):
        if "x" in path.split("/") and method != "OPTIONS":
            answer = await api.send(
                method, "/".join(odd if part == "x" else part for part in path.split("/"))
            )
            assert answer.status_code in {303, 400, 404}, f"{method} {path}: {answer.text}"


async def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    taken: dict[str, set[str]] = {}
    for method, path in routes(api):
        taken.setdefault(path, set()).add(method)
    assert len(taken) > 30
    for path, methods in taken.items():
        for method in {"PUT", "DELETE", "TRACE", "BREW"} - methods:
            answer = await api.send(method, path)
            assert answer.status_code == 405, f"{method} {path}: {answer.text}"
            assert answer.headers["allow"] == ", ".join(sorted(methods)), path


async def test_options_names_every_method_of_a_path(api: Api) -> None:
    taken: dict[str, set[str]] = {}
    for method, path in routes(api):
        taken.setdefault(path, set()).add(method)
    assert taken["/api/v1/tenants"] == {"GET", "OPTIONS", "POST"}
    for path, methods in taken.items():
        if is_page(path):
            continue
        answer = await api.send("OPTIONS", path)
        assert answer.status_code == 204, path
        assert answer.headers["allow"] == ", ".join(sorted(methods)), path


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "after=zz", "after=WzFd", "limit=5&after=%00"]
)
async def test_a_page_that_cannot_be_is_refused(api: Api, query: str) -> None:
    problem = await api.refused(400, "GET", f"/tenants?{query}")
    assert problem["detail"]


async def test_a_body_has_a_limit(api: Api) -> None:
    problem = await api.refused(413, "POST", "/tenants", content=b'{"slug": "' + b"x" * 1_100_000)
    assert problem["detail"] == "the request's body is larger than is taken here"


async def test_postgres_away_is_said_so_and_readiness_tells_no_address(tmp_path: Path) -> None:
    async with admin_api("postgresql://somebody:secret@127.0.0.1:9/none", tmp_path) as api:
        problem = await api.refused(503, "GET", "/tenants")
        assert "Postgres" in problem["detail"]
        assert "secret" not in problem["detail"]
        ready = await api.send("GET", "/readyz", headers={})
        assert (ready.status_code, ready.json()) == (503, {"status": "Postgres does not answer"})
        assert (await api.send("GET", "/healthz")).status_code == 200


async def test_readiness_wants_this_programs_schema(api: Api, database_url: str, tmp_path: Path) -> None:
    ready = await api.send("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    async with admin_api(database_url, tmp_path) as empty:
        answer = await empty.send("GET", "/readyz")
        assert answer.status_code == 503
        assert answer.json()["schema"] is None
        assert "billing migrate" in answer.json()["status"]


async def test_what_nobody_expected_is_told_to_the_log_alone(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A database without the schema is as good as any defect: the statement fails in a way that no code foresees.
    async with admin_api(database_url, tmp_path) as api:
        with caplog.at_level(logging.ERROR, logger="billing.admin.faults"):
            problem = await api.refused(500, "GET", "/tenants")
    assert problem["detail"] == "the service failed; what happened stands in its log under this instance"
    assert problem["instance"] in caplog.text
    assert "Traceback" in caplog.text
