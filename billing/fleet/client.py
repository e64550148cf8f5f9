"""Asking a server at a given address what it is: a few requests, bounded in time and bytes, and to nobody else.

The decisions are in ``discovery.py``. Redirects are not followed and no proxy of the environment is used.
"""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

import httptools

from billing.errors import Unavailable
from billing.fleet.discovery import (
    MODELS,
    ROUNDS_MAX,
    SILENCE,
    Answer,
    Found,
    Question,
    conclude,
    further,
)
from billing.fleet.place import place_of

TIMEOUT_S = 0.5
"""For all questions to one address together: whatever runs on this machine answers within it."""
REPLY_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 16
USER_AGENT = "billing-discovery"


async def look(url: str, timeout_s: float = TIMEOUT_S) -> Found | None:
    """What answers at an address, ``http://host:port``; None when it is no model server.

    Raises ``Unavailable`` when nothing there answers in time, or not in HTTP. ``url`` has passed ``backend.check_url``.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    answers = {MODELS: await _ask(url, MODELS, deadline)}
    for _ in range(ROUNDS_MAX):
        questions = further(url, answers)
        if not questions:
            break
        rest = await asyncio.gather(*(_ask_quietly(url, question, deadline) for question in questions))
        answers.update(zip(questions, rest, strict=True))
    return conclude(url, answers)


async def models_of(url: str, credential: str, timeout_s: float = TIMEOUT_S) -> tuple[str, ...]:
    """The models that a server lists to a holder of this credential; raises ``Unavailable`` as :func:`look` does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    found = conclude(url, {MODELS: await _ask(url, MODELS, deadline, credential)})
    return found.models if found else ()


async def _ask_quietly(url: str, question: Question, deadline: float) -> Answer:
    """The answer, or silence: one question that goes unanswered leaves the others worth something."""
    try:
        return await _ask(url, question, deadline)
    except Unavailable:
        return SILENCE


async def _ask(url: str, question: Question, deadline: float, credential: str | None = None) -> Answer:
    try:
        async with asyncio.timeout_at(deadline):
            return await _exchange(url, question, credential)
    except TimeoutError:
        raise Unavailable(f"{url} does not answer in time") from None
    except OSError as fault:
        raise Unavailable(f"{url} does not answer: {_why(fault)}") from fault
    except httptools.HttpParserError as fault:
        raise Unavailable(f"{url} does not answer in HTTP") from fault


def _why(fault: OSError) -> str:
    # A name with several addresses fails with the text of each, and no number.
    is_refused = isinstance(fault, ConnectionRefusedError) or "Connect call failed" in str(fault)
    return "nobody listens there" if is_refused else fault.strerror or str(fault)


async def _exchange(url: str, question: Question, credential: str | None) -> Answer:
    place = place_of(url)
    tls = ssl.create_default_context() if place.scheme == "https" else None
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, place.port, ssl=tls)
    try:
        writer.write(_request(url, question, credential))
        return await _read(reader)
    finally:
        # Nothing is left to be said, and a server that keeps its end open may not keep us.
        writer.transport.abort()


def _request(url: str, question: Question, credential: str | None) -> bytes:
    parts = urlsplit(url)
    head = [
        f"{question.method} {parts.path.rstrip('/')}{question.path} HTTP/1.1",
        f"host: {parts.netloc}",
        f"user-agent: {USER_AGENT}",
        "accept: application/json",
        "accept-encoding: identity",
        "connection: close",
    ]
    if credential is not None:
        head.append(f"authorization: Bearer {credential}")
    if question.body:
        head += ["content-type: application/json", f"content-length: {len(question.body)}"]
    return "\r\n".join([*head, "", ""]).encode() + question.body


async def _read(reader: asyncio.StreamReader) -> Answer:
    """One reply, up to its end, the connection's end or the limit; a body that was cut is no JSON any more."""
    reply = _Reply()
    parser = httptools.HttpResponseParser(reply)
    size = 0
    while not reply.is_complete and size < REPLY_BYTES_MAX:
        data = await reader.read(READ_BYTES)
        if not data:
            break
        size += len(data)
        # What stands behind a whole reply is none of ours: the parser refuses it after it has told of the end.
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    if not reply.has_head:
        raise ConnectionError("the connection ended without a reply")
    return Answer(parser.get_status_code(), reply.server, b"".join(reply.body))


class _Reply:
    """What the parser tells of a reply."""

    def __init__(self) -> None:
        self.server = ""
        self.body: list[bytes] = []
        self.has_head = False
        self.is_complete = False

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else "head" if self.has_head else "empty"
        return f"<_Reply {state} {sum(map(len, self.body))} bytes>"

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server":
            self.server = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = True
