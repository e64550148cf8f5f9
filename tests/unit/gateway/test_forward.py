"""What goes to the engine and comes back beside the body: nothing of the caller's secrets, nothing of the engine's plumbing."""

import pytest

from billing.errors import Misconfigured
from billing.gateway.forward import Destination, destination, frames, reply_headers, request_head
from billing.tokens.operation import Framing

PLACE = Destination("engine", 8000, tls=False, base_path="")
URLS = {
    "http://engine:8000": Destination("engine", 8000, tls=False, base_path=""),
    "http://engine": Destination("engine", 80, tls=False, base_path=""),
    "https://engine": Destination("engine", 443, tls=True, base_path=""),
    "https://engine:8443/": Destination("engine", 8443, tls=True, base_path=""),
    "http://engine:8000/v1": Destination("engine", 8000, tls=False, base_path=""),
    "http://engine:8000/v1/": Destination("engine", 8000, tls=False, base_path=""),
    "http://engine/llm/v1": Destination("engine", 80, tls=False, base_path="/llm"),
    "http://engine/llm/": Destination("engine", 80, tls=False, base_path="/llm"),
    "http://engine/llmv1": Destination("engine", 80, tls=False, base_path="/llmv1"),
    "http://10.0.0.7:8000": Destination("10.0.0.7", 8000, tls=False, base_path=""),
    "http://[::1]:8000": Destination("::1", 8000, tls=False, base_path=""),
    "HTTP://ENGINE:8000": Destination("engine", 8000, tls=False, base_path=""),
}


@pytest.mark.parametrize(("url", "expected"), URLS.items())
def test_destinations(url: str, expected: Destination) -> None:
    assert destination(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "engine:8000",
        "ftp://engine",
        "http://",
        "http:///v1",
        "//engine",
        "http://engine:99999",
        "http://engine:x",
        "http://[::1",
    ],
)
def test_what_is_no_destination_is_a_misconfiguration(url: str) -> None:
    with pytest.raises(Misconfigured, match="must look like http://host:port"):
        destination(url)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://engine:80", "engine"), ("http://engine:8000", "engine:8000"), ("https://engine:443", "engine"),
        ("https://engine:80", "engine:80"), ("http://[::1]:8000", "[::1]:8000"), ("http://[::1]", "[::1]"),
    ],
)  # fmt: skip
def test_the_host_header(url: str, authority: str) -> None:
    assert destination(url).authority == authority


def head(
    headers: dict[bytes, bytes], credential: str | None = None, place: Destination = PLACE
) -> list[bytes]:
    raw = request_head(place, "/v1/chat/completions", 17, headers, request_id="id-1", credential=credential)
    assert raw.endswith(b"\r\n\r\n")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    return raw[:-4].split(b"\r\n")


def test_the_least_head() -> None:
    assert head({}) == [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: engine:8000",
        b"content-type: application/json",
        b"accept-encoding: identity",
        b"content-length: 17",
        b"x-request-id: id-1",
    ]


def test_the_backends_path_and_credential() -> None:
    lines = head(
        {b"authorization": b"Bearer sk-of-the-caller"}, "sk-engine", destination("http://engine/llm/v1")
    )
    assert lines[0] == b"POST /llm/v1/chat/completions HTTP/1.1"
    assert [line for line in lines if line.startswith(b"authorization")] == [
        b"authorization: Bearer sk-engine"
    ]


def test_four_headers_of_the_caller_are_passed_on() -> None:
    passed = {
        b"accept": b"text/event-stream",
        b"user-agent": b"x/1",
        b"traceparent": b"00-1-1-01",
        b"tracestate": b"a=b",
    }
    assert head(passed)[6:] == [name + b": " + value for name, value in passed.items()]


NEVER_PASSED = [
    b"authorization", b"cookie", b"x-conversation-id", b"connection", b"host", b"content-length", b"transfer-encoding",
    b"accept-encoding", b"content-encoding", b"expect", b"te", b"upgrade", b"x-request-id", b"idempotency-key",
    b"proxy-authorization", b"x-api-key", b"openai-organization", b"x-forwarded-for", b"range", b"content-type",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_PASSED)
def test_nothing_else_of_the_caller_is_passed_on(name: bytes) -> None:
    assert head({name: b"secret"}) == head({})


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_that_would_break_the_head_is_left_out(value: bytes) -> None:
    assert head({b"user-agent": value}) == head({})


def test_the_reply_keeps_its_headers_but_not_the_engines_plumbing() -> None:
    engine = [
        (b"content-type", b"text/event-stream"), (b"server", b"llama.cpp"), (b"date", b"now"), (b"x-request-id", b"theirs"),
        (b"connection", b"close"), (b"keep-alive", b"timeout=5"), (b"transfer-encoding", b"chunked"), (b"content-length", b"5"),
        (b"access-control-allow-origin", b"*"), (b"set-cookie", b"a=b"), (b"x-accel-buffering", b"no"), (b"retry-after", b"3"),
        (b"vary", b"a"), (b"vary", b"b"), (b"trailer", b"x"), (b"upgrade", b"h2c"), (b"proxy-authenticate", b"x"),
        (b"www-authenticate", b"Bearer"), (b"location", b"http://10.0.0.5/"), (b"via", b"1.1 inner"),
    ]  # fmt: skip
    assert reply_headers(engine, "id-1") == [
        (b"content-type", b"text/event-stream"),
        (b"x-accel-buffering", b"no"),
        (b"retry-after", b"3"),
        (b"x-request-id", b"id-1"),
    ]


@pytest.mark.parametrize(
    ("value", "is_stream"),
    [
        (b"text/event-stream", True), (b"text/event-stream; charset=utf-8", True), (b"Text/Event-Stream", True),
        (b"application/json", False), (b"text/plain", False), (b"", False),
    ],
)  # fmt: skip
def test_a_stream_is_known_by_its_type(value: bytes, *, is_stream: bool) -> None:
    assert frames([(b"server", b"text/event-stream"), (b"content-type", value)], Framing.SSE) is is_stream
    assert not frames([], Framing.SSE)
