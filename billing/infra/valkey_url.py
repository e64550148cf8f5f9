"""``REDIS_URL`` in redis-py's words (the rest of the program hands it to redis-py), made into an address.

``redis://[[user]:password@]host[:port][/db]``, ``rediss://…`` with TLS, ``unix://[[user]:password@]/path[?db=0]``.
"""

import ssl
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from billing.errors import Misconfigured

PORT = 6379
DEFAULT_USER = "default"
SHAPES = "redis://user:password@host:6379/0, rediss://… (TLS) or unix:///path/of/socket"
WITHOUT_EFFECT = frozenset({"client_name", "decode_responses", "encoding", "health_check_interval", "max_connections", "protocol",
                            "retry_on_timeout", "socket_connect_timeout", "socket_keepalive", "socket_timeout"})  # fmt: skip
"""redis-py's own; this client has its own time limits and one connection a server."""
FOLLOWED = frozenset({"db", "ssl_ca_certs", "ssl_cert_reqs"})


class Address(msgspec.Struct, frozen=True):
    """One server. ``path`` of its unix socket, or else ``host`` and ``port``; ``password`` "" means: none is sent."""

    host: str = ""
    port: int = PORT
    path: str = ""
    tls: bool = False
    certificates: str | None = None
    """File with the authorities to trust, for TLS; None: those that the machine trusts."""
    user: str = DEFAULT_USER
    password: str = ""
    database: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Without the password."""
        return f"<Address {self}{' TLS' if self.tls else ''} db {self.database}>"

    def at(self, host: str, port: int) -> "Address":
        """Another server of the same cluster: the same credentials and TLS."""
        return msgspec.structs.replace(self, host=host, port=port, path="")

    def tls_context(self) -> ssl.SSLContext | None:
        """A context that checks the server's name and certificate, or None without TLS; raises ``Misconfigured``."""
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.certificates)
        except OSError as error:
            raise Misconfigured(
                f"REDIS_URL: ssl_ca_certs={self.certificates} cannot be read: {error}"
            ) from error


def address_of(url: str) -> Address:
    """Read an address; raises ``Misconfigured`` saying what cannot be followed, never with the password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError:
        # Without the cause: it may repeat the password.
        raise Misconfigured(f"REDIS_URL is not an address; write {SHAPES}") from None
    is_socket = parts.scheme == "unix"
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.path if is_socket else host):
        raise Misconfigured(f"REDIS_URL must be {SHAPES}")
    given = _parameters(parts)
    return Address(
        host="" if is_socket else unquote(host),
        port=port,
        path=unquote(parts.path) if is_socket else "",
        tls=parts.scheme == "rediss",
        certificates=given.get("ssl_ca_certs"),
        user=unquote(parts.username or "") or DEFAULT_USER,
        password=unquote(parts.password or ""),
        database=_database(given.get("db") or ("" if is_socket else parts.path.strip("/"))),
    )


def _parameters(parts: SplitResult) -> dict[str, str]:
    given = dict(parse_qsl(parts.query))
    if unknown := given.keys() - FOLLOWED - WITHOUT_EFFECT:
        raise Misconfigured(f"REDIS_URL has a parameter that is not known: {', '.join(sorted(unknown))}")
    if given.get("ssl_cert_reqs", "required") != "required":
        raise Misconfigured(
            "REDIS_URL: ssl_cert_reqs must be required: whoever answers could hand out limits"
        )
    if parts.username and not parts.password:
        raise Misconfigured("REDIS_URL names a user without a password")
    return given


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise Misconfigured(f"REDIS_URL: the database must be a number, got {text!r}")
    return int(text)
