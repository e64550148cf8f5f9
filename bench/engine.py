"""A scripted model server that costs almost nothing: what it says is made once and written many times.

    python -m bench.engine --socket-fd N

``GET`` anything: an empty 200, as routers want it of whoever is healthy. ``POST`` anything: a whole chat completion of
1 kB, or with ``stream`` as many events as ``max_tokens`` says, of about 245 bytes each. ``pace_ms`` 0 writes them at once ("fast"); otherwise each is a write of its own after that many
milliseconds ("paced"), as engines send them. Usage is reported as vLLM does when asked (``include_usage``,
``continuous_usage_stats``), and llama.cpp's ``timings`` on ``timings_per_token``.
"""

import argparse
import asyncio
import gc
import socket
from functools import lru_cache
from typing import Any

import httptools
import msgspec
import uvloop

PROMPT_TOKENS = 512
EVENT_BYTES = 245
REPLY_BYTES = 1024
TOKENS_MAX = 10_000
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class StreamOptions(msgspec.Struct, frozen=True):
    """vLLM's."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Ask(msgspec.Struct, frozen=True):
    """What a request says that matters here."""

    stream: bool = False
    max_tokens: int = 53
    pace_ms: int = 0
    stream_options: StreamOptions = StreamOptions()
    timings_per_token: bool = False


class Script(msgspec.Struct, frozen=True):
    """The writes of one stream: its events, the first with the head, and what follows the last one."""

    events: list[bytes]
    ending: bytes


_decode = msgspec.json.Decoder(Ask).decode


def usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + tokens,
        "completion_tokens": tokens,
    }


def timings(tokens: int) -> dict[str, float]:
    return {
        "cache_n": 0,
        "prompt_n": PROMPT_TOKENS,
        "prompt_ms": 12.5,
        "prompt_per_token_ms": 0.024,
        "prompt_per_second": 40960.0,
        "predicted_n": tokens,
        "predicted_ms": tokens * 5.0,
        "predicted_per_token_ms": 5.0,
        "predicted_per_second": 200.0,
    }


@lru_cache
def whole_reply(tokens: int) -> bytes:
    """A chat completion of 1 kB, with its head."""
    body = _filled(
        lambda text: {
            "id": "chatcmpl-a206e812aef6bb04",
            "object": "chat.completion",
            "created": 1795488566,
            "model": "bench",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            ],
            "usage": usage(tokens),
        },
        REPLY_BYTES,
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@lru_cache
def script(tokens: int, options: StreamOptions, with_timings: bool) -> Script:
    """A stream of ``tokens`` events of one token each."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    events = [_event(number, tokens, options, with_timings) for number in range(1, tokens + 1)]
    last = [b"data: [DONE]\n\n"]
    if options.include_usage:
        last.insert(0, _framed({"choices": [], **_envelope(), "usage": usage(tokens)}))
    return Script([head + events[0], *events[1:]], b"".join(map(_chunk, last)) + b"0\r\n\r\n")


def _event(number: int, tokens: int, options: StreamOptions, with_timings: bool) -> bytes:
    reason = "stop" if number == tokens else None

    def chunk(text: str) -> dict[str, Any]:
        delta = {"role": "assistant", "content": text} if number == 1 else {"content": text}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**_envelope(), "choices": [choice]}

    event: dict[str, Any] = msgspec.json.decode(_filled(chunk, EVENT_BYTES - len(b"data: \n\n")))
    if options.continuous_usage_stats:
        event["usage"] = usage(number)
    if with_timings:
        event["timings"] = timings(number)
    return _chunk(_framed(event))


def _envelope() -> dict[str, Any]:
    return {
        "id": "chatcmpl-a206e812aef6bb04",
        "object": "chat.completion.chunk",
        "created": 1795488566,
        "model": "bench",
    }


def _filled(make: Any, size: int) -> bytes:
    """JSON of a text just so long that the whole has ``size`` bytes."""
    empty = len(msgspec.json.encode(make("")))
    return msgspec.json.encode(make(("lorem " * size)[: size - empty]))


def _framed(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Connection(asyncio.Protocol):
    """One client connection: a request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._body: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        # The parser looks for its callbacks when it is made.
        self.on_body = self._body.append
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport: Any = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone: its stream ends."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is whole: answer it."""
        if self._parser.get_method() == b"GET":
            self._transport.write(HEALTHY)
            return
        ask = _decode(b"".join(self._body))
        self._body.clear()
        tokens = min(max(ask.max_tokens, 1), TOKENS_MAX)
        if not ask.stream:
            self._transport.write(whole_reply(tokens))
            return
        plan = script(tokens, ask.stream_options, ask.timings_per_token)
        if ask.pace_ms:
            self._pace(plan, 0, ask.pace_ms / 1000, self._loop.time())
        else:
            self._transport.writelines([*plan.events, plan.ending])

    def _pace(self, plan: Script, number: int, pace_s: float, due: float) -> None:
        self._transport.write(plan.events[number])
        if number + 1 < len(plan.events):
            due += pace_s
            self._timer = self._loop.call_at(due, self._pace, plan, number + 1, pace_s, due)
        else:
            self._transport.write(plan.ending)


async def serve(listener: socket.socket) -> None:
    """Answer until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--socket-fd", type=int, required=True)
    # A collection would show up as a gap in somebody's stream.
    gc.disable()
    with socket.socket(fileno=arguments.parse_args().socket_fd) as listener:
        uvloop.run(serve(listener))


if __name__ == "__main__":
    main()
