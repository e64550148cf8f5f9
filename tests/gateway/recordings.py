"""The recorded exchanges of ``tests/captures``, as values: what the client sent, and the engine's reply."""

from pathlib import Path
from typing import NamedTuple

from billing.gateway.ports import Headers

CAPTURES = Path(__file__).parents[1] / "captures"


class Recording(NamedTuple):
    """A recorded exchange: what the client sent and the engine's reply, body without its chunks."""

    path: str
    request: bytes
    status: int
    headers: Headers
    body: bytes


def recording(engine: str, name: str) -> Recording:
    """A recording of ``tests/captures``; ``engine`` is its folder."""
    folder = CAPTURES / engine
    head, _, body = (folder / f"{name}.response.txt").read_bytes().strip(b"\r\n").partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines[1:]]
    asked = folder / f"{name}.request.txt"
    first, _, request = (asked.read_bytes() if asked.exists() else b"POST \n").partition(b"\n")
    return Recording(
        path=first.split(b" ")[1].decode(),
        request=request.strip(),
        status=int(lines[0].split(b" ")[1]),
        headers=[(name.lower(), value.strip()) for name, value in pairs],
        body=_without_chunks(body) if "abort" in name else _ended(body),
    )


def _ended(body: bytes) -> bytes:
    """The body as it was: an event stream ends with a blank line."""
    return body.rstrip(b"\n") + b"\n\n" if body.startswith(b"data:") else body


def _without_chunks(body: bytes) -> bytes:
    """The data of whole chunks, up to where the recording breaks off."""
    data, rest = b"", body
    while rest.strip():
        size, _, rest = rest.partition(b"\r\n")
        data, rest = data + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return data.rstrip(b"\n") + b"\n\n"
