"""Counts text by the backend's own tokenizer, over the same connections as its requests, within a time limit."""

import asyncio
from uuid import UUID

import msgspec

from billing.directory.caller import Target
from billing.errors import Unavailable
from billing.gateway.forward import destination, request_head
from billing.gateway.ports import Exchange, Upstream

TEXT_BYTES_MAX = 4 * 1024 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024


class _Tokens(msgspec.Struct, frozen=True):
    """llama.cpp's reply to ``POST /tokenize``: one member for each token."""

    tokens: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Tokens).decode


class BackendTokenizer:
    """``POST <path> {"content": text}`` at the backend that gave the answer (llama.cpp 0c1e57098)."""

    def __init__(self, upstream: Upstream, *, timeout_s: float) -> None:
        self._upstream = upstream
        self._timeout_s = timeout_s
        self.failures = 0

    def __repr__(self) -> str:
        return f"<BackendTokenizer failures={self.failures}>"

    async def count(self, target: Target, path: str, text: str) -> int | None:
        """Tokens of a text; None, counted, when it is too long or the backend did not answer well and in time."""
        body = msgspec.json.encode({"content": text})
        if len(body) > TEXT_BYTES_MAX:
            self.failures += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._ask(target, path, body)
                return len(_decode(reply).tokens)
        except (TimeoutError, Unavailable, msgspec.DecodeError):
            self.failures += 1
            return None

    async def _ask(self, target: Target, path: str, body: bytes) -> bytes:
        place = destination(target.backend.url)
        head = request_head(
            place, path, len(body), {}, request_id=str(UUID(int=0)), credential=target.backend.credential
        )
        reply = await self._upstream.send(place, head, body, _nobody_watches)
        try:
            pieces, size = [], 0
            while (piece := await reply.read()) and size <= REPLY_BYTES_MAX:
                pieces.append(piece)
                size += len(piece)
            return b"".join(pieces)
        finally:
            reply.close()


def _nobody_watches(_exchange: Exchange) -> None:
    """Nobody can hang up on a count: its time limit ends it."""
