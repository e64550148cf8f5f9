"""The demo's traffic: what real users do, with the official client, and what goes wrong in real life."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import openai

CHUNKS_BEFORE_HANG_UP = 10
CHUNKS_BEFORE_KILL = 250
"""Far enough into the slow model's 350 tokens for a progress entry, and as far from its end."""
REPEATS = 3
HANG_UPS = 3
OVER_LIMIT_MAX = 20
MILLISECONDS_PER_SECOND = 1_000
PROMPT = [
    {"role": "system", "content": "You answer in one paragraph."},
    {"role": "user", "content": "How are the tokens of an answer counted?"},
]
COMPLETION_TOKENS = 53
GOLDEN = "golden"
SLOW = "slow"
EMBEDDINGS = "golden-embeddings"
"""Public model names, as the demo registers them."""


class Sent(msgspec.Struct, frozen=True):
    """A request that was admitted: what it was and its usage id."""

    what: str
    usage_id: UUID


class Traffic:
    """Sends requests through the gateway; remembers what must be on record and what surprised it."""

    def __init__(self, base_url: str, api_key: str, show: Callable[[str], None]) -> None:
        self._base_url = base_url
        self._client = openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=api_key, max_retries=0)
        self._api_key = api_key
        self._show = show
        self.sent: list[Sent] = []
        self.surprises: list[str] = []

    def __repr__(self) -> str:
        return f"<Traffic {len(self.sent)} sent, {len(self.surprises)} surprises>"

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def finished(self) -> None:
        """Requests that end as they should: chat, completions and embeddings, streamed and not."""
        for _ in range(REPEATS):
            await self._chat()
            await self._chat_stream(usage=True)
            await self._chat_stream(usage=False)
            await self._completion(stream=False)
            await self._completion(stream=True)
            await self._embedding()
        self._show(f"  {len(self.sent)} requests finished: chat, completions, embeddings, streamed and not")

    async def refused(self) -> None:
        """A wrong key and an unknown model: told apart, and not on record."""
        stranger = openai.AsyncOpenAI(base_url=f"{self._base_url}/v1", api_key="sk-wrong", max_retries=0)
        async with stranger:
            await self._refused(stranger, GOLDEN, 401)
        await self._refused(self._client, "no-such-model", 404)

    async def limited(self) -> None:
        """Requests until one is over the limit; then the wait that it was told, exactly, and the next is served."""
        for _ in range(OVER_LIMIT_MAX):
            try:
                await self._chat()
            except openai.RateLimitError as fault:
                wait_s = int(fault.response.headers["retry-after-ms"]) / MILLISECONDS_PER_SECOND
                self._show(f"  {fault.status_code} {fault.body}")
                self._show(f"  waited {wait_s:.3f} s as Retry-After said; the next request is served")
                await asyncio.sleep(wait_s)
                await self._chat()
                return
        self.surprises.append(f"{OVER_LIMIT_MAX} requests at once stayed within the limit")

    async def hang_ups(self) -> list[Sent]:
        """Streams of the slow model that the client leaves after a few chunks."""
        first = len(self.sent)
        for _ in range(HANG_UPS):
            usage_id, stream = await self._open_stream(self._client, SLOW, usage=False)
            self._sent(f"chat on {SLOW}, hung up after {CHUNKS_BEFORE_HANG_UP} chunks", usage_id)
            seen = 0
            async for _ in stream:
                seen += 1
                if seen == CHUNKS_BEFORE_HANG_UP:
                    break
            await stream.close()
        self._show(f"  {HANG_UPS} streams hung up after {CHUNKS_BEFORE_HANG_UP} chunks")
        return self.sent[first:]

    async def killed(self) -> Sent:
        """A stream whose gateway worker is killed with -9 in the middle of it."""
        one = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
        async with openai.AsyncOpenAI(
            base_url=f"{self._base_url}/v1",
            api_key=self._api_key,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpx2Client(limits=one),
        ) as client:
            # One connection only: the worker that answers this serves the stream as well.
            health = await client._client.get(f"{self._base_url}/healthz")  # noqa: SLF001 - the client's own connection
            worker = health.json()["worker"]
            usage_id, stream = await self._open_stream(client, SLOW, usage=False)
            self._sent(f"chat on {SLOW}, worker {worker} killed with -9", usage_id)
            seen = 0
            try:
                async for _ in stream:
                    seen += 1
                    if seen == CHUNKS_BEFORE_KILL:
                        os.kill(worker, signal.SIGKILL)
            except (openai.APIError, httpx2.HTTPError) as fault:
                self._show(
                    f"  worker {worker} killed with -9 after {seen} chunks; the client saw: {type(fault).__name__}"
                )
            else:
                self.surprises.append(f"the stream ended after {seen} chunks although its worker was killed")
        return self.sent[-1]

    async def _chat(self) -> None:
        raw = await self._client.chat.completions.with_raw_response.create(model=GOLDEN, messages=PROMPT)  # type: ignore[arg-type]  # plain dicts
        self._sent("chat", _usage_id(raw))
        usage = raw.parse().usage
        self._expect("chat", COMPLETION_TOKENS, usage.completion_tokens if usage else None)

    async def _chat_stream(self, *, usage: bool) -> None:
        usage_id, stream = await self._open_stream(self._client, GOLDEN, usage=usage)
        what = f"chat, streamed, {'with' if usage else 'without'} include_usage"
        self._sent(what, usage_id)
        reported = [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]
        self._expect(what, [COMPLETION_TOKENS] if usage else [], reported)

    async def _completion(self, *, stream: bool) -> None:
        what = f"completion{', streamed' if stream else ''}"
        raw = await self._client.completions.with_raw_response.create(
            model=GOLDEN, prompt="Counting tokens", max_tokens=200, stream=stream
        )
        self._sent(what, _usage_id(raw))
        parsed: Any = raw.parse()
        if stream:
            async for _ in parsed:
                pass
        else:
            self._expect(what, COMPLETION_TOKENS, parsed.usage.completion_tokens)

    async def _embedding(self) -> None:
        raw = await self._client.embeddings.with_raw_response.create(
            model=EMBEDDINGS, input=["How many tokens?", "A second text."], encoding_format="float"
        )
        self._sent("embeddings", _usage_id(raw))
        self._expect("embeddings", 2, len(raw.parse().data))

    async def _refused(self, client: openai.AsyncOpenAI, model: str, status: int) -> None:
        try:
            await client.chat.completions.create(model=model, messages=PROMPT)  # type: ignore[arg-type]  # plain dicts
        except openai.APIStatusError as fault:
            self._show(f"  {fault.status_code} {fault.body}")
            self._expect("refusal", status, fault.status_code)
        else:
            self.surprises.append(
                f"model {model} was served though it should have been refused with {status}"
            )

    async def _open_stream(self, client: openai.AsyncOpenAI, model: str, *, usage: bool) -> tuple[UUID, Any]:
        options: Any = {"include_usage": True} if usage else openai.omit
        raw = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=PROMPT,  # type: ignore[arg-type]  # plain dicts
            stream=True,
            stream_options=options,
        )
        return _usage_id(raw), raw.parse()

    def _sent(self, what: str, usage_id: UUID) -> None:
        self.sent.append(Sent(what, usage_id))

    def _expect(self, what: str, expected: object, got: object) -> None:
        if expected != got:
            self.surprises.append(f"{what}: expected {expected}, the client saw {got}")


def _usage_id(raw: Any) -> UUID:
    return UUID(raw.headers["x-request-id"])
