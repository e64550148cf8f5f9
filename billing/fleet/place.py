"""Where an address points, and what may be called by it (pure)."""

import contextlib
import re
from urllib.parse import urlsplit

import msgspec

from billing.errors import InvalidInput
from billing.fleet.backend import NAME_LENGTH_MAX, EngineKind
from billing.fleet.model import check_name

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PORTS = {"http": 80, "https": 443}
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


class Place(msgspec.Struct, frozen=True):
    """Where an address points, so that two ways of writing it are equal."""

    scheme: str
    host: str
    port: int
    path: str


def place_of(url: str) -> Place:
    """The place of an address that ``backend.check_url`` has accepted; every name of this machine's loopback is one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    here = "127.0.0.1" if host in _LOOPBACK else host
    return Place(parts.scheme, here, parts.port or _PORTS.get(parts.scheme, 0), parts.path.rstrip("/"))


def backend_name(engine: EngineKind, url: str) -> str:
    """A backend's name by engine and port, ``llama-cpp-8080``; away from loopback with its host and path."""
    place = place_of(url)
    parts = [engine.value.replace(".", "-"), str(place.port)]
    if place.host not in _LOOPBACK:
        parts.insert(1, place.host)
    name = _NOT_IN_A_NAME.sub("-", "-".join([*parts, place.path]).lower())
    return name.strip("-")[:NAME_LENGTH_MAX]


def public_name(model: str) -> str | None:
    """What callers may call a server's model: its own name, or the last part of one that is a path; None if neither can be."""
    for name in (model, model.rstrip("/").rpartition("/")[2]):
        with contextlib.suppress(InvalidInput):
            return check_name(name)
    return None
