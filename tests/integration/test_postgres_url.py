"""Addresses as managed services hand them out, on a real Postgres that has no TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from billing.errors import Misconfigured, Unavailable
from billing.infra import migrate
from billing.infra.postgres import Database
from billing.infra.postgres_url import TLS_MODES, address_of, sqlalchemy_url

HOST = "postgresql://a:secret@b/c"
PIPE_BYTES = 65_536


@pytest.fixture
async def tcp_url(database_url: str) -> AsyncIterator[str]:
    """The same database over TCP: libpq and asyncpg never ask for TLS on a unix socket."""
    place = parse_qs(urlsplit(database_url).query)
    socket_path = f"{place['host'][0]}/.s.PGSQL.{place['port'][0]}"
    pipes: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(socket_path)
        for source, target in ((reader, server_writer), (server_reader, writer)):
            pipes.add(asyncio.create_task(_pipe(source, target)))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    yield f"postgresql://postgres@127.0.0.1:{port}{urlsplit(database_url).path}"
    listener.close()
    for pipe in pipes:
        pipe.cancel()
    await asyncio.gather(*pipes, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with closing(target):
        while piece := await source.read(PIPE_BYTES):
            target.write(piece)
            await target.drain()


async def asked(url: str, question: str) -> object:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as connection:
            return await connection.scalar(text(question))
    finally:
        await database.close()


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
async def test_a_server_without_tls_is_used_where_the_address_allows_it(tcp_url: str, mode: str) -> None:
    url = f"{tcp_url}?sslmode={mode}"
    assert await asked(url, "SELECT current_database()") == urlsplit(tcp_url).path[1:]
    assert await asyncio.to_thread(migrate.current, url) is None


@pytest.mark.parametrize("more", ["sslmode=require", "ssl=require", "sslmode=verify-full&sslrootcert=system",
                                  "sslmode=require&channel_binding=require", "sslrootcert=system"])  # fmt: skip
async def test_a_server_without_tls_is_unavailable_where_the_address_demands_it(
    tcp_url: str, more: str
) -> None:
    url = f"{tcp_url}?{more}"
    with pytest.raises(Unavailable, match=r"^Postgres cannot be reached: .* rejected SSL upgrade$"):
        await asked(url, "SELECT 1")
    with pytest.raises(Unavailable, match=r"^Postgres cannot be reached: .* rejected SSL upgrade$"):
        await asyncio.to_thread(migrate.current, url)


@pytest.mark.parametrize("more", ["sslmode=disable", "sslmode=prefer", "sslmode=require"])
async def test_on_a_unix_socket_the_mode_has_no_effect(database_url: str, more: str) -> None:
    assert await asked(f"{database_url}&{more}", "SELECT 1") == 1


async def test_a_root_certificate_that_is_not_there_is_said_in_one_line(
    tcp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    url = f"{tcp_url}?sslmode=verify-full"
    said = r'^DATABASE_URL cannot be followed: root certificate file "[^\n]*$'
    with pytest.raises(Misconfigured, match=said):
        await asked(url, "SELECT 1")
    with pytest.raises(Misconfigured, match=said):
        await asyncio.to_thread(migrate.current, url)
    with pytest.raises(Unavailable, match=r"^Postgres cannot be reached: .*No such file"):
        await asked(f"{url}&sslrootcert=/nowhere/root.crt", "SELECT 1")


async def test_what_else_an_address_says_is_followed_or_left_out(tcp_url: str) -> None:
    url = f"{tcp_url}?options=-c%20geqo%3Doff&application_name=x&connect_timeout=3&keepalives=1&statement_cache_size=0"
    assert await asked(url, "SELECT current_setting('geqo')") == "off"
    assert await asked(url, "SELECT current_setting('application_name')") == "billing-owner"
    name = urlsplit(tcp_url).path[1:]
    elsewhere = tcp_url.replace(f"/{name}", f"?dbname={name}")
    assert await asked(elsewhere, "SELECT current_database()") == name


@pytest.mark.parametrize("mode", TLS_MODES)
def test_every_mode_reaches_the_driver(mode: str) -> None:
    assert address_of(f"{HOST}?sslmode=disable&sslmode={mode}").connect_arguments == {"dsn": f"postgresql://?sslmode={mode}"}  # fmt: skip


def test_an_address_without_parameters_is_not_changed() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        given = f"{scheme}://a:secret@b/c?host=/x"
        assert sqlalchemy_url(given) == "postgresql+asyncpg://a:secret@b/c?host=/x"
        assert address_of(given)[1:] == ({}, {})
        assert address_of(given).url.query == {"host": "/x"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("?pgbouncer=true&schema=x", "has a parameter that is not known: pgbouncer, schema"),
        ("?sslmode=on", "sslmode must be one of disable, allow, .*, got 'on'"),
        ("?statement_cache_size=many", "must be whole numbers"),
        ("?sslmode=require&sslrootcert=system", "sslrootcert=system goes with sslmode=verify-full"),
        (":port/c", "is not an address"),
    ],
)
def test_what_cannot_be_followed_is_named_and_the_password_is_not(more: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as refused:
        Database(HOST.removesuffix("/c") + more if more.startswith(":") else HOST + more)
    assert "secret" not in str(refused.value)
