"""Counts text within a time limit: by the backend's own tokenizer, over the same connections as its requests, or here."""

import asyncio
from typing import Protocol
from uuid import UUID

import msgspec

from billing.directory.caller import Target
from billing.errors import Unavailable
from billing.gateway.forward import destination, request_head
from billing.gateway.ports import Exchange, Upstream
from billing.tokens.engines import Tokenize

TEXT_BYTES_MAX = 4 * 1024 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_number = msgspec.json.Decoder(int).decode


def tokens_in(reply: bytes, how: Tokenize) -> int:
    """The number of tokens that an engine's reply holds; raises ``msgspec.DecodeError`` when it holds none."""
    if how.count_member is None and how.list_member is None:
        return len(_list(reply))
    member = _members(reply).get(how.count_member or how.list_member or "", msgspec.Raw(b"null"))
    return _number(member) if how.count_member is not None else len(_list(member))


class Vocabularies(Protocol):
    """Counts text by vocabularies of this process, off its event loop (``billing.infra.tokenizers``)."""

    async def count(self, name: str, text: str) -> int | None:
        """Tokens of a text; None when it cannot be counted."""


class Tokenizers:
    """Asks the backend that gave the answer, each kind in its own way (``billing.tokens.engines``), or a vocabulary."""

    def __init__(self, upstream: Upstream, vocabularies: Vocabularies, *, timeout_s: float) -> None:
        self._upstream = upstream
        self._vocabularies = vocabularies
        self._timeout_s = timeout_s
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Tokenizers failures={self.failures}>"

    async def count_here(self, vocabulary: str, text: str) -> int | None:
        """Tokens of a text; None, counted, when there is no such vocabulary, or it did not count in time.

        One that is loaded for the first time may take longer than that: it goes on being loaded, for the next text.
        """
        tokens = None
        try:
            async with asyncio.timeout(self._timeout_s):
                tokens = await self._vocabularies.count(vocabulary, text)
        # A text that a library cannot take, or its threads that have ended at a stop: the request ends as well without.
        except (TimeoutError, ValueError, RuntimeError):
            tokens = None
        self.failures += tokens is None
        return tokens

    async def count(self, target: Target, how: Tokenize, text: str) -> int | None:
        """Tokens of a text; None, counted, when it is too long or the backend did not answer well and in time."""
        asked = {how.text_member: text}
        if how.wants_model:
            asked["model"] = target.deployment.backend_model
        body = msgspec.json.encode(asked)
        if len(body) > TEXT_BYTES_MAX:
            self.failures += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._ask(target, how.path, body)
                return tokens_in(reply, how)
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
