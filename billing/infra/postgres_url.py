"""``DATABASE_URL`` as managed services hand it out, in libpq's words, made into what asyncpg takes.

Parameters and their meaning: PostgreSQL 18, §32.1.2. SQLAlchemy would hand each of them to ``asyncpg.connect`` as an
argument, which fails for most of them; asyncpg reads those that concern TLS from an address only.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from billing.errors import Misconfigured

TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SYSTEM_CERTIFICATES = "system"
"""The word of ``sslrootcert`` for the certificates that the machine trusts; it means ``verify-full``."""
PLACES = frozenset({"host", "port", "user", "password", "database", "passfile", "target_session_attrs"})
"""Passed on as they stand."""
SIZES = frozenset({"prepared_statement_cache_size", "statement_cache_size"})
"""Of the driver, 0 behind a pooler that changes the connection between transactions."""
TLS = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation",
                 "ssl_min_protocol_version", "ssl_max_protocol_version"})  # fmt: skip
SESSION = frozenset({"options"})
"""Sent to the server as they stand."""
WITHOUT_EFFECT = frozenset({"application_name", "fallback_application_name", "channel_binding", "connect_timeout", "gssencmode",
                            "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "sslcompression", "sslsni",
                            "tcp_user_timeout"})  # fmt: skip
"""Left out: this program has its own name and time limits, and asyncpg knows no channel binding."""
_OTHER_NAMES = {"dbname": "database", "ssl": "sslmode"}


class Address(NamedTuple):
    """A database, as ``create_async_engine`` takes it."""

    url: URL
    connect_arguments: dict[str, str | int | bool]
    session: dict[str, str]
    """Settings of the session that the address asked for."""


def sqlalchemy_url(url: str) -> str:
    """The URL with SQLAlchemy's driver name: ``postgresql://…`` becomes ``postgresql+asyncpg://…``."""
    return re.sub(r"^postgres(ql)?(\+asyncpg)?://", "postgresql+asyncpg://", url)


def address_of(url: str) -> Address:
    """Read a ``postgresql://`` address; raises ``Misconfigured`` naming the parameter that cannot be followed."""
    try:
        parsed = make_url(sqlalchemy_url(url))
    except (ArgumentError, ValueError):
        # Without the cause: it may repeat the password.
        raise Misconfigured(
            "DATABASE_URL is not an address; write postgresql://user:password@host:5432/billing"
        ) from None
    given = {_OTHER_NAMES.get(name, name): value for name, value in parsed.query.items()}
    unknown = given.keys() - PLACES - SIZES - TLS - SESSION - WITHOUT_EFFECT
    if unknown:
        raise Misconfigured(f"DATABASE_URL has a parameter that is not known: {', '.join(sorted(unknown))}")
    # Several hosts stand in several parameters; of any other the last one counts, as in libpq.
    last = {name: value if isinstance(value, str) else value[-1] for name, value in given.items()}
    return Address(
        parsed.set(query={name: value for name, value in given.items() if name in PLACES}),
        {**_sizes(last), **_tls({name: value for name, value in last.items() if name in TLS})},
        {name: value for name, value in last.items() if name in SESSION},
    )


def _sizes(given: Mapping[str, str]) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in given.items() if name in SIZES}
    except ValueError:
        raise Misconfigured(f"DATABASE_URL: {', '.join(sorted(SIZES))} must be whole numbers") from None


def _tls(given: dict[str, str]) -> dict[str, str | bool]:
    mode = given.get("sslmode")
    if mode is not None and mode not in TLS_MODES:
        raise Misconfigured(f"DATABASE_URL: sslmode must be one of {', '.join(TLS_MODES)}, got {mode!r}")
    if given.get("sslrootcert") == SYSTEM_CERTIFICATES:
        if mode not in {None, "verify-full"} or given.keys() - {"sslrootcert", "sslmode"}:
            raise Misconfigured("DATABASE_URL: sslrootcert=system goes with sslmode=verify-full and nothing else of ssl*")  # fmt: skip
        return {"ssl": True}
    return {"dsn": f"postgresql://?{urlencode(given)}"} if given else {}
