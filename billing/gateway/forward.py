"""What goes to the engine and what comes back from it, beside the body: request head, reply headers (pure)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from billing.errors import Misconfigured
from billing.tokens.operation import Framing

DESTINATIONS_CACHED_MAX = 4096

# Passed on as they are. Everything else stays here: the caller's key, cookies, hop-by-hop headers, and whatever would
# make an engine compress, replay or detach the reply (protocols.md §3, X-Conversation-Id).
_REQUEST_HEADERS = (
    b"accept",
    b"user-agent",
    b"traceparent",
    b"tracestate",
    b"anthropic-version",
    b"anthropic-beta",
)
# An engine's other headers speak of its own network and keys.
_REPLY_HEADERS = frozenset({
    b"content-type", b"content-language", b"cache-control", b"retry-after", b"retry-after-ms", b"x-should-retry",
    b"openai-processing-ms", b"x-accel-buffering",
})  # fmt: skip
_IDENTITY = b"identity"
_JSON = b"application/json"
_MEDIA_TYPES = {
    Framing.SSE: (b"text/event-stream",),
    Framing.NDJSON: (b"application/x-ndjson", b"application/ndjson"),
}
_forbidden_in_header = re.compile(rb"[\r\n\0]").search
_unprintable = re.compile(rb"[^\x20-\x7e]")


class Destination(msgspec.Struct, frozen=True):
    """Where a backend's URL points: an origin, and the path in front of the engine's own paths."""

    host: str
    port: int
    tls: bool
    base_path: str

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header says them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@lru_cache(maxsize=DESTINATIONS_CACHED_MAX)
def destination(url: str) -> Destination:
    """The destination of a backend's URL; a closing ``/v1`` is taken off, since paths bring their own.

    Raises ``Misconfigured`` when it is not an http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Misconfigured(f"backend URL {url!r} must look like http://host:port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Misconfigured(f"backend URL {url!r} must look like http://host:port")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Destination(parts.hostname, port or (443 if tls else 80), tls, path)


def request_head(
    place: Destination,
    path: str,
    length: int,
    headers: Mapping[bytes, bytes],
    *,
    request_id: str,
    credential: str | None,
    content_type: bytes = _JSON,
) -> bytes:
    """The head of a POST with a body of ``length`` bytes of a media type, blank line included."""
    if content_type == _JSON:
        begun = _start(place, path, credential)
    else:
        # The boundary of a form is new each time: nothing to remember.
        begun = _begun(place, path, credential, _unprintable.sub(b"", content_type).decode())
    lines = [begun, f"{length}\r\nx-request-id: {request_id}\r\n".encode()]
    for name in _REQUEST_HEADERS:
        value = headers.get(name)
        if value is not None and _forbidden_in_header(value) is None:
            lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)


@lru_cache(maxsize=DESTINATIONS_CACHED_MAX)
def _start(place: Destination, path: str, credential: str | None) -> bytes:
    """What is the same in every head to one backend with a JSON body, up to the length's number."""
    return _begun(place, path, credential, _JSON.decode())


def _begun(place: Destination, path: str, credential: str | None, content_type: str) -> bytes:
    authorization = "" if credential is None else f"authorization: Bearer {credential}\r\n"
    return (
        f"POST {place.base_path}{path} HTTP/1.1\r\nhost: {place.authority}\r\ncontent-type: {content_type}\r\n"
        f"accept-encoding: identity\r\n{authorization}content-length: "
    ).encode()


def reply_headers(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The engine's reply headers that the caller may see, and the usage id as ``x-request-id``."""
    kept = [pair for pair in headers if pair[0] in _REPLY_HEADERS]
    kept.append((b"x-request-id", request_id.encode()))
    return kept


def frames(headers: list[tuple[bytes, bytes]], framing: Framing) -> bool:
    """Whether a reply is a stream of events that are framed so; what holds no events is anything but JSON."""
    expected = _MEDIA_TYPES.get(framing, (_JSON,))
    for name, value in headers:
        if name == b"content-type" and value.lower().startswith(expected):
            return framing is not Framing.BINARY
    return framing is Framing.BINARY


def is_encoded(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a reply came compressed although we asked for none (RFC 9110 §12.5.3): it could not be counted."""
    return any(name == b"content-encoding" and value.lower() != _IDENTITY for name, value in headers)


def is_json(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a reply is JSON by its type, or has none; the page of HTML that another proxy put in its place is not."""
    for name, value in headers:
        if name == b"content-type" and not value.lower().startswith(_JSON):
            return False
    return True
